# What the cases share. $G is the guard, $W a folder of the case, $P the small programs, $XTASK this command.
# A case ends with 0 if everything is as it should be, with 77 and a line "skip: NEED: WHY" if the machine lacks something.
set -u
M=$W/m
mkdir -p "$M"
fail() { echo "failed: $*" >&2; [ -f "$W/said" ] && cat "$W/said" >&2; exit 1; }
skip() { echo "skip: $*"; exit 77; }
need() { for command; do command -v "$command" >/dev/null || skip "$command: not installed"; done; }
# ends CODE COMMAND…: both streams go to $W/said, a new file: what outlives the command before may still write to the old one.
# The exit status must be CODE.
ends() {
    code=$1; shift
    rm -f "$W/said"
    timeout --kill-after=5 90 "$@" >"$W/said" 2>&1 </dev/null
    status=$?
    [ $status -eq "$code" ] || fail "$* ended with $status instead of $code"
}
says() { for text; do grep -qF -- "$text" "$W/said" || fail "it does not say: $text"; done; }
silent() { ! grep -q 'faultin guard' "$W/said" || fail "the guard says something"; }
lines() { [ "$(grep -cF -- "$1" "$W/said")" -eq "$2" ] || fail "$2 lines with $1 were expected"; }
tmpfs() { mountpoint -q "$M" && umount "$M"; mount -t tmpfs -o "size=$1" t "$M" || fail "mount"; }
# later COMMAND: runs it when the guard has said that a program waits, and a little more than its period has passed.
later() {
    rm -f "$W/said"
    (for i in $(seq 800); do grep -q 'waits for' "$W/said" 2>/dev/null && break; sleep 0.1; done; sleep 0.3; eval "$1") &
}
# more SIZE: makes the tmpfs larger, later.
more() { later "mount -o remount,size=$1 '$M'"; }
# disk TYPE MKFS…: a file system of 300 MiB in a file, filled up to 1 MiB.
disk() {
    mountpoint -q "$M" && umount "$M"
    kind=$1; shift
    rm -f "$W/disk"; truncate -s 300m "$W/disk"
    "$@" "$W/disk" >/dev/null 2>&1 || skip "$kind: $1 fails"
    mount -o loop "$W/disk" "$M" 2>/dev/null || skip "$kind: it cannot be mounted"
}
full() {
    # A size that is no multiple of a large block: no block is left.
    head -c 2000m /dev/zero >"$M/fill" 2>/dev/null
    sync; truncate -s -1m "$M/fill"; sync
}
