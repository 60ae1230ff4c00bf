# A file server that is guarded itself, an I/O error that heals, and a storm of signals meanwhile.
[ -e /dev/fuse ] || skip "fuse: /dev/fuse"
head -c 1m /dev/zero | tr '\0' a >"$W/data"
cat >"$W/both.sh" <<'S'
sleep 1000 | "$XTASK" serve "$M" data="$W/data" & server=$!
for i in $(seq 100); do [ -e "$M/control" ] && break; sleep 0.05; done
echo "eio data 65536 65536" >"$M/control"
[ "$HEAL" = never ] || (sleep "$HEAL"; echo heal >"$M/control") &
"$P/mapsum" "$M/data" & reader=$!
for i in $(seq 200); do kill -CONT $reader $server 2>/dev/null; sleep 0.005; done
wait $reader; status=$?
echo die >"$M/control" 2>/dev/null; pkill -P $$ sleep
exit $status
S
export XTASK M W P
HEAL=never; export HEAL
ends 135 $G -- sh "$W/both.sh"
says "load at byte 65536 of $M/data" "Input/output error"
umount -l "$M" 2>/dev/null
HEAL=1; export HEAL
ends 0 $G --retry=20 -- sh "$W/both.sh"
says "sum=101711872" "tries up to"
umount -l "$M" 2>/dev/null
true
