# packages: b3sum ripgrep
# b3sum and ripgrep, 50 times each, with the file truncated at random times: they end with 74, or before it.
need b3sum rg
mount -t tmpfs -o size=600m t "$M" || fail mount
cut=0 whole=0
for turn in $(seq 50); do
    for command in "b3sum --num-threads 4" "rg --mmap -c nothing"; do
        head -c 128m /dev/zero | tr '\0' 'a' >"$M/f"
        (sleep "0.0$((turn % 10))"; truncate -s 100000 "$M/f") &
        timeout --kill-after=5 60 $G --zero -- $command "$M/f" >"$W/said" 2>&1 </dev/null
        status=$?
        wait
        case $status in
            74) cut=$((cut + 1)); says "zeros in place of" ;;
            0) whole=$((whole + 1)) ;;
            1) case $command in rg*) whole=$((whole + 1)) ;; *) fail "$command ended with 1" ;; esac ;;
            *) fail "$command ended with $status" ;;
        esac
    done
done
echo "$cut runs with zeros, $whole without"
[ "$cut" -gt 10 ] || fail "only $cut runs were truncated in time"
umount "$M"
# A process with a filter of system calls, under a guard that may suspend it: zeros, and never SIGSYS.
tmpfs 16m
for what in kill errno trap; do
    ends 74 $G --zero -- "$P/hostile" filters "$M/f" $what
    says "sum=0"
done
for time in $(seq 0 300 6000); do
    timeout 60 $G --zero -- "$P/hostile" truncates "$M/f" "$time" >"$W/said" 2>&1
    case $? in 0 | 74) says wrong=0 ;; *) fail "truncates $time" ;; esac
done
