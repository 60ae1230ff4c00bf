//! The library as C sees it: programs that are compiled with the header and linked with the library, static and shared.
//!
//! The library is built here as `make install` builds it, but not optimised as a release.

// Without the crate's assembly there is no handler.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use common::{HERE, Link, dies_past_the_end, has_shared, library, program, run, tool};
use faultin_test::{is_emulated, skipped};

/// Reports a program that has ended with the status 77: this system has no memory that fails in the way that is in its arguments.
fn skip_kind(name: &str, arguments: &[&str], stdout: &[u8]) {
    let need = if arguments.contains(&"unreadable") { "uffd" } else { "mount" };
    skipped(need, format_args!("{name} {arguments:?}: {}", text(stdout).trim()));
}

/// Runs a program that must succeed. A status of 77 is a skip.
fn passes(name: &str, link: Link, arguments: &[&str]) {
    let Some(program) = program(name, link) else { return };
    if arguments.contains(&"truncated") && dies_past_the_end() {
        return;
    }
    let output = run(&program, arguments);
    if output.status.code() == Some(77) {
        return skip_kind(name, arguments, &output.stdout);
    }
    assert!(output.status.success(), "{name} {arguments:?} {link:?}: {}\n{}", output.status, text(&output.stderr));
}

/// Runs the naive twin of a program: it must die by this signal.
fn dies(name: &str, arguments: &[&str], signal: i32) {
    let Some(program) = program(name, Link::Static) else { return };
    let output = run(&program, arguments);
    if output.status.code() == Some(77) {
        return skip_kind(name, arguments, &output.stdout);
    }
    // An emulator may die by the signal, or say so by its status.
    let died = output.status.signal() == Some(signal) || output.status.code() == Some(128 + signal);
    assert!(died, "{name} {arguments:?}: {}", output.status);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const KINDS: [(&str, i32); 4] = [
    ("truncated", libc::SIGBUS),
    ("unreadable", libc::SIGBUS),
    ("no-space", libc::SIGBUS),
    ("protected", libc::SIGSEGV),
];

#[test]
fn accesses_by_the_kernel_survive_every_fault() {
    KINDS.iter().for_each(|(kind, _)| passes("accesses", Link::Static, &["kernel", kind]));
}

#[test]
fn accesses_with_the_handler_survive_every_fault() {
    KINDS.iter().for_each(|(kind, _)| passes("accesses", Link::Static, &["installed", kind]));
    passes("accesses", Link::Shared, &["installed", "truncated"]);
}

#[test]
fn accesses_with_the_handler_of_a_host_survive_every_fault() {
    KINDS.iter().for_each(|(kind, _)| passes("accesses", Link::Static, &["host", kind]));
    passes("accesses", Link::Shared, &["host", "protected"]);
}

#[test]
fn their_naive_twin_dies() {
    KINDS.iter().for_each(|(kind, signal)| dies("accesses", &["naive", kind], *signal));
}

#[test]
fn maps_and_guards_report_truncation_and_a_full_disk() {
    passes("maps", Link::Static, &["kernel"]);
    passes("maps", Link::Static, &["installed"]);
    passes("maps", Link::Shared, &["installed"]);
    dies("maps", &["naive"], libc::SIGBUS);
}

#[test]
fn a_length_of_0_is_never_short() {
    passes("contracts", Link::Static, &["zero-lengths", "kernel"]);
    passes("contracts", Link::Static, &["zero-lengths", "installed"]);
}

#[test]
fn a_change_after_the_last_byte_is_a_short_read() {
    passes("contracts", Link::Static, &["changes", "kernel"]);
    passes("contracts", Link::Static, &["changes", "installed"]);
}

#[test]
fn a_reservation_past_the_end_makes_file_and_map_longer() {
    passes("contracts", Link::Static, &["allocate", "kernel"]);
    passes("contracts", Link::Static, &["allocate", "installed"]);
}

#[test]
fn a_guard_over_a_mapping_of_the_caller_is_no_copy() {
    passes("contracts", Link::Static, &["over", "kernel"]);
    passes("contracts", Link::Static, &["over", "installed"]);
}

#[test]
fn a_child_has_maps_and_guards_of_its_own() {
    passes("contracts", Link::Static, &["fork", "kernel"]);
    passes("contracts", Link::Static, &["fork", "installed"]);
}

#[test]
fn a_test_file_that_was_not_made_is_closed_without_harm() {
    passes("contracts", Link::Static, &["test-files"]);
}

#[test]
fn a_system_without_namespaces_has_no_full_disk() {
    let Some(program) = program("contracts", Link::Static) else { return };
    let limited = r#"echo 0 >/proc/sys/user/max_mnt_namespaces || exit 77; exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-c", limited, "sh"]);
    // An emulator may be between the shell and the program.
    let inner = faultin_test::processes::run(&program);
    command.arg(inner.get_program()).args(inner.get_args()).arg("no-namespaces");
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if text(&output.stderr).contains("contracts.c") => panic!("{}", text(&output.stderr)),
        output => skipped("mount", format_args!("a user namespace with limits of its own: {output:?}")),
    }
}

