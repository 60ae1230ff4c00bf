//! The memory of another process.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Child, Stdio};

use faultin::Cause;
use faultin::signal_free::{Process, ProcessError, ProcessReason};

use crate::filters::{deny, works};
use crate::pages::{Bad, Pages, pattern};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] =
    &[("victim", victim), ("without its first thread", without_first_thread), ("namespace", namespace)];

/// A process whose memory is read: prints the addresses, and waits.
fn victim() {
    let page = faultin::page_size();
    let mut stdout = std::io::stdout();
    println!();
    for bad in Bad::ALL {
        let mut pages = Pages::new(bad, page);
        pages.all().iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(i));
        writeln!(stdout, "boundary {}", pages.boundary().addr()).expect("stdout");
        std::mem::forget(pages);
    }
    stdout.flush().expect("stdout");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The same, with its first thread ended.
fn without_first_thread() {
    end_the_first_thread(victim);
}

/// Ends the first thread of this process; `then` runs in another one, and the process ends after it.
pub fn end_the_first_thread(then: fn()) {
    std::thread::spawn(move || {
        let is_zombie = || {
            // (Of the thread: user-mode emulators generate `/proc/self/stat` themselves.)
            let stat =
                std::fs::read_to_string(format!("/proc/self/task/{}/stat", std::process::id())).expect("a /proc");
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z"))
        };
        while !is_zombie() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        then();
        // SAFETY: exits the process.
        unsafe { libc::_exit(0) };
    });
    // SAFETY: ends the first thread, which only waits for the others and has nothing on its stack that they use.
    unsafe {
        assert_ne!(libc::signal(libc::SIGUSR1, ends_its_thread as *const () as libc::sighandler_t), libc::SIG_ERR);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::getpid(), libc::SIGUSR1);
    }
    loop {
        std::thread::park();
    }
}

extern "C" fn ends_its_thread(_: i32) {
    // SAFETY: ends this thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// A victim, and the boundary of each kind of bad page in it.
fn start() -> (Child, Vec<(Bad, usize)>) {
    start_as("victim")
}

fn start_as(name: &str) -> (Child, Vec<(Bad, usize)>) {
    let mut child = child::command(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let numbers = stdout.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("boundary ")?.parse().ok());
    let boundaries = Bad::ALL.into_iter().zip(numbers.take(Bad::ALL.len())).collect();
    (child, boundaries)
}

fn ended<T: std::fmt::Debug>(result: Result<T, ProcessError>) {
    let error = result.expect_err("it has ended");
    assert!(matches!(error.reason(), ProcessReason::Ended), "{error:?}");
    assert_eq!(error.done(), 0);
}

fn pidfd(child: &Child) -> OwnedFd {
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, child.id(), 0) as i32) }
}

fn reads(process: &Process, boundaries: &[(Bad, usize)]) {
    let page = faultin::page_size();
    assert_eq!(boundaries.len(), Bad::ALL.len());
    for &(bad, boundary) in boundaries {
        for (good, size) in [(0, 1), (1, 1), (20, 64), (page, page + 1), (page, page)] {
            let mut out = vec![0xee; size];
            let read = process.read(&mut out, boundary - good);
            let cause = bad.cause(faultin::Access::Read).filter(|_| good < size);
            let done = if cause.is_some() { good } else { size };
            match (read, cause) {
                (Ok(()), None) => {}
                (Err(error), Some(cause)) => {
                    assert_eq!(error.done(), good, "{bad:?}: {error}");
                    let ProcessReason::Fault(fault) = error.reason() else { panic!("{bad:?}: {error}") };
                    assert_eq!((fault.cause(), fault.address()), (cause, Some(boundary)), "{bad:?}");
                }
                (read, cause) => panic!("{bad:?}, {good} of {size}: {read:?} instead of {cause:?}"),
            }
            assert!((0..done).all(|i| out[i] == pattern(page - good + i)), "{bad:?}, {good} of {size}");
            assert!(out[done..].iter().all(|&byte| byte == 0xee), "{bad:?}, {good} of {size}");
        }
    }
    let nowhere = process.read(&mut [0; 8], 64).expect_err("nothing is there");
    assert!(matches!(nowhere.reason(), ProcessReason::Fault(fault) if fault.cause() == Cause::Unmapped));
}

#[test]
fn its_bytes_come_with_exact_counts_and_causes() {
    let (mut child, boundaries) = start();
    let by_pid = Process::from_pid(child.id() as i32).expect("it runs");
    let by_pidfd = Process::from_pidfd(pidfd(&child).as_fd()).expect("it runs");
    assert_eq!(by_pidfd.pid(), child.id() as i32);
    reads(&by_pid, &boundaries);
    reads(&by_pidfd, &boundaries);
    child.kill().expect("ours");
    child.wait().expect("ours");
    ended(by_pid.read(&mut [0; 8], boundaries[0].1 - 8));
    ended(by_pidfd.read(&mut [0; 8], boundaries[0].1 - 8));
    ended(Process::from_pid(child.id() as i32));
}

#[test]
fn a_process_whose_first_thread_has_ended_is_read() {
    let (mut child, boundaries) = start_as("without its first thread");
    let process = Process::from_pid(child.id() as i32).expect("it runs");
    reads(&process, &boundaries);
    reads(&Process::from_pidfd(pidfd(&child).as_fd()).expect("it runs"), &boundaries);
    child.kill().expect("ours");
    child.wait().expect("ours");
    ended(process.read(&mut [0; 8], boundaries[0].1 - 8));
}

