//! Runs examples as programs for tests.

use std::path::PathBuf;
use std::process::Command;

use faultin_test::processes::target;

/// Builds an example of this test's package, for the same target, and returns its path.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/…");
    let mut folder = profile.parent().expect("target/debug");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--offline", "--quiet", "--example", name]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if folder.ends_with(target()) {
        build.args(["--target", &target()]);
        folder = folder.parent().expect("target/TRIPLE");
    }
    let output = build.arg("--target-dir").arg(folder).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    profile.join("examples").join(name)
}
