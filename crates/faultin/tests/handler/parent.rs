//! The parent's side: runs a child, follows the thread that requests it, and compares its end with the announcement.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::FromRawFd;
use std::process::Stdio;

use crate::Ends;
use crate::child::{ARGUMENT, BEGINS, SCENARIO};
use faultin_test::processes;

/// A traced thread that is about to receive a signal.
#[derive(Debug, PartialEq, Eq)]
struct Stop {
    signal: i32,
    code: i32,
    /// `si_addr`, or `si_pid` of a sent signal.
    addr: usize,
    /// `si_value` of a queued signal.
    value: usize,
    pc: usize,
}

/// How a child ended.
struct Outcome {
    /// The status of `waitpid`.
    status: i32,
    stops: Vec<Stop>,
    stdout: String,
    stderr: String,
}

/// Runs a scenario and asserts how it ends; prints all details if it ends differently.
pub(crate) fn check(scenario: &str, argument: &str, ends: Ends) {
    let outcome = run(scenario, argument);
    if let Some(missing) = outcome.stdout.lines().find_map(|line| line.strip_prefix("skipped: ")) {
        let (need, why) = missing.split_once(": ").expect("a need, and why it is not met");
        return faultin_test::skipped(need, format_args!("{scenario} {argument}: {why}"));
    }
    let has_begun = outcome.stdout.lines().any(|line| line.strip_prefix(BEGINS) == Some(scenario));
    let verdict = if has_begun { judge(&outcome, ends) } else { Err("the scenario did not begin".into()) };
    if let Err(what) = verdict {
        panic!(
            "{scenario} {argument:?}: {what}\n--- status {:#x}, stops {:#x?}\n--- stdout\n{}--- stderr\n{}",
            outcome.status, outcome.stops, outcome.stdout, outcome.stderr
        );
    }
}

fn judge(outcome: &Outcome, ends: Ends) -> Result<(), String> {
    let status = outcome.status;
    let signal = match ends {
        Ends::Well if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => return Ok(()),
        Ends::Well => return Err("did not end well".into()),
        Ends::Killed(signal) => signal,
    };
    if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != signal {
        return Err(format!("was not killed by signal {signal}"));
    }
    for line in outcome.stdout.lines().filter_map(|line| line.strip_prefix("stderr will have: ")) {
        if !outcome.stderr.contains(line) {
            return Err(format!("no {line:?} on stderr"));
        }
    }
    let mut lines = outcome.stdout.lines();
    if let Some(want) = lines.find_map(|line| line.strip_prefix("calls: ")) {
        let called: String = lines.filter_map(|line| line.strip_prefix("called ")).collect();
        if called != want {
            return Err(format!("handlers {called:?} were called, not {want:?}"));
        }
    }
    let Some(announced) = outcome.stdout.lines().find_map(|line| line.strip_prefix("dies: ")) else {
        return Err("nothing was announced".into());
    };
    if outcome.stdout.lines().any(|line| line == "not traced") {
        faultin_test::skipped("ptrace", format_args!("siginfo and program counter of the death in {announced:?}"));
        return Ok(());
    }
    let want: BTreeMap<&str, usize> = announced
        .split_whitespace()
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (name, usize::from_str_radix(value, 16).expect("announced in hexadecimal")))
        .collect();
    let Some(last) = outcome.stops.last() else { return Err("the dying thread was never stopped".into()) };
    let seen = [
        ("signal", last.signal as usize),
        ("code", last.code as u32 as usize),
        ("addr", last.addr),
        ("value", last.value),
        ("pc", last.pc),
        ("stops", outcome.stops.len()),
    ];
    for (name, seen) in seen {
        if let Some(&want) = want.get(name)
            && want != seen
        {
            return Err(format!("{name} of the last stop: announced {want:#x}, seen {seen:#x}"));
        }
    }
    Ok(())
}

fn run(scenario: &str, argument: &str) -> Outcome {
    let (mut stdout, mut stderr) = (memfd(), memfd());
    // `follow` waits for it: a `Child` would not see the stops.
    #[allow(clippy::zombie_processes)]
    let child = processes::run(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .env(ARGUMENT, argument)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::from(stdout.try_clone().expect("dup")))
        .stderr(Stdio::from(stderr.try_clone().expect("dup")))
        .spawn()
        .expect("this binary can be run again");
    let mut stops = Vec::new();
    let status = follow(child.id() as i32, &mut stops);
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a memfd can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Outcome { status, stops, stdout: read(&mut stdout), stderr: read(&mut stderr) }
}

fn memfd() -> File {
    // SAFETY: a new file descriptor, owned only here.
    unsafe {
        let fd = libc::memfd_create(c"faultin-test".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

/// Waits for the child of this thread, passing on every signal for which one of its traced threads stops.
fn follow(child: i32, stops: &mut Vec<Stop>) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: waits only for children and tracees of this thread, so that other tests do not lose theirs.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(pid > 0, "waitpid: {}", std::io::Error::last_os_error());
        if libc::WIFSTOPPED(status) {
            stops.push(stop(pid));
            // SAFETY: a stopped tracee of this thread.
            unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, libc::WSTOPSIG(status)) };
        } else if pid == child {
            return status;
        }
    }
}

fn stop(pid: i32) -> Stop {
    // SAFETY: `pid` is a stopped tracee; both results are plain data, zero before, and as large as the kernel expects.
    let (info, registers) = unsafe {
        const NT_PRSTATUS: usize = 1;
        let mut info: libc::siginfo_t = core::mem::zeroed();
        let mut registers: libc::user_regs_struct = core::mem::zeroed();
        let mut vector =
            libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<libc::user_regs_struct>() };
        assert_eq!(libc::ptrace(libc::PTRACE_GETSIGINFO, pid, 0, &raw mut info), 0);
        assert_eq!(libc::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, &raw mut vector), 0);
        (info, registers)
    };
    // SAFETY: the fields that a fault, or a signal from a process, fills in.
    let (addr, value) = unsafe {
        if info.si_code > 0 {
            (info.si_addr().addr(), 0)
        } else if info.si_code == libc::SI_QUEUE {
            (info.si_pid() as usize, info.si_value().sival_ptr.addr())
        } else {
            (info.si_pid() as usize, 0)
        }
    };
    #[cfg(target_arch = "x86_64")]
    let pc = registers.rip as usize;
    #[cfg(target_arch = "aarch64")]
    let pc = registers.pc as usize;
    Stop { signal: info.si_signo, code: info.si_code, addr, value, pc }
}
