//! The files that run in signals make their system calls by `crate::sys`, and none by a library: `rustix` calls the C library
//! where it was built to, and the C library sets `errno`, which belongs to the code that was interrupted.

use std::fs;
use std::path::Path;

/// The files, and their functions that do not run in signals.
const FILES: &[(&str, &[&str])] = &[
    ("faultin-cache/src/sys.rs", &[]),
    ("faultin-cache/src/sync.rs", &["new"]),
    ("faultin-cache/src/process.rs", &["current", "wiped_on_fork"]),
    ("faultin-cache/src/inode.rs", &[]),
    ("faultin-cache/src/lock/api.rs", &[]),
    // A thread's slot is taken, and the list grows, before the thread has a lock.
    ("faultin-cache/src/lock/held.rs", &["take"]),
    ("faultin-cache/src/lock/mod.rs", &[]),
    ("faultin-cache/src/lock/raw.rs", &[]),
    ("faultin-cache/src/lock/slots.rs", &[]),
    ("faultin-cache/src/folio/backing.rs", &["new"]),
    ("faultin-cache/src/folio/bits.rs", &[]),
    ("faultin-cache/src/folio/memory.rs", &[]),
    ("faultin-cache/src/folio/mod.rs", &[]),
    ("faultin-cache/src/folio/radix.rs", &[]),
    ("faultin-cache/src/folio/table.rs", &[]),
    ("faultin-cache/src/pager/hardware.rs", &["new"]),
    ("faultin-cache/src/pager/mailbox.rs", &[]),
    ("faultin-cache/src/pager/map.rs", &[]),
    ("faultin-cache/src/pager/mapped.rs", &[]),
    ("faultin-cache/src/pager/serve.rs", &[]),
    ("faultin-cache/src/pager/server.rs", &[]),
    ("faultin-cache/src/pager/signal.rs", &["without_signals"]),
    ("faultin-cache/src/pager/states.rs", &[]),
    ("faultin-cache/src/pager/step.rs", &[]),
    ("faultin-cache/src/pager/uffd.rs", &["open", "by_device", "output_from_ptr", "register"]),
    ("faultin/src/fault.rs", &[]),
    ("faultin/src/registry/disposition.rs", &[]),
    ("faultin/src/signal/chain.rs", &[]),
    ("faultin/src/signal/epoch.rs", &[]),
    ("faultin/src/signal/guard.rs", &[]),
    ("faultin/src/signal/handler.rs", &[]),
    ("faultin/src/signal/pager.rs", &[]),
    ("faultin/src/signal/reserve.rs", &[]),
    ("faultin/src/signal/stack.rs", &[]),
    ("faultin/src/signal/users.rs", &[]),
    ("faultin/src/sync.rs", &[]),
];

/// Where a line calls a function of a library by its path: `rustix::fs::ftruncate(`.
fn called(line: &str) -> Option<&str> {
    let code = line.split("//").next().unwrap_or_default();
    ["rustix::", "libc::", "ioctl::"].into_iter().find_map(|library| {
        code.match_indices(library).find_map(|(at, _)| {
            let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
            let path = code[at..].split(|c| !is_path(c)).next().unwrap_or_default();
            let name = path.rsplit("::").next().unwrap_or_default();
            // What begins with a capital is a type or a constant; what is no call may be a type of the C library's.
            let is_function = name.starts_with(|c: char| c.is_ascii_lowercase());
            (is_function && code[at + path.len()..].starts_with('(')).then_some(path)
        })
    })
}

/// What a file calls where it runs in signals: the number of the line, and the function. Its tests come last.
fn calls<'a>(text: &'a str, others: &[&str]) -> Vec<(usize, &'a str)> {
    let tests = ["#[cfg(test)]\nmod tests", "#[cfg(all(test, not(faultin_loom)))]\nmod tests"];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    let mut function = "";
    let mut found = Vec::new();
    for (index, line) in text[..end].lines().enumerate() {
        if let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.trim_start().starts_with("//")) {
            function = rest.split(['(', '<']).next().unwrap_or_default();
        }
        if let Some(path) = called(line).filter(|_| !others.contains(&function)) {
            found.push((index + 1, path));
        }
    }
    found
}

#[test]
fn nothing_that_runs_in_a_signal_calls_a_library_for_the_kernel() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for &(name, others) in FILES {
        let text = fs::read_to_string(crates.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = calls(&text, others);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn a_call_is_found() {
    let text = "fn new() {\n    rustix::fs::ftruncate(&file, 1);\n}\nfn serve() {\n    let e: libc::c_int = libc::EINVAL; // libc::no()\n    \
                unsafe { libc::syscall(libc::SYS_read) };\n}\n#[cfg(test)]\nmod tests {\n    libc::fork();\n}\n";
    assert_eq!(calls(text, &["new"]), [(6, "libc::syscall")]);
    assert_eq!(calls(text, &[]), [(2, "rustix::fs::ftruncate"), (6, "libc::syscall")]);
}
