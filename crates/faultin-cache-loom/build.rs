//! Sets `cfg(faultin_loom)` for the files that this crate shares with others: they are explored.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=faultin_loom");
}
