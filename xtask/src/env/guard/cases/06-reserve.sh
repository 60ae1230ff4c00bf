# A root guard does not use up what ext4 reserves for root, when the program is another user's.
need mkfs.ext4 setpriv
disk ext4 mkfs.ext4 -q -F -m 5
chmod 777 "$M"
as="setpriv --reuid=65534 --regid=65534 --clear-groups"
$as head -c 2000m /dev/zero >"$M/fill" 2>/dev/null
chmod 666 "$M/fill"; sync
before=$(stat -f -c %f "$M")
ends 135 $G --wait-space=2s --report "$W/report" -- $as "$P/writer" "$M/f" 4000000 1
says "no space left on $M" "its limit is reached"
after=$(stat -f -c %f "$M")
[ $((before - after)) -lt 16 ] || fail "$((before - after)) reserved blocks were used"
[ "$(grep -c '"event":"fault"' "$W/report")" -lt 10 ] || fail "too many faults: $(grep -c . "$W/report")"
later "rm -f '$M/fill'"
ends 0 $G --wait-space=60s -- $as "$P/writer" "$M/f" 4000000 1
says bad=0
wait; umount "$M"
