# packages: strace gdb
# What needs ptrace itself: strace and gdb say so, --except lets them run; a guard in a guard runs without.
need strace gdb
ends 1 $G -- strace -o /dev/null true
says "Operation not permitted" "hint: strace[" "cannot trace programs in a guard" "--except strace"
ends 1 $G -- gdb -batch -ex run true
says "Operation not permitted" "hint: gdb[" "--except gdb"
ends 0 $G --except strace -- strace -o "$W/trace" true
[ -s "$W/trace" ] || fail "strace has traced nothing"
silent
timeout 60 $G --except gdb -- gdb -batch -ex run true >"$W/said" 2>&1 </dev/null
says "exited normally"
ends 0 $G -- $G -- true
says "without a guard"
# A setuid program loses its privileges under a guard without them, and keeps them under a root guard.
need setpriv
cp "$(command -v id)" "$W/id"; chmod 4755 "$W/id"; chmod 755 "$W"
as="setpriv --reuid=65534 --regid=65534 --clear-groups"
ends 0 $as "$W/id" -u; says 0
ends 0 $as $G -- "$W/id" -u; says 65534
ends 0 $G -- $as "$W/id" -u; lines 0 1
