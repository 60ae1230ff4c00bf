//! BLAKE3 488, as it was met: `b3sum` is at work on a file, and somebody truncates it. A hundred times with
//! `faultin sum`, each time surely in the middle: it is stopped while it has the file mapped, and goes on when the deed
//! is done.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Bytes of the file, nearly all of them a hole: long to hash, and quickly made.
const LEN: u64 = 100 << 20;

/// What is done to the file, and what is said of it.
type Deed = (fn(&Path), &'static str);

const DEEDS: &[Deed] = &[
    (|path| cut(path, 0), "the file was cut from 104857600 to 0 bytes"),
    (|path| cut(path, 5_000_001), "the file was cut from 104857600 to 5000001 bytes"),
    (|path| [0, LEN].into_iter().for_each(|len| cut(path, len)), "the file was rewritten"),
    (|path| cut(path, LEN + 1), "the file grew from 104857600 to 104857601 bytes"),
    (|path| open(path).write_all_at(b"other", 7).unwrap(), "the file was rewritten"),
    (|path| fs::remove_file(path).unwrap(), "the file was deleted"),
    (
        |path| {
            fs::write(path.with_extension("new"), "new").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        "another file took its place",
    ),
];

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn cut(path: &Path, len: u64) {
    open(path).set_len(len).unwrap();
}

/// A new file, the same each time.
fn file(path: &Path) {
    let _ = fs::remove_file(path);
    fs::write(path, "some bytes").unwrap();
    cut(path, LEN);
}

/// Stops the process while it has the file mapped. It runs no more, and the file is still mapped: it is in the middle.
/// `false` if it was too fast for that.
fn stopped_in_the_middle(child: &mut Child, path: &Path) -> bool {
    let has_it_mapped = |child: &Child| {
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap_or_default();
        maps.lines().any(|line| line.ends_with(path.to_str().unwrap()))
    };
    let patience = Instant::now() + Duration::from_secs(60);
    while !has_it_mapped(child) {
        assert!(Instant::now() < patience, "neither at work nor at its end");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
    }
    signal(child, libc::SIGSTOP);
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    while !matches!(stat().rsplit(") ").next().unwrap().as_bytes()[0], b'T' | b'Z') {
        std::thread::yield_now();
    }
    let middle = has_it_mapped(child);
    if !middle {
        signal(child, libc::SIGCONT);
    }
    middle
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: a child of ours, which nobody has waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

#[test]
fn blake3_488() {
    let folder = TempDir::new().unwrap();
    let (path, good) = (folder.path().canonicalize().unwrap().join("f"), folder.path().join("good"));
    fs::write(&good, "untouched").unwrap();
    let other = format!("{}  good\n", blake3::hash(b"untouched"));
    let (mut round, mut late) = (0, 0);
    while round < 100 {
        file(&path);
        let mut child = common::faultin()
            .args(["sum", "f", "good"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if !stopped_in_the_middle(&mut child, &path) {
            assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0), "nothing was done to it");
            late += 1;
            assert!(late < 1000, "it is too fast to be met");
            continue;
        }
        let (deed, words) = DEEDS[round % DEEDS.len()];
        deed(&path);
        signal(&child, libc::SIGCONT);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((output.status.code(), &out), (Some(1), &other), "round {round}: {:?} {err}", output.status);
        // The file, and why: one line.
        let why = err.strip_prefix("faultin sum: f: ").unwrap_or_else(|| panic!("round {round}: {err}"));
        assert_eq!(why.trim_end(), words, "round {round}: {err}");
        round += 1;
    }
    println!("{late} more were at their end before they could be stopped");
}