#[test]
fn a_filter_that_forbids_the_call_leaves_the_file() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    let (mut child, boundaries) = start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(deny(&[libc::SYS_process_vm_readv], libc::EPERM));
            reads(&Process::from_pid(child.id() as i32).expect("it runs"), &boundaries);
        });
    });
    child.kill().expect("ours");
    child.wait().expect("ours");
}

#[test]
fn a_filter_that_forbids_to_ask_by_signal_leaves_the_descriptor() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    let (mut child, boundaries) = start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(deny(&[libc::SYS_pidfd_send_signal], libc::EPERM));
            let process = Process::from_pid(child.id() as i32).expect("it runs");
            reads(&process, &boundaries);
            child.kill().expect("ours");
            child.wait().expect("ours");
            ended(process.read(&mut [0; 8], boundaries[0].1 - 8));
        });
    });
}

#[test]
fn a_descriptor_is_not_asked_where_the_numbers_are_of_another_namespace() {
    let nothing: *const libc::iovec = std::ptr::null();
    // SAFETY: copies nothing.
    if unsafe { libc::process_vm_readv(libc::getpid(), nothing, 0, nothing, 0, 0) } != 0 {
        return faultin_test::skipped("process-vm", "what has a number of this namespace is read by that call alone");
    }
    child::check("namespace");
}

fn namespace() {
    // SAFETY: the children of this process get a namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) != 0 && libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) != 0 }
    {
        return faultin_test::skipped("namespaces", std::io::Error::last_os_error());
    }
    // SAFETY: this process has no other thread that does anything; the children end.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(in_the_namespace());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    };
    assert_eq!(status, 0, "the number of the check that failed: {}", status >> 8);
}

/// Reads a child's memory by its pidfd, when its number in `/proc` belongs to another process. Returns the number of the
/// first check that fails, or 0.
///
/// # Safety
/// The process must exit afterwards.
unsafe fn in_the_namespace() -> i32 {
    // SAFETY: the child waits until it is killed.
    let (number, pidfd) = unsafe {
        let child = libc::fork();
        if child == 0 {
            loop {
                libc::pause();
            }
        }
        (child, OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, child, 0) as i32))
    };
    let unsupported = |error: &ProcessError| matches!(error.reason(), ProcessReason::Io(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP));
    let by_pidfd = Process::from_pidfd(pidfd.as_fd());
    // The child has it at the same address.
    static VALUE: u64 = 0x1122_3344_5566_7788;
    let mut out = [0; 8];
    let by_pid = Process::from_pid(number).and_then(|process| process.read(&mut out, (&raw const VALUE).addr()));
    // SAFETY: the child; this process is the first one of its namespace.
    let first = unsafe {
        libc::kill(number, libc::SIGKILL);
        libc::getpid() == 1
    };
    let checks = [first, by_pidfd.as_ref().is_err_and(unsupported), by_pid.is_ok() && out == VALUE.to_ne_bytes()];
    checks.iter().position(|&passed| !passed).map_or(0, |index| index as i32 + 1)
}

#[test]
fn a_process_that_was_not_waited_for_has_ended() {
    not_waited_for();
}

/// The filter's error says nothing about the process.
#[test]
fn with_a_filter_that_forbids_the_call_it_has_ended_too() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    for errno in [libc::EPERM, libc::ENOSYS] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(deny(&[libc::SYS_process_vm_readv], errno));
                not_waited_for();
            });
        });
    }
}

fn not_waited_for() {
    let (mut child, boundaries) = start();
    let process = Process::from_pid(child.id() as i32).expect("it runs");
    child.kill().expect("ours");
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: waits without reaping the child.
    let waited = unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
    assert_eq!(waited, 0);
    ended(process.read(&mut [0; 8], boundaries[0].1 - 8));
    child.wait().expect("ours");
}

/// Another process with the id of an ended one. Needs the permission to choose the next id.
#[test]
fn a_process_that_has_the_id_now_is_not_read() {
    const NEXT: &str = "/proc/sys/kernel/ns_last_pid";
    let (mut first, boundaries) = start();
    let id = first.id();
    let process = Process::from_pid(id as i32).expect("it runs");
    first.kill().expect("ours");
    first.wait().expect("ours");
    for _ in 0..50 {
        if let Err(error) = std::fs::write(NEXT, (id - 1).to_string()) {
            return faultin_test::skipped("root", format!("{NEXT}: {error}"));
        }
        let (mut second, again) = start();
        let same = second.id() == id;
        if same {
            // It is readable, and may have the same bytes at the same address.
            let fresh = Process::from_pid(id as i32).expect("it runs");
            fresh.read(&mut [0; 8], again[0].1 - 8).expect("mapped there");
            ended(process.read(&mut [0; 8], again[0].1 - 8));
            ended(process.read(&mut [0; 8], boundaries[0].1 - 8));
        }
        second.kill().expect("ours");
        second.wait().expect("ours");
        if same {
            return;
        }
    }
    faultin_test::skipped("root", "the id was not given again in 50 attempts");
}
