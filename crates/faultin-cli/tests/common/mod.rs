//! The command under test.

use std::ffi::OsStr;
use std::process::Command;

/// `faultin`.
#[allow(dead_code)] // not by every test binary
pub fn faultin() -> Command {
    program(env!("CARGO_BIN_EXE_faultin"))
}

/// A program of this build: started by the system, or by cargo's runner for the target where the system cannot.
pub fn program(exe: impl AsRef<OsStr>) -> Command {
    let exe = exe.as_ref();
    let runner = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase());
    let Ok(runner) = std::env::var(runner) else { return Command::new(exe) };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner is a command"));
    command.args(words).arg(exe);
    command
}
