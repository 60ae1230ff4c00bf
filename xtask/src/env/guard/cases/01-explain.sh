# A full tmpfs is explained; signal and core file are the program's own.
tmpfs 1m
ends 135 "$P/writer" "$M/f" 4000000 1
ends 135 $G -- "$P/writer" "$M/f" 4000000 1
lines "writer[" 1
says "store at byte 1048576 of $M/f" "no space left on $M" "hint:"
[ "$(cat /proc/sys/kernel/core_pattern)" = core ] || exit 0
cd "$W" && rm -f core* && ulimit -c unlimited
ends 135 $G -- "$P/writer" "$M/f" 4000000 1
ls core* >/dev/null 2>&1 || fail "there is no core file"
