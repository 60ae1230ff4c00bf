//! `faultin-soak` from the command line.

mod common;

fn soak(args: &[&str]) -> (Option<i32>, String, String) {
    let output = common::faultin_soak().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the number in a line of the table.
fn figure(out: &str, what: &str) -> u64 {
    let line = out.lines().map(str::trim).find(|line| line.starts_with(what));
    let line = line.unwrap_or_else(|| panic!("no {what} in\n{out}"));
    line[what.len()..].trim().parse().unwrap()
}

#[test]
fn nothing_differs() {
    let seconds = if cfg!(target_arch = "x86_64") { "8" } else { "4" };
    let (code, out, err) = soak(&["--seconds", seconds, "--patience", "120"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(figure(&out, "differences"), 0);
    for what in ["read", "write", "store by a view", "truncate and grow", "punch", "fsync", "map", "faults by a call"] {
        assert!(figure(&out, what) > 0, "{what} in\n{out}");
    }
    let skipped: Vec<&str> = err.lines().filter_map(|line| line.strip_prefix("skipped: ")).collect();
    assert_eq!(figure(&out, "modes skipped"), skipped.len() as u64);
    assert_eq!(skipped.len(), err.lines().count(), "{err}");
    for why in skipped {
        faultin_test::skipped("user-mode", why);
    }
}

#[test]
fn without_failures_no_operation_is_ended_by_one() {
    let args = ["--seconds", "2", "--failures", "off", "--mode", "mprotect", "--threads", "2", "--files", "2"];
    let (code, out, err) = soak(&[&args[..], &["--seed", "5", "--patience", "120"]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("seed 5, 2 threads, 2 files, modes [Mprotect]\n"), "{out}");
    for what in ["errors of the stores", "operations that these have ended", "differences"] {
        assert_eq!(figure(&out, what), 0, "{out}");
    }
}

/// Without other threads no buffer is evicted: an operation that gives up has evicted it itself.
#[test]
fn one_thread_alone_gives_up_on_nothing() {
    let limit = (8 * (faultin::page_size() >> 10)).to_string();
    let args = ["--seconds", "2", "--failures", "off", "--evictions", "off", "--threads", "1", "--files", "2"];
    let (code, out, err) = soak(&[&args[..], &["--limit", &limit, "--seed", "1", "--patience", "120"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    for what in ["operations that gave up on their buffer", "evictions by threads that do nothing else", "differences"]
    {
        assert_eq!(figure(&out, what), 0, "{what} in\n{out}");
    }
    for what in ["grow from its own last page", "append from a buffer that faults", "length of the store compared"] {
        assert!(figure(&out, what) > 0, "{what} in\n{out}");
    }
}

/// Two pages for each file, and threads that evict all the time.
#[test]
fn operations_end_in_tiny_caches() {
    let limit = (2 * 3 * (faultin::page_size() >> 10)).to_string();
    let args = ["--seconds", "3", "--threads", "2", "--files", "3", "--limit", &limit, "--patience", "60"];
    let (code, out, err) = soak(&args);
    assert_eq!(code, Some(0), "{out}{err}");
    for what in ["evictions by threads that do nothing else", "times that these have ended", "read", "write"] {
        assert!(figure(&out, what) > 0, "{what} in\n{out}");
    }
    assert_eq!(figure(&out, "differences"), 0);
}

#[test]
fn what_there_is_not_is_refused() {
    for (args, words) in [
        (&["--mode", "magic"][..], "possible values: signal, thread, mprotect"),
        (&["--threads", "0"], "0 is not in 1..=64"),
        (&["--seconds", "1", "--minutes", "1"], "cannot be used with"),
    ] {
        let (code, _, err) = soak(args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(words), "{words} in\n{err}");
    }
}
