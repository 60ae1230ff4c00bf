//! Compiles the one peer that must be C: `sigsetjmp`.

fn main() {
    println!("cargo::rerun-if-changed=src/peers/guarded.c");
    cc::Build::new().file("src/peers/guarded.c").opt_level(2).warnings(true).compile("faultin_bench_guarded");
}
