//! The memory of another process.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Child, Stdio};

use faultin::Cause;
use faultin::signal_free::{Process, ProcessError, ProcessReason};

use crate::filters::{deny, works};
use crate::pages::{Bad, Pages, pattern};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[("victim", victim)];

/// A process whose memory is read: says where, and waits.
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

/// A victim, and the boundary of each kind of bad page in it.
fn start() -> (Child, Vec<(Bad, usize)>) {
    let mut child = child::command("victim").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
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
            let read = process.read(boundary - good, &mut out);
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
    let nowhere = process.read(64, &mut [0; 8]).expect_err("nothing is there");
    assert!(matches!(nowhere.reason(), ProcessReason::Fault(fault) if fault.cause() == Cause::Unmapped));
}

#[test]
fn its_bytes_come_with_exact_counts_and_causes() {
    let (mut child, boundaries) = start();
    let by_pid = Process::by_pid(child.id() as i32).expect("it runs");
    let by_pidfd = Process::by_pidfd(pidfd(&child).as_fd()).expect("it runs");
    assert_eq!(by_pidfd.pid(), child.id() as i32);
    reads(&by_pid, &boundaries);
    reads(&by_pidfd, &boundaries);
    child.kill().expect("ours");
    child.wait().expect("ours");
    ended(by_pid.read(boundaries[0].1 - 8, &mut [0; 8]));
    ended(by_pidfd.read(boundaries[0].1 - 8, &mut [0; 8]));
    ended(Process::by_pid(child.id() as i32));
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
            reads(&Process::by_pid(child.id() as i32).expect("it runs"), &boundaries);
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
            let process = Process::by_pid(child.id() as i32).expect("it runs");
            reads(&process, &boundaries);
            child.kill().expect("ours");
            child.wait().expect("ours");
            ended(process.read(boundaries[0].1 - 8, &mut [0; 8]));
        });
    });
}

#[test]
fn a_process_that_was_not_waited_for_has_ended() {
    let (mut child, boundaries) = start();
    let process = Process::by_pid(child.id() as i32).expect("it runs");
    child.kill().expect("ours");
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: waits without taking the status away.
    let waited = unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
    assert_eq!(waited, 0);
    ended(process.read(boundaries[0].1 - 8, &mut [0; 8]));
    child.wait().expect("ours");
}

/// Another process with the id of one that has ended. Needs the right to choose the next id.
#[test]
fn a_process_that_has_the_id_now_is_not_read() {
    const NEXT: &str = "/proc/sys/kernel/ns_last_pid";
    let (mut first, boundaries) = start();
    let id = first.id();
    let process = Process::by_pid(id as i32).expect("it runs");
    first.kill().expect("ours");
    first.wait().expect("ours");
    for _ in 0..50 {
        if let Err(error) = std::fs::write(NEXT, (id - 1).to_string()) {
            return faultin_test::skipped("root", format!("{NEXT}: {error}"));
        }
        let (mut second, again) = start();
        let same = second.id() == id;
        if same {
            // It can be read, and where the first one had its bytes it may have the same.
            let fresh = Process::by_pid(id as i32).expect("it runs");
            fresh.read(again[0].1 - 8, &mut [0; 8]).expect("mapped there");
            ended(process.read(again[0].1 - 8, &mut [0; 8]));
            ended(process.read(boundaries[0].1 - 8, &mut [0; 8]));
        }
        second.kill().expect("ours");
        second.wait().expect("ours");
        if same {
            return;
        }
    }
    faultin_test::skipped("root", "the id was not given again in 50 attempts");
}
