//! BLAKE3 issue 488 as reported: another process truncates a file while `b3sum` hashes it. Repeated a hundred times with
//! `faultin sum`, also with other changes, each reliably during the hash: the command is stopped while it has the file
//! mapped, and continued after the change.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Bytes of the file, nearly all of them a hole: slow to hash, and fast to create.
const LEN: u64 = 100 << 20;

/// A change of the file by another process.
struct Deed {
    what: fn(&Path),
    /// The possible messages: of every change with `--strict`; without it, of those after which there is no checksum.
    messages: &'static [&'static str],
    outcome: Outcome,
}

/// The result of `faultin sum` without `--strict`.
#[derive(PartialEq)]
enum Outcome {
    /// An error.
    Error,
    /// The checksum of the file's current bytes; an error if part of it was hashed before.
    ErrorUnlessEarly,
    /// The checksum of the file's current bytes.
    Success,
}

/// Each of these moves the change time; on a file system where it does not, the name has changed.
const NAMES: &[&str] =
    &["the file's attributes or data were changed", "the file was deleted", "another file took its place"];

const DEEDS: &[Deed] = &[
    Deed {
        what: |path| truncate(path, 0),
        messages: &["the file was truncated from 104857600 to 0 bytes"],
        outcome: Outcome::Error,
    },
    Deed {
        what: |path| truncate(path, 5_000_001),
        messages: &["the file was truncated from 104857600 to 5000001 bytes"],
        outcome: Outcome::Error,
    },
    Deed {
        what: |path| [0, LEN].into_iter().for_each(|len| truncate(path, len)),
        messages: &["the file was rewritten"],
        outcome: Outcome::ErrorUnlessEarly,
    },
    Deed {
        what: |path| open(path).write_all_at(b"other", 7).unwrap(),
        messages: &["the file was rewritten"],
        outcome: Outcome::ErrorUnlessEarly,
    },
    Deed {
        what: |path| truncate(path, LEN + 1),
        messages: &["the file grew from 104857600 to 104857601 bytes"],
        outcome: Outcome::Success,
    },
    Deed { what: |path| fs::remove_file(path).unwrap(), messages: NAMES, outcome: Outcome::Success },
    Deed {
        what: |path| fs::rename(path, path.with_extension("moved")).unwrap(),
        messages: NAMES,
        outcome: Outcome::Success,
    },
    Deed {
        what: |path| {
            fs::write(path.with_extension("new"), "new").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        messages: NAMES,
        outcome: Outcome::Success,
    },
    Deed {
        what: |path| fs::hard_link(path, path.with_extension("link")).unwrap(),
        messages: NAMES,
        outcome: Outcome::Success,
    },
];

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn truncate(path: &Path, len: u64) {
    open(path).set_len(len).unwrap();
}

/// Creates a file with the same contents each time.
fn file(path: &Path) {
    for name in [path.to_owned(), path.with_extension("moved"), path.with_extension("link")] {
        let _ = fs::remove_file(name);
    }
    fs::write(path, "some bytes").unwrap();
    truncate(path, LEN);
}

/// Stops the process while it has the file mapped. Returns `false` if it was too fast.
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
    // SAFETY: a child of this process, which was not waited for yet.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// The checksum of an open file's bytes, read from its beginning.
fn checksum(file: &File) -> String {
    let (mut hasher, mut at, mut buffer) = (blake3::Hasher::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read_at(&mut buffer, at).unwrap() {
            0 => return hasher.finalize().to_string(),
            read => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
        }
    }
}

#[test]
fn blake3_488() {
    let folder = TempDir::new().unwrap();
    let (path, good) = (folder.path().canonicalize().unwrap().join("f"), folder.path().join("good"));
    fs::write(&good, "untouched").unwrap();
    let other = format!("{}  good\n", blake3::hash(b"untouched"));
    let (mut round, mut late) = (0, 0);
    while round < 108 {
        file(&path);
        let opened = File::open(&path).unwrap();
        let (deed, strict) = (&DEEDS[round % DEEDS.len()], round / DEEDS.len() % 2 == 1);
        let mut child = common::faultin()
            .args(["sum", "f", "good"])
            .args(strict.then_some("--strict"))
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
        (deed.what)(&path);
        signal(&child, libc::SIGCONT);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        if output.status.success() && !strict && deed.outcome != Outcome::Error {
            assert_eq!((out, &*err), (format!("{}  f\n{other}", checksum(&opened)), ""), "round {round}");
        } else {
            assert!(strict || deed.outcome != Outcome::Success, "round {round}: {err}");
            assert_eq!((output.status.code(), &out), (Some(1), &other), "round {round}: {:?} {err}", output.status);
            // One line with the file and the reason.
            let why = err.strip_prefix("faultin sum: f: ").unwrap_or_else(|| panic!("round {round}: {err}"));
            assert!(deed.messages.contains(&why.trim_end()), "round {round}: {err}");
        }
        round += 1;
    }
    println!("{late} more were at their end before they could be stopped");
}
