//! `follow.c`: a log that is truncated while it is printed, and rotated.

use std::fs::{File, rename, write};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::kit::{kit, text};

/// A follower, and what it has printed so far.
struct Follower {
    child: Child,
    output: ChildStdout,
    printed: Vec<u8>,
}

impl Follower {
    /// Starts a follower of a log that is longer than a pipe is, and waits until it has printed some of it. It has to wait now.
    fn start(mut program: Command, log: &Path) -> Follower {
        let lines: String = (0..80_000).map(|line| format!("line {line:9}\n")).collect();
        write(log, lines).unwrap();
        let mut child = program.arg(log).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let mut follower = Follower { child, output, printed: Vec::new() };
        follower.read();
        follower
    }

    /// Reads something. Returns whether there is more to come.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 65536];
        let len = self.output.read(&mut bytes).unwrap();
        self.printed.extend_from_slice(&bytes[..len]);
        len > 0
    }

    /// Reads until these bytes are the last.
    fn reads_up_to(&mut self, bytes: &str) {
        while !self.printed.ends_with(bytes.as_bytes()) {
            assert!(self.read(), "{:?} was not printed", bytes);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_is_truncated_and_rotated_is_followed() {
    let Some(kit) = kit() else { return };
    let [ours, naive] = kit.twins("follow");
    let log = kit.path("log");
    let append = |path: &Path, line: &str| {
        File::options().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    };

    let mut follower = Follower::start(kit.command(ours), &log);
    write(&log, "after the cut\n").unwrap();
    follower.reads_up_to("after the cut\n");
    let printed = follower.printed.len() - "after the cut\n".len();
    append(&log, "appended\n");
    follower.reads_up_to("after the cut\nappended\n");
    // The last line of the old log is not lost.
    let old = kit.path("log.1");
    rename(&log, &old).unwrap();
    append(&old, "the last one\n");
    write(&log, "rotated\n").unwrap();
    follower.reads_up_to("appended\nthe last one\nrotated\n");
    // SAFETY: our child, which has not been waited for.
    unsafe { libc::kill(follower.child.id().cast_signed(), libc::SIGTERM) };
    let mut said = Vec::new();
    follower.child.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    let status = follower.child.wait().unwrap();
    // (The second size is 0 if it looked before the new line was written.)
    let cut = ["log was cut: 1200000 bytes, then ".to_owned(), format!("; printed {printed} of it\n")];
    assert!(
        status.success() && cut.iter().all(|part| text(&said).contains(part)),
        "{status}, {cut:?}\n{}",
        text(&said)
    );
    assert!(text(&said).contains("log is another file now\n"), "{}", text(&said));

    let mut follower = Follower::start(kit.command(naive), &log);
    File::create(&log).unwrap();
    while follower.read() {}
    assert_eq!(follower.child.wait().unwrap().signal(), Some(libc::SIGBUS));
}
