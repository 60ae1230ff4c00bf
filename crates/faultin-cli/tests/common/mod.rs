//! The command under test.

use std::io::Write;
use std::process::{Child, Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// `faultin`.
#[allow(dead_code)] // not by every test binary
pub fn faultin() -> Command {
    faultin_test::processes::run(env!("CARGO_BIN_EXE_faultin"))
}

/// Writes `input` to a child's standard input if that is a pipe, closes it, and waits for the child.
///
/// # Panics
/// If the child does not end in time.
#[allow(dead_code)] // not by every test binary
pub fn ended(mut child: Child, input: &[u8]) -> Output {
    let (id, stdin, input) = (child.id(), child.stdin.take(), input.to_vec());
    // The child may end before it has read everything.
    let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(Duration::from_secs(30)) else {
        // SAFETY: `kill` touches no memory; the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(id as libc::pid_t, libc::SIGKILL) };
        panic!("the command hangs");
    };
    let _ = writer.join().expect("the writer does not panic");
    output.expect("the child can be waited for")
}
