//! Tells the files that this crate shares with others that they are to be explored: `cfg(faultin_loom)`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=faultin_loom");
}
