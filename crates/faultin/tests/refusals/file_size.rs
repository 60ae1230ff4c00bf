//! The limit on file sizes: an error with its number, and no signal.
//!
//! The limit applies to the process, so each case runs in a separate child.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;

use faultin::shared::SharedOptions;
use faultin::{MapOptions, map::Backend, shared::SharedMap};

use faultin_test::processes;

const LIMIT: u64 = 1 << 20;

/// Runs `case`, the test of this name, in a child whose files are limited to [`LIMIT`] bytes.
fn limited(name: &str, case: fn()) {
    const CHILD: &str = "FAULTIN_TEST_LIMITED";
    if std::env::var_os(CHILD).is_some() {
        return case();
    }
    let mut child = processes::run(std::env::current_exe().expect("the test's program"));
    child.args(["--exact", &format!("file_size::{name}"), "--nocapture"]).env(CHILD, "1");
    // SAFETY: one system call.
    unsafe { child.pre_exec(|| limit(LIMIT)) };
    let output = child.output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}{complaint}", output.status);
}

/// Sets the limit to at most [`LIMIT`].
fn limit(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: LIMIT };
    // SAFETY: sets a limit from a local structure.
    match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The signals that are pending in this thread and process, and those that it blocks.
fn signals() -> [bool; 2] {
    // SAFETY: zeros are sets, which are written.
    unsafe {
        let (mut pending, mut blocked): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigpending(&raw mut pending);
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
        [&pending, &blocked].map(|set| libc::sigismember(set, libc::SIGXFSZ) == 1)
    }
}

#[test]
fn shared_memory_that_is_too_large_is_an_error() {
    limited("shared_memory_that_is_too_large_is_an_error", || {
        for _ in 0..2 {
            let error = SharedMap::create("large", LIMIT as usize + 1).map(drop).expect_err("it is too large");
            assert_eq!(error.errno(), Some(libc::EFBIG), "{error}");
        }
        SharedMap::create("small", LIMIT as usize).expect("it is not too large");
        assert_eq!(signals(), [false; 2]);
    });
}

#[test]
fn space_behind_the_limit_is_an_error() {
    limited("space_behind_the_limit_is_an_error", || {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&[7; 100], 0).expect("write it");
        let map = MapOptions::new().from_file_mut(file).expect("map it");
        let error = map.allocate(..=LIMIT).expect_err("it is too much");
        assert_eq!((error.errno(), map.len()), (Some(libc::EFBIG), 100), "{error}");
        assert_eq!(signals(), [false; 2]);
    });
}

#[test]
fn a_write_behind_the_limit_is_an_error() {
    limited("a_write_behind_the_limit_is_an_error", || {
        // A file that is longer than the limit.
        let file = tempfile::tempfile().expect("a file");
        file.set_len(LIMIT).expect("grow it");
        limit(LIMIT / 2).expect("set the limit");
        let len = LIMIT as usize;
        let map = MapOptions::new().backend(Backend::Pread).from_file_mut(file.try_clone().expect("a descriptor"));
        let map = map.expect("map it");
        let shared = SharedOptions::new().backend(Backend::Pread);
        let shared = shared.from_file(file.try_clone().expect("a descriptor"), len, faultin::map::Rights::ReadWrite);
        let shared = shared.expect("map it");
        for error in [
            map.write_at(&vec![1; len], 0),
            map.fill(..len as u64, 2),
            shared.write_at(&vec![3; len], 0),
            shared.fill(..len as u64, 4),
        ] {
            let error = error.expect_err("half of it is behind the limit");
            assert_eq!((error.errno(), error.done()), (Some(libc::EFBIG), len / 2), "{error}");
            assert!(error.to_string().contains(&format!("at byte {}", len / 2)), "{error}");
        }
        assert_eq!(signals(), [false; 2]);
        limit(LIMIT).expect("set the limit");
        map.write_at(&vec![5; len], 0).expect("all of it");
    });
}

#[test]
fn a_signal_that_the_caller_has_blocked_and_pending_stays() {
    limited("a_signal_that_the_caller_has_blocked_and_pending_stays", || {
        let file = tempfile::tempfile().expect("a file");
        // SAFETY: zeros are a set, which is written.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGXFSZ);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        // If it was only blocked, it stays blocked, and none stays pending.
        assert!(SharedMap::create("large", LIMIT as usize + 1).is_err());
        assert_eq!(signals(), [false, true]);
        // SAFETY: a descriptor owned here.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), LIMIT as i64 + 1) }, -1);
        assert_eq!(signals(), [true, true], "the caller's own");
        assert!(SharedMap::create("large", LIMIT as usize + 1).is_err());
        assert_eq!(signals(), [true, true], "the caller's own is still there");
    });
}
