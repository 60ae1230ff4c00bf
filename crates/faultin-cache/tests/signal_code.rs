//! Files whose code runs in signal handlers make their system calls by `crate::sys`, not by a library: `rustix` can be
//! built to call the C library, which sets `errno`, and that belongs to the interrupted code.

use std::fs;
use std::path::Path;

/// The files, each with its functions that do not run in signal handlers, and with other exceptions.
const FILES: &[(&str, &[&str])] = &[
    ("faultin-cache/src/sys.rs", &[]),
    // The thread-local variable is only for tests.
    ("faultin-cache/src/sync.rs", &["new", "thread_local!"]),
    ("faultin-cache/src/inode.rs", &[]),
    ("faultin-cache/src/lock/api.rs", &[]),
    // A thread gets its slot, and the list grows, before the thread has a lock.
    ("faultin-cache/src/lock/held.rs", &["take", "held", "thread_local!"]),
    ("faultin-cache/src/lock/mod.rs", &["take", "cycle"]),
    ("faultin-cache/src/lock/raw.rs", &[]),
    ("faultin-cache/src/lock/slots.rs", &[]),
    ("faultin-cache/src/folio/backing.rs", &["new"]),
    ("faultin-cache/src/folio/bits.rs", &[]),
    ("faultin-cache/src/folio/memory.rs", &[]),
    ("faultin-cache/src/folio/mod.rs", &[]),
    ("faultin-cache/src/folio/radix.rs", &["inner"]),
    ("faultin-cache/src/folio/inbox.rs", &["new"]),
    ("faultin-cache/src/folio/table.rs", &["grow_region"]),
    ("faultin-cache/src/pager/hardware.rs", &["new"]),
    ("faultin-cache/src/pager/mailbox.rs", &[]),
    ("faultin-cache/src/pager/map.rs", &[]),
    ("faultin-cache/src/pager/mapped.rs", &["backing"]),
    ("faultin-cache/src/pager/serve.rs", &[]),
    ("faultin-cache/src/pager/server.rs", &[]),
    ("faultin-cache/src/pager/signal.rs", &["without_signals"]),
    ("faultin-cache/src/pager/states.rs", &["new"]),
    ("faultin-cache/src/pager/step.rs", &[]),
    ("faultin-cache/src/pager/uffd.rs", &["open", "by_device", "output_from_ptr", "register", "opcode::none"]),
    ("faultin-cache/src/stats/store.rs", &[]),
    // Views and maps use this in handlers, too. (For the thread-local variable see `signal::refresh_mask`.)
    ("faultin/src/blocked.rs", &["thread_local!"]),
    ("faultin/src/fault.rs", &[]),
    ("faultin/src/registry/disposition.rs", &[]),
    ("faultin/src/registry/process.rs", &[]),
    ("faultin/src/signal/chain.rs", &[]),
    ("faultin/src/signal/epoch.rs", &[]),
    ("faultin/src/signal/events.rs", &[]),
    ("faultin/src/signal/guard.rs", &[]),
    ("faultin/src/signal/handler.rs", &[]),
    ("faultin/src/signal/mod.rs", &["alternate_stack", "stack_needed"]),
    ("faultin/src/signal/pager.rs", &["register"]),
    ("faultin/src/signal/ranges.rs", &["free"]),
    ("faultin/src/signal/registered.rs", &[]),
    ("faultin/src/signal/reserve.rs", &[]),
    ("faultin/src/signal/ring.rs", &[]),
    ("faultin/src/signal/slots.rs", &["new", "free", "layout"]),
    ("faultin/src/signal/stack.rs", &[]),
    ("faultin/src/signal/users.rs", &[]),
    ("faultin/src/signal_free/look.rs", &["find"]),
    ("faultin/src/signal_free/mod.rs", &[]),
    ("faultin/src/signal_free/raw.rs", &[]),
    ("faultin/src/signal_free/touch.rs", &[]),
    ("faultin/src/signal_free/view.rs", &[]),
    ("faultin/src/signal_free/ways.rs", &[]),
    ("faultin/src/sync.rs", &[]),
    ("faultin/src/walk/populate.rs", &["kernel_version"]),
];

/// Libraries that make system calls, wait, or allocate.
const LIBRARIES: &[&str] = &[
    "rustix",
    "libc",
    "ioctl",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::alloc",
    "std::sync::Mutex",
];

/// Other code that allocates, locks, or uses a thread-local variable, which allocates in a library loaded by `dlopen`.
const OTHERS: &[&str] = &[
    "thread_local!",
    "extern \"C\" {",
    "vec![",
    "format!(",
    "println!(",
    "Box::new(",
    "Vec::with_capacity(",
    ".to_vec()",
    ".to_owned()",
];

/// The names that a file imports from a [library](LIBRARIES), each with its path: functions and modules.
fn imports(text: &str) -> Vec<(String, String)> {
    fn flatten(prefix: &str, tree: &str, found: &mut Vec<String>) {
        let (mut depth, mut start) = (0, 0);
        let parts = tree.char_indices().chain([(tree.len(), ',')]).filter_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (c == ',' && depth == 0).then(|| std::mem::replace(&mut start, at + 1)..at)
        });
        for part in parts.map(|part| tree[part].trim()).filter(|part| !part.is_empty()) {
            match part.split_once('{') {
                Some((path, inner)) => flatten(&format!("{prefix}{path}"), inner.trim_end_matches('}'), found),
                None => found.push(format!("{prefix}{part}")),
            }
        }
    }
    let mut found = Vec::new();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    for statement in code.join(" ").split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ") else { continue };
        // Before the keyword there is only an attribute, a bracket, or a visibility.
        if before.trim_end().is_empty() || before.trim_end().ends_with([']', '}', '{', ')']) || before.ends_with("pub ")
        {
            flatten("", tree, &mut found);
        }
    }
    let of_library = |path: &String| LIBRARIES.iter().any(|library| path.starts_with(library));
    let named = |path: String| {
        let path = path.replace("::self", "");
        let (path, alias) = path.split_once(" as ").map_or((path.as_str(), None), |(path, alias)| (path, Some(alias)));
        let name = alias.unwrap_or(path.rsplit("::").next().unwrap_or_default()).trim();
        (name.to_string(), path.trim().to_string())
    };
    found.into_iter().filter(of_library).map(named).filter(|(name, _)| is_function(name) || name == "*").collect()
}

