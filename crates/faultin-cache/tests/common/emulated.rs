//! Whether an emulator of user mode stands between us and the kernel.

use std::fmt::Display;
use std::io::Write;
use std::process::Command;

/// It has no `process_vm_readv`.
pub fn is_emulated() -> bool {
    let (mut from, mut to) = (1_u8, 0_u8);
    let remote = libc::iovec { iov_base: (&raw mut from).cast(), iov_len: 1 };
    let local = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
    // SAFETY: a copy from one local variable to another.
    unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) != 1 }
}

/// This test binary once more: started by the system, or by cargo's runner for the target where the system cannot.
pub fn once_more() -> Command {
    let this = std::env::current_exe().expect("this program has a name");
    let runner = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", std::env::consts::ARCH.to_uppercase());
    let Ok(runner) = std::env::var(runner) else { return Command::new(this) };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().expect("a runner is a command"));
    command.args(words).arg(this);
    command
}

/// Says what this environment lacks.
pub fn skipped(missing: impl Display) {
    writeln!(std::io::stderr(), "skipped: {missing}").expect("stderr can be written");
}
