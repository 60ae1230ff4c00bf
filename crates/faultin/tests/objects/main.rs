//! Several objects in one process, each with its own copy of the crate: one registry, one handler, and every fault
//! recovered, however they are built, linked, loaded and unloaded.
//!
//! This test builds the objects from `fixtures/`; a host executable loads them and runs the steps of a row.

// Without the crate's assembly there is no handler.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

mod build;
mod elf;

use std::path::{Path, PathBuf};

use build::{Build, built};
use elf::Elf;

/// Steps of the host that contains the crate itself, as `h`.
const WITH: &[&str] = &[
    // Every order of three; the first one to install finds all three, and the others change nothing.
    "open a, open b, install h, handler, install a, install b, handler, fault h, fault a, fault b",
    "open a, open b, install h, handler, install b, install a, handler, fault h, fault a, fault b",
    "open a, open b, install a, handler, install h, install b, handler, fault h, fault a, fault b",
    "open a, open b, install a, handler, install b, install h, handler, fault h, fault a, fault b",
    "open a, open b, install b, handler, install h, install a, handler, fault h, fault a, fault b",
    "open a, open b, install b, handler, install a, install h, handler, fault h, fault a, fault b",
    // One installation handles the faults of all loaded objects.
    "open a, open b, install h, fault a, fault b, fault h, agree a h, agree a b, status a D, status b D",
    "open a, open b, install b, fault a, fault b, fault h, agree a h, agree a b, status h D, status a D",
    // Loaded after the installation: unknown until it installs itself.
    "install h, handler, open a, status a N, install a, status a D, handler, fault a, fault h, agree h a",
    "open a, install a, handler, open b, install b, handler, fault a, fault b, install h, fault h, agree h b",
    // Global symbols: hidden symbols remain separate for each object.
    "global a, global b, install b, install a, install h, fault h, fault a, fault b, agree a b, agree h a",
    // An object that has installed stays loaded, with its tables and handler, even if it is closed.
    "open a, install a, handler, close a, mapped a, fault a, install h, handler, fault h, agree a h",
    "open a, open b, install b, close a, close b, mapped a, mapped b, fault a, fault b, agree a b, install h, fault h",
    "open a, install h, close a, mapped a, open a, fault a, install a, fault a, agree h a",
    "open a, close a, open b, install h, fault b, fault h",
    // At the same time.
    "open a, open b, race a b, handler, agree a b, fault h, install h, handler, agree a h",
    "open a, race h a, handler, agree a h, open b, install b, agree b h, handler",
];

/// Steps of the host that does not contain the crate.
const WITHOUT: &[&str] = &[
    "open a, open b, install a, handler, install b, handler, fault a, fault b, agree a b, status a D, status b D",
    "open a, open b, install b, handler, install a, handler, fault a, fault b, agree a b",
    "open a, install a, handler, open b, status b N, install b, handler, fault a, fault b, agree a b",
    "open a, install a, close a, mapped a, open b, install b, fault a, fault b, agree a b, close b, fault b",
    "open a, open b, install a, close b, close a, mapped a, mapped b, fault a, fault b, agree a b",
    "global a, global b, install b, fault a, fault b, agree a b",
    "open a, open b, race a b, handler, agree a b, install a, install b, handler",
];

#[test]
fn objects_share_one_registry_and_one_handler_in_every_order() {
    play(Build::Plain, WITH, WITHOUT);
}

#[test]
fn two_objects_that_install_at_the_same_time_agree() {
    let with = ["open a, open b, race a b, agree a b, fault h, agree a h, status a D"; 15];
    let without = ["open a, open b, race a b, agree a b, status a D, status b D"; 15];
    play(Build::Plain, &with, &without);
}

/// The thread-local variables of a library loaded by `dlopen` are allocated when a thread first uses one.
#[test]
fn accesses_for_handlers_use_no_variable_of_the_thread() {
    let row = "open a, quiet a, quiet a, install a, quiet a, close a, quiet a";
    play(Build::Plain, &["open a, quiet a, install h, quiet a, quiet h"], &[row]);
}

/// Notes, records and tables, and a few rows, for each kind of build.
#[test]
fn every_build_keeps_one_record_one_note_and_the_whole_table() {
    for build in [Build::Plain, Build::ManyUnits, Build::Lto, Build::GnuLd] {
        let Some(folder) = folder(build) else { continue };
        let (plugin, with) = (Elf::read(&folder.join("libplugin.so")), Elf::read(&folder.join("with")));
        let entries = [plugin.check_table(), with.check_table()];
        let lld = [plugin.is_linked_by_lld(), with.is_linked_by_lld()];
        println!("{build:?}: entries {entries:?}, linked by lld {lld:?}");
        assert!(entries.iter().all(|n| *n > 50), "{build:?}: {entries:?} entries");
        if build == Build::GnuLd {
            assert_eq!(lld, [false; 2], "{build:?}");
        } else if cfg!(target_arch = "x86_64") {
            // Rust's default on this target.
            assert_eq!(lld, [true; 2], "{build:?}");
        }
        play(build, &WITH[..3], &WITHOUT[..1]);
    }
}

/// A load that is inlined across the boundary of a dynamic library has its table entry in the inlining object.
#[test]
fn inlined_loads_of_a_dynamic_library_are_the_executables_own() {
    let Some(folder) = folder(Build::Dynamic) else { return };
    let library = Elf::read(&folder.join("libshared.so")).check_table();
    let inlined = Elf::read(&folder.join("inlined")).check_table();
    assert!(library > 50, "{library}");
    assert!((1..10).contains(&inlined), "{inlined}");
    run(&folder.join("inlined"), "");
}

#[test]
fn executable_without_accesses_of_its_own_links_and_installs() {
    let Some(folder) = folder(Build::Dynamic) else { return };
    assert_eq!(Elf::read(&folder.join("only_install")).check_table(), 0);
    run(&folder.join("only_install"), "");
}

/// The artifacts, or `None` if this machine cannot build them.
fn folder(build: Build) -> Option<PathBuf> {
    built(build).inspect_err(|missing| faultin_test::skipped("toolchain", format_args!("{build:?}: {missing}"))).ok()
}

fn play(build: Build, with: &[&str], without: &[&str]) {
    let Some(folder) = folder(build) else { return };
    for (host, rows) in [("with", with), ("without", without)] {
        // A copy of the library under another name, so that it is in the process twice.
        let own = folder.join(format!("{host}-{:?}", std::thread::current().id()));
        std::fs::create_dir_all(&own).unwrap();
        for plugin in ["plugin_a.so", "plugin_b.so"] {
            std::fs::copy(folder.join("libplugin.so"), own.join(plugin)).unwrap();
        }
        std::fs::copy(folder.join(host), own.join(host)).unwrap();
        for row in rows {
            run(&own.join(host), row);
        }
        std::fs::remove_dir_all(&own).unwrap();
    }
}

/// Runs a fixture and prints everything if it fails.
fn run(exe: &Path, row: &str) {
    let mut command = faultin_test::processes::run(exe);
    command.args(row.split(", ").filter(|step| !step.is_empty()));
    let folder = exe.parent().unwrap();
    command.env("LD_LIBRARY_PATH", format!("{}:{}", folder.display(), rust_libraries().display()));
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", exe.display()));
    assert!(
        output.status.success(),
        "{}: {row}: {}\n{}",
        exe.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The folder of the target's dynamic standard library.
fn rust_libraries() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc)
        .args(["--print", "target-libdir", "--target", &faultin_test::processes::target()])
        .output()
        .expect("rustc is there: it has built this");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