/// Whether a name may be a function or a module: capitalized names are types or constants.
fn is_function(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The library function that a line calls, by its path (`rustix::fs::ftruncate(`) or by an imported name, or names without
/// a call (`.map(libc::getpid)`); or its use of [other](OTHERS) code that must not run in a signal handler.
fn called(line: &str, imports: &[(String, String)]) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    if code.trim_start().starts_with("use ") || code.trim_start().starts_with("pub(crate) use ") {
        return imports
            .iter()
            .find(|(name, path)| name == "*" && code.contains(path.as_str()))
            .map(|(_, path)| path.clone());
    }
    if let Some(other) = OTHERS.iter().find(|other| code.contains(*other)) {
        return Some(other.to_string());
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let (mut rest, mut last) = (code, "");
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let (before, path) = rest.split_at(start);
        let path = path.split(|c| !is_path(c)).next().unwrap_or_default().trim_end_matches(':');
        let after = &rest[start + path.len()..];
        let is_defined = std::mem::replace(&mut last, path) == "fn";
        rest = after;
        let root = path.split("::").next().unwrap_or_default();
        let name = path.rsplit("::").next().unwrap_or_default();
        let of_library =
            LIBRARIES.iter().any(|library| path.strip_prefix(library).is_some_and(|rest| rest.starts_with("::")));
        let is_imported = imports.iter().any(|(name, _)| name == root) && !before.ends_with('.') && !is_defined;
        // Types of the C library begin with a small letter, too.
        let is_value = before.ends_with(['(', ' ']) && !before.ends_with(": ") && after.starts_with([')', ','])
            || after.starts_with("::<");
        let is_type = name.ends_with("_t") || name.starts_with("c_");
        let is_used = after.starts_with('(') || of_library && is_value && !is_type;
        if (of_library || is_imported) && is_function(name) && is_used {
            return Some(path.to_string());
        }
    }
    None
}

/// The calls in a file's code that runs in signal handlers: the number of the line, and the function. Its tests come last.
fn calls(text: &str, others: &[&str]) -> Vec<(usize, String)> {
    let tests = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(all(test, not(faultin_loom)))]\nmod tests",
        "#[cfg(all(test, not(faultin_syscall)))]\nmod tests",
    ];
    let end = tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len());
    let imports = imports(&text[..end]);
    let mut function = "";
    let mut found = Vec::new();
    for (index, line) in text[..end].lines().enumerate() {
        if let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.trim_start().starts_with("//")) {
            function = rest.split(['(', '<']).next().unwrap_or_default();
        }
        if let Some(path) =
            called(line, &imports).filter(|path| !others.contains(&function) && !others.contains(&path.as_str()))
        {
            found.push((index + 1, path));
        }
    }
    found
}

#[test]
fn nothing_that_runs_in_a_signal_calls_a_library_for_the_kernel() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    for &(name, others) in FILES {
        let text = fs::read_to_string(crates.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = calls(&text, others);
        if !found.is_empty() {
            all.push(format!("{name}: {found:?}"));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn a_call_is_found() {
    let text = "fn new() {\n    rustix::fs::ftruncate(&file, 1);\n}\nfn serve() {\n    let e: libc::c_int = libc::EINVAL; // libc::no()\n    \
                unsafe { libc::syscall(libc::SYS_read) };\n}\n#[cfg(test)]\nmod tests {\n    libc::fork();\n}\n";
    let found = |line: usize, path: &str| (line, path.to_string());
    assert_eq!(calls(text, &["new"]), [found(6, "libc::syscall")]);
    assert_eq!(calls(text, &[]), [found(2, "rustix::fs::ftruncate"), found(6, "libc::syscall")]);
}

#[test]
fn an_imported_name_is_found_and_what_else_has_no_place_there() {
    let text = "use libc::{c_int, sigpending as ask, siginfo_t};\nuse rustix::{\n    event::{Flags, eventfd},\n    fs,\n};\nuse std::thread;\n\
                fn serve(e: c_int, info: *mut siginfo_t) {\n    ask(&mut set);\n    eventfd(0);\n    fs::fsync(file);\n    thread::sleep(time);\n    \
                self.ask();\n    let number = first.map_or_else(libc::getpid, second);\n    std::fs::read(path);\n    \
                let size = size_of::<libc::stat>() + f(libc::EINVAL);\n    let all = vec![1];\n}\nthread_local! {\n}\n";
    let found = calls(text, &[]);
    let names: Vec<(usize, &str)> = found.iter().map(|(line, path)| (*line, path.as_str())).collect();
    let expected = [
        (8, "ask"),
        (9, "eventfd"),
        (10, "fs::fsync"),
        (11, "thread::sleep"),
        (13, "libc::getpid"),
        (14, "std::fs::read"),
        (16, "vec!["),
        (18, "thread_local!"),
    ];
    assert_eq!(names, expected);
}