#[test]
fn explanations_are_installed_when_the_call_returns() {
    for _ in 0..50 {
        passes("contracts", Link::Static, &["install-race"]);
    }
}

#[test]
fn nothing_is_installed_or_allocated_unless_asked() {
    passes("quiet", Link::Static, &[]);
    passes("quiet", Link::Shared, &[]);
}

/// Runs `explain`, and returns what it said and the signal it died by.
fn explained(arguments: &[&str]) -> Option<(String, Option<i32>)> {
    let program = program("explain", Link::Static)?;
    let Output { status, stdout, stderr } = run(&program, arguments);
    if status.code() == Some(77) {
        skip_kind("explain", arguments, &stdout);
        return None;
    }
    // What an emulator adds when a program dies is not the program's.
    let lines = text(&stdout) + &text(&stderr);
    let lines = lines.lines().filter(|line| !line.starts_with("qemu: uncaught target signal"));
    Some((lines.map(|line| format!("{line}\n")).collect(), status.signal()))
}

/// Returns what an explanation calls an access: an emulator's signals do not tell a load from a store.
fn called(access: &str) -> &str {
    if is_emulated() && cfg!(target_arch = "aarch64") { "access" } else { access }
}

#[test]
fn a_store_on_a_full_disk_is_explained_and_dies_as_before() {
    let page = faultin::page_size();
    let Some((line, signal)) = explained(&["no-space"]) else { return };
    assert_eq!(signal, Some(libc::SIGBUS), "{line}");
    assert!(line.starts_with(&format!("faultin: SIGBUS: {} at byte {} of /", called("store"), 2 * page + 3)), "{line}");
    let full = format!("no space left on its tmpfs ({} KiB, 0 bytes free); hint: free space", 2 * page / 1024);
    assert!(line.contains(&full), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn a_truncated_file_is_explained_by_its_path_or_its_descriptor() {
    let page = faultin::page_size();
    let Some((line, signal)) = explained(&["truncated"]) else { return };
    assert_eq!(signal, Some(libc::SIGBUS), "{line}");
    let ends = format!("past the end of the file: it has {} bytes (mapped up to byte {})", page + 10, 4 * page);
    assert!(line.contains("/memfd:faultin-test (deleted): ") && line.contains(&ends), "{line}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a \x1b[31m\nname");
    std::fs::write(&path, [1; 10]).unwrap();
    let Some((line, signal)) = explained(&["path", path.to_str().unwrap()]) else { return };
    assert_eq!(signal, Some(libc::SIGBUS), "{line}");
    assert!(line.starts_with(&format!("faultin: SIGBUS: {} at byte {} of /", called("load"), 2 * page + 1)), "{line}");
    assert!(line.contains("a \\x1b[31m\\x0aname: past the end of the file: it has 10 bytes"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

/// On btrfs, the list of mappings has another device than the file has.
#[test]
fn a_file_on_btrfs_is_explained() {
    const SCRIPT: &str = r#"
truncate -s 128M "$1/image" && mkfs.btrfs -q "$1/image" && mkdir "$1/disk" || exit 77
mount -o loop "$1/image" "$1/disk" || exit 77
printf 0123456789 > "$1/disk/file"
shift
"$@"
echo "status $?"
"#;
    let Some(program) = program("explain", Link::Static) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", SCRIPT, "sh"]).arg(folder.path());
    let inner = faultin_test::processes::run(&program);
    command.arg(inner.get_program()).args(inner.get_args());
    let output = command.arg("path").arg(folder.path().join("disk/file")).output();
    let said = output.as_ref().map(|output| text(&output.stdout) + &text(&output.stderr)).unwrap_or_default();
    if !said.contains("status ") {
        return skipped("btrfs", format_args!("mkfs.btrfs, and a mount of it: {output:?}"));
    }
    assert!(said.contains(&format!("status {}", 128 + libc::SIGBUS)), "{said}");
    assert!(said.contains("disk/file: past the end of the file: it has 10 bytes"), "{said}");
}

#[test]
fn other_signals_are_explained_as_what_they_are() {
    let Some((line, signal)) = explained(&["segv"]) else { return };
    let says = format!("SIGSEGV: {} at byte", called("store"));
    assert_eq!((line.contains(&says), signal), (true, None), "{line}");
    assert!(line.contains(": the mapping does not permit it"), "{line}");
    let Some((line, signal)) = explained(&["sent"]) else { return };
    assert_eq!(signal, Some(libc::SIGBUS), "{line}");
    assert!(line.contains("not a fault: the signal was sent"), "{line}");
    assert_eq!(explained(&["recovered"]), Some((String::new(), None)));
}

#[test]
fn the_header_is_c99_and_cpp_without_a_warning() {
    let mut tried = 0;
    for (compiler, standard) in
        [("cc", "c99"), ("gcc", "c99"), ("clang", "c99"), ("c++", "c++11"), ("clang++", "c++11")]
    {
        // (In an emulator of user mode, a missing program is a child that fails: QEMU's `vfork` is a `fork`.)
        if !Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).args(common::WARNINGS).args(["-fsyntax-only", "-I"]);
        command.arg(format!("{HERE}/include"));
        if standard.starts_with("c++") {
            command.args(["-x", "c++"]);
        }
        let output = command.arg(format!("{HERE}/tests/c/layout.c")).output().unwrap();
        assert!(output.status.success(), "{compiler} -std={standard}:\n{}", text(&output.stderr));
        tried += 1;
    }
    if tried == 0 {
        skipped("toolchain", "no C compiler");
    }
}

/// Returns the functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(format!("{HERE}/include/faultin.h")).unwrap();
    let mut names = BTreeSet::new();
    let mut is_comment = false;
    for line in header.lines() {
        is_comment |= line.trim_start().starts_with("/*");
        if !is_comment {
            let before = line.split('(').next().filter(|before| before.len() < line.len());
            let name = before.and_then(|before| before.rsplit([' ', '*']).next());
            names.extend(name.filter(|name| name.starts_with("faultin_")).map(str::to_owned));
        }
        is_comment &= !line.contains("*/");
    }
    names
}

/// Returns the symbols that `nm` lists as defined in a file.
fn symbols(file: &std::path::Path, option: &str) -> Option<BTreeSet<String>> {
    let output = tool("nm", &[option, "--defined-only", "--extern-only", "--format=posix"], file)?;
    let names = output.lines().filter_map(|line| line.split(' ').next());
    Some(names.map(str::to_owned).collect())
}

#[test]
fn symbols_are_those_of_the_list_and_of_the_header() {
    let list = std::fs::read_to_string(format!("{HERE}/symbols.txt")).unwrap();
    let list: BTreeSet<String> = list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(declared(), list, "the header and symbols.txt");
    let Some(library) = library() else { return };
    if has_shared(library) {
        let Some(exported) = symbols(&library.shared, "--dynamic") else { return };
        assert_eq!(exported, list, "{} and symbols.txt", library.shared.display());
    }
    let Some(all) = symbols(&library.archive, "--no-demangle") else { return };
    // (The record of the exception table is hidden: an archive has it, and nothing that links with it exports it.)
    let is_ours = |name: &String| name.starts_with("faultin_") && !name.starts_with("faultin_object_");
    let ours: BTreeSet<String> = all.into_iter().filter(is_ours).collect();
    assert_eq!(ours, list, "{} and symbols.txt", library.archive.display());
}

/// Returns the comments of the header's functions, by the functions' names.
fn comments() -> Vec<(String, String)> {
    let header = std::fs::read_to_string(format!("{HERE}/include/faultin.h")).unwrap();
    // (The first comment is that of the file.)
    let parts = header.split("\n/**\n").skip(1).filter_map(|part| part.split_once(" */\n"));
    let functions = parts.filter_map(|(comment, code)| {
        let (before, _) = code.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        // (The comments in an enumeration name functions.)
        (name.starts_with("faultin_") && !before.contains("/*"))
            .then(|| (name.to_owned(), comment.replace("\n *", "").replace("  ", " ")))
    });
    functions.collect()
}

#[test]
fn each_function_says_whether_it_is_async_signal_safe() {
    let comments = comments();
    let names: BTreeSet<String> = comments.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, declared());
    let silent = comments.iter().filter(|(_, comment)| !comment.to_lowercase().contains("async-signal-safe"));
    assert_eq!(silent.map(|(name, _)| name).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_man_page_names_each_function() {
    let page = std::fs::read_to_string(format!("{HERE}/man/faultin.3")).unwrap();
    let page = page.replace("\\fB", " ");
    let words: BTreeSet<&str> = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '\\').collect();
    // One name stands for the four sizes: `faultin_load_u\fIN\fR`.
    let is_named = |name: &String| {
        let family = name.trim_end_matches(|c: char| c.is_ascii_digit());
        words.contains(&**name) || name != family && words.contains(&*format!("{family}\\fIN\\fR"))
    };
    let missing: Vec<String> = declared().into_iter().filter(|name| !is_named(name)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The commands of docs/c.md for programs that have the library inside, with and without glibc itself.
#[test]
fn the_archive_is_linked_as_the_manual_says() {
    // Sanitizers have no archives for this, and musl's programs are all static.
    if std::env::var("FAULTIN_C_FLAGS").is_ok_and(|flags| !flags.is_empty()) {
        return;
    }
    for link in [Link::Archive, Link::Whole] {
        passes("accesses", link, &["installed", "protected"]);
        passes("maps", link, &["installed"]);
        passes("contracts", link, &["install-race"]);
        let Some(program) = program("maps", link) else { return };
        let Some(dynamic) = tool("readelf", &["--dynamic", "--wide"], &program) else { return };
        assert!(!dynamic.contains("libfaultin"), "{dynamic}");
        assert_eq!(dynamic.contains("libc.so"), link == Link::Archive, "{dynamic}");
    }
}

/// `make` passes what cargo's build understands, also where other commands of cargo do not.
#[test]
fn options_for_cargo_leave_the_version_alone() {
    let make = |options: &[&str]| {
        let mut make = Command::new("make");
        make.args(["--dry-run", "--no-print-directory", "-C", HERE, "install"]).args(options);
        make.env_remove("MAKEFLAGS").output()
    };
    let Ok(plain) = make(&[]) else { return skipped("toolchain", "no make") };
    for options in ["-j2", "--jobs 2 --offline", "--quiet --config net.offline=true"] {
        let with = make(&[&format!("CARGOFLAGS={options}")]).unwrap();
        assert!(with.status.success(), "{options}: {}", text(&with.stderr));
        let said = text(&with.stdout);
        let version = format!("/libfaultin.so.{}\"", env!("CARGO_PKG_VERSION"));
        assert!(said.contains("-soname,libfaultin.so.0 ") && said.contains(&version), "{options}: {said}");
        assert_eq!(said.replace(&format!(" {options} "), "  "), text(&plain.stdout), "{options}");
    }
    let without = make(&["CARGO=false"]).unwrap();
    assert!(!without.status.success(), "{}", text(&without.stdout));
}

#[test]
fn the_shared_library_has_a_versioned_name() {
    let Some(library) = library().filter(|library| has_shared(library)) else { return };
    let Some(dynamic) = tool("readelf", &["--dynamic", "--wide"], &library.shared) else { return };
    assert!(dynamic.contains("soname: [libfaultin.so.0]"), "{dynamic}");
}

/// Loaded and closed: it is unloaded if nothing was installed, and stays if the handler is in it.
#[test]
fn a_library_that_is_closed_leaves_no_dangling_handler() {
    passes("loaded", Link::Load, &["quiet"]);
    passes("loaded", Link::Load, &["installed"]);
    passes("loaded", Link::Load, &["explain"]);
    passes("loaded", Link::Load, &["twice"]);
}
