//! Compiles the one peer that only C can be: `sigsetjmp`.

fn main() {
    println!("cargo::rerun-if-changed=src/bench/peers/guarded.c");
    cc::Build::new().file("src/bench/peers/guarded.c").opt_level(2).warnings(true).compile("faultin_bench_guarded");
}
