//! Each system call is refused in turn, as filters do (with `EPERM`, or with `ENOSYS` as if the call did not exist): the
//! result is the right bytes or an error that names the call, never a crash, a hang or wrong bytes.
//!
//! `FAULTIN_CALLS=whole` refuses each call with both errors; otherwise each is refused with one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libc::c_long;

use crate::list::{CALLS, Call, KEPT};
use crate::program;

/// The variable that makes a child run a program.
const CHILD: &str = "FAULTIN_TEST_CALLS";

/// The timeout after which a run counts as hung, far longer than the program takes.
const PATIENCE: Duration = Duration::from_secs(100);

/// Runs the program in a child: its output, or how it died.
fn run(word: &str) -> Result<String, String> {
    let mut child = Command::new(std::env::current_exe().expect("the test's program"))
        .args(["--exact", "calls::the_list_is_whole", "--nocapture"])
        .env(CHILD, word)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().expect("our child");
            child.wait().expect("our child");
            return Err("it hangs".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = read.join().expect("no panic").expect("a pipe");
    let complaint = complaints.join().expect("no panic").expect("a pipe");
    match status.success() && text.trim_end().ends_with("the end") {
        true => Ok(text),
        false => Err(format!("it dies: {status}: {}", complaint.trim())),
    }
}

/// The steps and their results.
fn steps(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("step ")?.split_once(" = ")).collect()
}

/// What this machine lacks: steps that fail although nothing is refused.
fn plain() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = run("plain").expect("the program runs");
    let all = steps(&text);
    let failed = |(name, end): (&&str, &&str)| {
        if *end == "right" {
            return None;
        }
        let need = match *name {
            name if name.starts_with("pager, ") => "user-mode",
            name if name.starts_with("direct cache") => "o-direct",
            name if name.ends_with("try_read_at") => "nowait",
            name if name.starts_with("process") => "process-vm",
            name => panic!("{name}: {end}"),
        };
        faultin_test::skipped(need, format!("{name}: {end}"));
        Some((*name).to_owned())
    };
    (all.keys().map(|&name| name.to_owned()).collect(), all.iter().filter_map(failed).collect())
}

#[test]
fn the_list_is_whole() {
    if let Ok(word) = std::env::var(CHILD) {
        program::main(&word);
    }
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "a filter would refuse the emulator's own calls");
    }
    let text = match run("tell") {
        Ok(text) => text,
        Err(why) => panic!("{why}"),
    };
    let Some(made) = text.lines().find_map(|line| line.strip_prefix("made: ")) else {
        return faultin_test::skipped("seccomp", "no filter that tells what it sees");
    };
    let made: BTreeSet<c_long> = made.split(' ').map(|number| number.parse().expect("a number")).collect();
    let known = |number: &c_long| {
        CALLS.iter().any(|call| call.number == *number) || KEPT.iter().any(|(_, kept, _)| kept == number)
    };
    let unknown: Vec<_> = made.iter().filter(|number| !known(number)).collect();
    assert!(unknown.is_empty(), "calls that are in no list: {unknown:?}");
    let never: Vec<_> =
        CALLS.iter().filter(|call| call.always && !made.contains(&call.number)).map(|call| call.name).collect();
    assert!(never.is_empty(), "calls that the program does not make: {never:?}");
}

#[test]
fn every_call_may_be_refused() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "a filter would refuse the emulator's own calls");
    }
    let text = run(&format!("{} {}", libc::SYS_getppid, libc::EPERM)).expect("a call that is not made");
    if text.starts_with("no filter") || text.contains("\nno filter") {
        return faultin_test::skipped("seccomp", "no filter of system calls");
    }
    let (all, missing) = plain();
    let whole = std::env::var_os("FAULTIN_CALLS").is_some_and(|how| how == "whole");
    let errors = [("EPERM", libc::EPERM), ("ENOSYS", libc::ENOSYS)];
    let cases: Vec<_> = CALLS
        .iter()
        .enumerate()
        .flat_map(|(i, call)| errors.iter().enumerate().map(move |(e, error)| ((i + e) % 2 == 0, call, error)))
        .filter_map(|(is_short, call, error)| (whole || is_short).then_some((call, error)))
        .collect();
    let (next, wrong) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((call, (name, errno))) = next.lock().expect("no panic").next() else { break };
                    let found = judge(call, &run(&format!("{} {errno}", call.number)), &all, &missing);
                    let found = found.into_iter().map(|what| format!("{} {name}: {what}", call.name));
                    wrong.lock().expect("no panic").extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The failures of a run in which this call was refused.
fn judge(call: &Call, ran: &Result<String, String>, all: &BTreeSet<String>, missing: &BTreeSet<String>) -> Vec<String> {
    let text = match ran {
        Ok(text) => text,
        Err(why) => return vec![why.clone()],
    };
    let steps = steps(text);
    // A step that makes something for later steps may fail, and those steps are missing then. (No other step can be
    // missing: the program has reached its end.)
    let unknown = steps.keys().filter(|name| !all.contains(**name)).map(|name| format!("{name}: no such step"));
    let is_named = |says: &str| says.contains(call.name) || call.also.iter().any(|also| says.contains(also));
    let wrong = steps.iter().filter(|(name, end)| {
        !(**end == "right" || missing.contains(**name) || end.strip_prefix("error: ").is_some_and(is_named))
    });
    let wrong = wrong.map(|(name, end)| format!("{name}: {end}"));
    unknown.chain(wrong).collect()
}
