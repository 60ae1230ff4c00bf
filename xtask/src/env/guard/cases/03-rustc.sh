# packages: xfsprogs btrfs-progs
# rustc and its linker on full disks: explained, and finished when there is space.
need rustc cc mkfs.ext4 mkfs.xfs mkfs.btrfs
printf 'fn main() { println!("hello"); }\n' >"$W/hello.rs"
export RUSTC_ICE=0
try() {
    if [ "$1" = tmpfs ]; then tmpfs 1m; else full; fi
    TMPDIR=$W ends 1 $G -- rustc -O -C link-arg=-fuse-ld=lld "$W/hello.rs" -o "$M/hello"
    grep -qE 'faultin guard: .*(lld|rust-lld).*store at byte .*no space left' "$W/said" || fail "$1: the linker is not named"
    # What the linker left takes the room that the compiler's own files need.
    find "$M" -mindepth 1 ! -name fill ! -name lost+found -delete
    if [ "$1" = tmpfs ]; then more 64m; else full; later "rm -f '$M/fill'"; fi
    TMPDIR=$W ends 0 $G --wait-space=60s -- rustc -O -C link-arg=-fuse-ld=lld "$W/hello.rs" -o "$M/hello"
    says "waits for up to" "goes on after"
    wait
    [ "$("$M/hello")" = hello ] || fail "$1: the program does not run"
    echo "$1: the linker is named, and waits for space"
    umount "$M"
}
rustc -O "$W/hello.rs" -o "$W/hello" 2>"$W/said" || skip "toolchain: rustc builds nothing"
try tmpfs
disk ext4 mkfs.ext4 -q -F -m 0; try ext4
disk xfs mkfs.xfs -q -f; try xfs
disk btrfs mkfs.btrfs -q -f; try btrfs
