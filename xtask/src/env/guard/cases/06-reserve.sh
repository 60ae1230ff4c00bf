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
# A program that changes its user while it is held: from then on the answer is for the new one. The reserve is for that one here.
mkfs.ext4 -q -F -m 5 "$W/disk"
mount -o loop,resuid=65534 "$W/disk" "$M" || fail mount
less="setpriv --bounding-set=-sys_resource"
$less head -c 2000m /dev/zero >"$M/fill" 2>/dev/null; sync
ends 135 $G --wait-space=3s -- $less "$P/hostile" changes "$M/f" 0
says "setuid: ok" "no space left on $M" "its limit is reached"
ends 135 $less "$P/hostile" changes "$M/f" 0
ends 0 $G --wait-space=60s -- $less "$P/hostile" changes "$M/f" 65534
says "waits for" "setuid: ok" filled
umount "$M"
