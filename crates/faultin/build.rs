//! Sets `faultin_portable` where there is a standard library and no Linux: the crate is then its file API over positioned reads.
//!
//! One name in the code for "another system", which tests on Linux set themselves (`RUSTFLAGS="--cfg faultin_portable"`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let asked = |name: &str| std::env::var(name).unwrap_or_default();
    if std::env::var_os("CARGO_FEATURE_STD").is_some() && asked("CARGO_CFG_TARGET_OS") != "linux" {
        println!("cargo::rustc-cfg=faultin_portable");
    }
}
