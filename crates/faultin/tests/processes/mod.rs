//! What tests that start processes share.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// The target these tests were built for.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Runs `exe`, a program for [`target`]: itself, or with cargo's runner where the system cannot.
pub fn run(exe: impl AsRef<OsStr>) -> Command {
    let variable = format!("CARGO_TARGET_{}_RUNNER", target().to_uppercase().replace('-', "_"));
    let Ok(runner) = std::env::var(variable) else { return Command::new(exe) };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner is a command"));
    command.args(words).arg(exe);
    command
}

/// Builds an example of the package beside this test, for the same target.
pub fn example(name: &str) -> PathBuf {
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

/// Says what this machine lacks, past the harness that keeps what a passing test prints.
pub fn skipped(missing: impl core::fmt::Display) {
    writeln!(std::io::stderr(), "skipped: {missing}").expect("stderr can be written");
}
