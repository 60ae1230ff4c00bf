# packages: xfsprogs
# XFS, nearly full: a page can be allocated, and a store still fails. Never "unknown".
need mkfs.xfs
disk xfs mkfs.xfs -q -f
# The name takes space as well.
: >"$M/f"
full
head -c 1m /dev/zero >>"$M/fill" 2>/dev/null
died=0
for spare in 4k 8k 16k 20k 24k 32k; do
    truncate -s 0 "$M/f"; head -c 1m /dev/zero >>"$M/fill" 2>/dev/null; sync
    truncate -s "-$spare" "$M/fill"; sync
    timeout 60 $G -- "$P/writer" "$M/f" 4000000 1 >"$W/said" 2>&1
    [ $? -eq 135 ] || continue
    died=$((died + 1))
    says "no space left"
done
[ $died -gt 0 ] || fail "no run has died"
# Space for the file's name, and little more.
truncate -s 0 "$M/f"; truncate -s -64k "$M/fill"; sync
later "rm -f '$M/fill'"
ends 0 $G --wait-space=60s -- "$P/writer" "$M/f" 4000000 4
says bad=0
wait; umount "$M"
