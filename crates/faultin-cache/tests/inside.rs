//! What runs in signal handlers is in folders named `inside`, here and in `faultin`, and names nothing that the rules of
//! `faultin/src/signal/inside/mod.rs` exclude: no library that makes system calls, no allocation, no lock, no thread-local
//! variable, no text that is formatted, no panic on purpose.
//!
//! A function there that does not run in signals has a comment before it that begins with `// Outside signals`. From other
//! files, code there uses types, and the functions of [`BESIDE`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of sources.
const SOURCES: [&str; 2] = ["faultin/src", "faultin-cache/src"];

/// Functions of other files that run in signals.
const BESIDE: &[(&str, &[&str])] = &[
    // The counters of a store, its length, the limit of the cache, and what the pager of a mapping calls.
    ("faultin-cache/src/stats/calls.rs", &["read_in_signal", "add"]),
    ("faultin-cache/src/folio/arena.rs", &["is_ours", "take", "len", "at", "now", "is_young", "queue", "limit"]),
    ("faultin-cache/src/folio/queue.rs", &["push_in_signal"]),
    ("faultin-cache/src/store/length.rs", &["most"]),
    ("faultin-cache/src/pager/server.rs", &["in_signal"]),
];

/// Files of which all code may run in handlers of the program: accesses, and what decides which of them is used.
const ACCESSES: &[(&str, &[&str])] = &[
    // For the thread-local variable see `signal::refresh_mask`.
    ("faultin/src/blocked.rs", &["thread_local!"]),
    ("faultin/src/fault.rs", &["fmt"]),
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

/// Other code that allocates, locks, formats, panics, or uses a thread-local variable, which allocates in a library loaded
/// by `dlopen`.
const OTHERS: &[&str] = &[
    "thread_local!",
    "extern \"C\" {",
    "vec![",
    "format!(",
    "println!(",
    "write!(",
    "panic!(",
    "unreachable!(",
    "todo!(",
    ".unwrap()",
    ".expect(",
    ".collect(",
    ".to_vec()",
    ".to_owned()",
    ".to_string()",
    ".leak()",
    ".lock()",
    ".with_borrow",
    "with_capacity(",
    "Box::new(",
    "Box::from_raw(",
    "Arc::new(",
    "Vec::new(",
    "String::",
    "Mutex::new(",
    "Once::new(",
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

/// The marker of a function or another item that does not run in signals.
const MARK: &str = "// Outside signals";

/// Returns a file's code without its tests, which come last.
fn code(text: &str) -> &str {
    let end = text.match_indices("\nmod tests {").next().map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// The calls in a file's code that runs in signal handlers, except in functions with the names of `others`, and in items
/// with the [`MARK`]: the number of the line, and the function.
fn calls(text: &str, others: &[&str]) -> Vec<(usize, String)> {
    let imports = imports(code(text));
    let (mut function, mut marked) = ("", None);
    let mut found = Vec::new();
    for (index, line) in code(text).lines().enumerate() {
        let depth = line.len() - line.trim_start().len();
        if line.trim_start().starts_with(MARK) {
            marked = Some((depth, false));
        }
        let is_comment = line.trim_start().starts_with("//");
        if let Some((_, rest)) = line.split_once("fn ").filter(|_| !is_comment) {
            function = rest.split(['(', '<']).next().unwrap_or_default();
        }
        if let Some(path) = called(line, &imports)
            .filter(|path| marked.is_none() && !others.contains(&function) && !others.contains(&path.as_str()))
        {
            found.push((index + 1, path));
        }
        // The item begins with its first line that is neither a comment nor an attribute, and ends at that depth.
        if let Some((at, has_begun)) = &mut marked {
            *has_begun |= !is_comment && !line.trim_start().starts_with("#[");
            if *has_begun && depth == *at && (line.ends_with('}') || line.ends_with(';')) {
                marked = None;
            }
        }
    }
    found
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Returns the files in folders named `inside`, by their paths in `crates`.
fn files_inside() -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.components().any(|part| part.as_os_str() == "inside")
            {
                let name = path.strip_prefix(crates()).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    SOURCES.iter().for_each(|source| walk(&crates().join(source), &mut found));
    found
}

#[test]
fn nothing_that_runs_in_a_signal_allocates_locks_or_calls_a_library() {
    let inside = files_inside();
    let of = |part: &str| inside.keys().filter(|name| name.contains(part)).count();
    assert!(of("faultin/src/signal/inside/") > 15 && of("faultin-cache/src/") > 15, "{:?}", inside.keys());
    let mut all: Vec<(String, Vec<(usize, String)>)> =
        inside.iter().map(|(name, text)| (name.clone(), calls(text, &[]))).collect();
    for &(name, others) in ACCESSES {
        let text = fs::read_to_string(crates().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        all.push((name.to_owned(), calls(&text, others)));
    }
    all.retain(|(_, found)| !found.is_empty());
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn functions_of_other_files_that_run_in_signals_do_neither() {
    for &(name, functions) in BESIDE {
        let text = fs::read_to_string(crates().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for function in functions {
            let start = format!("fn {function}(");
            let bodies: Vec<String> = code(&text)
                .split("\n    }\n")
                .flat_map(|item| item.split("\n}\n"))
                .filter_map(|item| Some(item[item.find(&start)?..].to_owned()))
                .collect();
            assert!(!bodies.is_empty(), "{name} has no {function}");
            for body in bodies {
                let found = calls(&body, &[]);
                assert!(found.is_empty(), "{name}, {function}: {found:?}");
            }
        }
    }
}

/// In `faultin`, nothing is marked, and imports stay inside, except from files that compile without `std`.
#[test]
fn the_handler_imports_nothing_but_what_runs_in_signals() {
    const LEAVES: &[&str] =
        &["crate::signal::inside", "crate::arch", "crate::table", "crate::fault", "crate::sync", "std::sync::Arc;"];
    for (name, text) in files_inside().iter().filter(|(name, _)| name.starts_with("faultin/")) {
        assert!(!text.contains(MARK), "{name}");
        for (index, line) in code(text).lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for (at, _) in line.match_indices("crate::").chain(line.match_indices("std::")) {
                let visibility = line[..at].ends_with("pub(in ");
                let is_leaf = LEAVES.iter().any(|leaf| line[at..].starts_with(leaf));
                assert!(visibility || is_leaf, "{name}:{}: {line}", index + 1);
            }
            assert!(!line.contains("super::super"), "{name}:{}: {line}", index + 1);
        }
    }
}

#[test]
fn a_call_is_found() {
    let text = "fn new() {\n    rustix::fs::ftruncate(&file, 1);\n}\nfn serve() {\n    let e: libc::c_int = libc::EINVAL; // libc::no()\n    \
                unsafe { libc::syscall(libc::SYS_read) };\n}\n#[cfg(test)]\nmod tests {\n    libc::fork();\n}\n";
    let found = |line: usize, path: &str| (line, path.to_string());
    assert_eq!(calls(text, &["new"]), [found(6, "libc::syscall")]);
    let marked = format!("// Outside signals: it opens.\n#[cold]\n{text}");
    assert_eq!(calls(&marked, &[]), [found(8, "libc::syscall")]);
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
