//! Programs for the target that tests are built for, run as the system can.

use std::ffi::OsStr;
use std::process::Command;

/// The target these tests were built for.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Runs `exe`, a program for [`target`]: directly, or with cargo's runner where the system cannot run it.
pub fn run(exe: impl AsRef<OsStr>) -> Command {
    let variable = format!("CARGO_TARGET_{}_RUNNER", target().to_uppercase().replace('-', "_"));
    let Ok(runner) = std::env::var(variable) else { return Command::new(exe) };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner is a command"));
    command.args(words).arg(exe);
    command
}
