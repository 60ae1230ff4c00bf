# What a guard costs: guarded over plain, medians of nine pairs that alternate. The machine may be busy: CPU time is what is
# compared with a bound, and the bounds here are loose.
below() { awk -v value="$1" -v bound="$2" 'BEGIN { exit !(value < bound) }' || fail "$3: $1, and at most $2 was expected"; }
pairs() {
    name=$1 bound=$2; shift 2
    timeout 500 "$P/cost" pairs 9 $G -- "$@" >"$W/said" 2>&1 || fail "$name"
    echo "$name: $(cat "$W/said")"
    below "$(cut -d' ' -f2 "$W/said")" "$bound" "$name"
}
uptime
tmpfs 1500m
timeout 60 "$P/cost" faults "$M/c" >"$W/said"; echo "faults without a guard: $(cat "$W/said")"
ends 0 $G -- "$P/cost" faults "$M/c"; echo "faults with a guard: $(cat "$W/said")"
pairs "1000 forks and programs" 2 sh -c 'i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i + 1)); done'
if command -v cargo >/dev/null; then
    mkdir -p "$M/crate/src"
    printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2024"\n[workspace]\n' >"$M/crate/Cargo.toml"
    for i in $(seq 40); do printf 'pub fn f%d(x: &str) -> String { x.chars().rev().map(|c| format!("{c}{}", %d)).collect() }\n' "$i" "$i"; done >"$M/crate/src/lib.rs"
    printf 'fn main() { println!("{}", small::f1("x")); }\n' >"$M/crate/src/main.rs"
    pairs "cargo build of a small crate" 1.3 sh -c "rm -rf '$M/target'; exec cargo build --quiet --offline --manifest-path '$M/crate/Cargo.toml' --target-dir '$M/target'"
fi
mkdir "$M/c.d"
for i in $(seq 30); do printf '#include <stdio.h>\n#include <stdlib.h>\nint f%d(int x) { printf("%%d", x); return x * %d; }\n' "$i" "$i" >"$M/c.d/$i.c"; done
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\tcc -O2 -c $< -o $@\n' >"$M/c.d/Makefile"
pairs "make -j2 of 30 files" 1.3 make -B -s -j2 -C "$M/c.d"
head -c 1024m /dev/zero >"$M/data"
pairs "hash of 1 GiB" 1.3 ${G% guard} sum "$M/data"
# Memory of the guard itself, after ten thousand faults.
$G -- sh -c "\"$P/cost\" faults \"$M/c\"; \"$P/cost\" faults \"$M/c\"; grep VmHWM /proc/\$PPID/status" >"$W/said"
grep VmHWM "$W/said"
kib=$(grep VmHWM "$W/said" | tr -dc 0-9)
[ "$kib" -lt 16384 ] || fail "the guard uses $kib KiB"
if command -v javac >/dev/null && [ -e "$W/../11-jvm/MB.java" ] && javac -d "$W" "$W/../11-jvm/MB.java"; then
    tmpfs 1m
    pairs "JVM that recovers from 2,800 faults" 2.5 java -Xint -cp "$W" MB "$M/f"
fi
uptime
umount "$M"
