//! The C library as a distribution has it: installed under a prefix by `make install`, and its programs compiled and linked
//! as pkg-config says, static and shared, with each compiler, sanitizer and C library that this machine has; and for aarch64, under
//! emulation of user mode and on a kernel of its own.
//!
//! The programs, and what they must do, are those of the tests of `faultin-c`, which take the installed library instead of
//! building one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::aarch64::{self, Cross};
use super::aarch64_vm::Contents;
use super::{Stop, debian, has_command, has_std_for, home, output, succeed, workspace};

pub(super) const ABOUT: &str = "the C library, installed, with every compiler, C library and sanitizer of this machine";

/// Arguments of `cargo xtask env c`.
#[derive(clap::Args)]
pub struct Args {
    /// Write crates/faultin-c/abi.xml, which the ABI is compared with, instead of running anything
    #[arg(long)]
    abi: bool,
    /// Only these parts: gcc, clang, address, undefined, thread, examples, musl, abi, cargo-c, aarch64, aarch64-vm
    #[arg(value_name = "PART")]
    parts: Vec<String>,
}

/// The sanitizers' own handlers of faults would report faults that are intended; these are the program's.
const ASAN: &str = "handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0";

/// A compiler and options for the programs.
struct Round {
    part: &'static str,
    compiler: &'static str,
    flags: &'static str,
    /// Variables of the programs.
    options: &'static [(&'static str, &'static str)],
}

const ROUNDS: [Round; 5] = [
    Round { part: "gcc", compiler: "gcc", flags: "", options: &[] },
    Round { part: "clang", compiler: "clang", flags: "", options: &[] },
    Round { part: "address", compiler: "gcc", flags: "-fsanitize=address", options: &[("ASAN_OPTIONS", ASAN)] },
    Round { part: "undefined", compiler: "gcc", flags: "-fsanitize=undefined -fno-sanitize-recover=all", options: &[] },
    Round {
        part: "thread",
        compiler: "gcc",
        flags: "-fsanitize=thread",
        // Its handlers are called directly for signals of instructions.
        options: &[("TSAN_OPTIONS", "handle_segv=0:handle_sigbus=0:allow_user_segv_handler=1:use_sigaltstack=0")],
    },
];

const MUSL: &str = "x86_64-unknown-linux-musl";

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let failed = |error: String| Stop::Failed(error);
    if args.abi {
        let stubs = stubs().map_err(failed)?;
        let mut abidw = Command::new("abidw");
        abidw.args(["--no-show-locs", "--no-corpus-path", "--no-comp-dir-path", "--out-file"]).arg(abi()).arg(stubs);
        return succeed(&mut abidw).map_err(failed);
    }
    let wants = |part: &str| args.parts.is_empty() || args.parts.iter().any(|wanted| wanted == part);
    let mut missing = Vec::new();
    let prefix = home("c").join("prefix");
    install_packages(wants);
    if args.parts.is_empty() || args.parts.iter().any(|part| !part.starts_with("aarch64")) {
        install(&prefix, &[], None).map_err(failed)?;
    }
    for round in ROUNDS.iter().filter(|round| wants(round.part)) {
        match compiler(round) {
            Some(compiler) => test(round, &compiler, &prefix, None).map_err(failed)?,
            None => missing.push(format!("{} ({})", round.part, round.compiler)),
        }
    }
    if wants("examples") {
        examples(&prefix, None).map_err(failed)?;
    }
    if wants("musl") {
        if has_command("musl-gcc") && cfg!(target_arch = "x86_64") && has_std_for(MUSL) {
            let prefix = home("c").join("musl");
            install(&prefix, &[&format!("TARGET={MUSL}")], None).map_err(failed)?;
            let round = Round { part: "musl", compiler: "musl-gcc", flags: "-static", options: &[] };
            test(&round, "musl-gcc", &prefix, None).map_err(failed)?;
        } else {
            missing.push("musl (musl-gcc, and Rust's standard library for it)".into());
        }
    }
    if wants("abi") {
        if has_command("abidiff") && cfg!(target_arch = "x86_64") {
            println!("\n--- abidiff");
            let stubs = stubs().map_err(failed)?;
            succeed(Command::new("abidiff").arg(abi()).arg(stubs)).map_err(failed)?;
        } else {
            missing.push("abi (abidiff)".into());
        }
    }
    if wants("cargo-c") {
        if has_command("cargo-cinstall") {
            cargo_c(&prefix).map_err(failed)?;
        } else {
            missing.push("cargo-c".into());
        }
    }
    // The second part runs the programs that the first one compiles.
    if wants("aarch64") || wants("aarch64-vm") {
        match for_aarch64(wants("aarch64-vm")) {
            Err(Stop::Skipped(why)) => missing.push(format!("aarch64 ({why})")),
            result => result?,
        }
    }
    match missing[..] {
        [] => Ok(()),
        _ => Err(Stop::Skipped(format!("no {}", missing.join(", ")))),
    }
}

fn package() -> PathBuf {
    workspace().join("crates/faultin-c")
}

fn abi() -> PathBuf {
    package().join("abi.xml")
}

/// Returns the command of a round's compiler: Debian's clang may have its version in the name alone.
fn compiler(round: &Round) -> Option<String> {
    let versions = (11..30).rev().map(|version| format!("{}-{version}", round.compiler));
    std::iter::once(round.compiler.to_owned()).chain(versions).find(|name| has_command(name))
}

/// Installs the library under a prefix that has nothing else in it. `cross` is for another architecture.
fn install(prefix: &Path, variables: &[&str], cross: Option<&Cross>) -> Result<(), String> {
    println!("\n--- make install PREFIX={} {}", prefix.display(), variables.join(" "));
    let _ = fs::remove_dir_all(prefix);
    let mut make = Command::new("make");
    make.arg("-C").arg(package()).arg("install").arg(format!("PREFIX={}", prefix.display()));
    make.arg(format!("BUILD={}", home("c").join("build").display())).args(variables);
    // An option that the build has, and other commands of cargo do not.
    make.arg("CARGOFLAGS=-j2");
    succeed(for_target(&mut make, cross))?;
    // What a package has to contain, and nothing else.
    let mut files = Vec::new();
    list(prefix, prefix, &mut files)?;
    files.sort();
    println!("{}", files.join(" "));
    let expected = ["include/faultin.h", "lib/libfaultin.a", "lib/pkgconfig/faultin.pc", "share/man/man3/faultin.3"];
    // (A musl target of rustup has a library of its own to unwind the stack.)
    let is_library = |file: &String| file.starts_with("lib/libfaultin.so") || file == "lib/libfaultin-unwind.a";
    let shared = files.iter().filter(|file| is_library(file)).count();
    let is_versioned = shared < 3 || files.iter().any(|file| file == "lib/libfaultin.so.0");
    let others: Vec<_> = files.iter().filter(|file| !is_library(file)).collect();
    let is_musl = variables.iter().any(|variable| variable.ends_with("musl"));
    let shared_expected = if is_musl { 0..=1 } else { 3..=3 };
    if others == expected.iter().collect::<Vec<_>>() && shared_expected.contains(&shared) && is_versioned {
        return Ok(());
    }
    Err(format!("make install made {files:?}"))
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            list(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path);
            files.push(name.display().to_string());
        }
    }
    Ok(())
}

/// What tests for another architecture must not lack. (Emulation lacks some of what this machine has.)
const CROSS_NEEDS: &str = "pkg-config,toolchain";
/// What they must not lack in an emulated machine, which has no compiler.
const MACHINE_NEEDS: &str = "mount,native";

/// Adds cargo's variables for another architecture.
fn for_target<'a>(command: &'a mut Command, cross: Option<&Cross>) -> &'a mut Command {
    if cross.is_some() {
        command.env("FAULTIN_REQUIRE", CROSS_NEEDS);
    }
    command.envs(cross.into_iter().flat_map(|cross| cross.variables.iter().cloned()))
}

/// Runs the tests of the package with an installed library.
fn test(round: &Round, compiler: &str, prefix: &Path, cross: Option<&Cross>) -> Result<(), String> {
    println!("\n--- {}: {compiler} {}", round.part, round.flags);
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["test", "--package", "faultin-c", "--test", "c"]);
    cargo.env("FAULTIN_C_PREFIX", prefix).env("FAULTIN_C_COMPILER", compiler).env("FAULTIN_C_FLAGS", round.flags);
    cargo.envs(round.options.iter().copied());
    succeed(for_target(&mut cargo, cross))
}

/// Runs tests and example programs under emulation of user mode, and then in an emulated machine, which needs no compiler: the
/// programs are there by then.
fn for_aarch64(in_machine: bool) -> Result<(), Stop> {
    let failed = |error: String| Stop::Failed(error);
    let cross = aarch64::emulated()?;
    let prefix = home("c").join("aarch64");
    install(&prefix, &[&format!("TARGET={}", aarch64::TARGET)], Some(&cross)).map_err(failed)?;
    let programs = cross.target().join("tmp/programs");
    let _ = fs::remove_dir_all(&programs);
    let round = Round { part: "aarch64", compiler: aarch64::LINKER, flags: "", options: &[] };
    test(&round, round.compiler, &prefix, Some(&cross)).map_err(failed)?;
    examples(&prefix, Some(&cross)).map_err(failed)?;
    if !in_machine {
        return Ok(());
    }
    println!("\n--- aarch64-vm");
    let mut contents = Contents::default();
    contents.add_tests(&cross, &["--package", "faultin-c", "--test", "c", "--test", "examples"], &[])?;
    let mut files = Vec::new();
    list(&programs, &programs, &mut files).map_err(failed)?;
    contents.binaries.extend(files.iter().map(|name| programs.join(name)));
    contents.binaries.extend(["libfaultin.so.0", "libsecond.so"].map(|name| prefix.join("lib").join(name)));
    contents.files.extend(["include/faultin.h", "man/faultin.3", "symbols.txt"].map(|name| package().join(name)));
    let text = |path: PathBuf| path.display().to_string();
    contents.variables = vec![
        ("FAULTIN_C_PREFIX", text(prefix)),
        ("FAULTIN_C_PROGRAMS", text(programs)),
        ("FAULTIN_REQUIRE", MACHINE_NEEDS.into()),
    ];
    contents.boot()
}

/// Debian's packages that parts need, and a file of each. The tests of every part need pkg-config.
const PACKAGES: [(&str, &str, &str); 8] = [
    ("", "pkg-config", "/usr/bin/pkg-config"),
    ("", "btrfs-progs", "/usr/sbin/mkfs.btrfs"),
    ("clang", "clang", "/usr/bin/clang"),
    ("musl", "musl-tools", "/usr/bin/musl-gcc"),
    ("abi", "abigail-tools", "/usr/bin/abidiff"),
    ("examples", "libwayland-dev", "/usr/include/wayland-server.h"),
    ("examples", "golang-go", "/usr/bin/go"),
    ("examples", "default-jdk-headless", "/usr/bin/javac"),
];

/// Installs what the parts need. What cannot be installed here is skipped later.
fn install_packages(wants: impl Fn(&str) -> bool) {
    let is_missing = |part: &str, file: &str| (part.is_empty() || wants(part)) && !Path::new(file).exists();
    let missing = PACKAGES.iter().filter(|(part, _, file)| is_missing(part, file));
    let missing: Vec<&str> = missing.map(|&(_, package, _)| package).collect();
    if missing.is_empty() || !has_command("apt-get") {
        return;
    }
    let apt = |arguments: &[&str]| debian::apt(Command::new("apt-get").args(arguments));
    let install = || apt(&[&["install", "-qq", "-y", "--no-install-recommends"][..], &missing].concat());
    // The lists may be missing, or name versions that have been replaced.
    if let Err(why) = install().or_else(|_| apt(&["update", "-qq"]).and_then(|()| install())) {
        eprintln!("{why}");
    }
}

/// Runs the example programs with an installed library.
fn examples(prefix: &Path, cross: Option<&Cross>) -> Result<(), String> {
    println!("\n--- examples");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["test", "--package", "faultin-c", "--test", "examples"]);
    cargo.env("FAULTIN_C_PREFIX", prefix);
    if cross.is_some() {
        cargo.env("FAULTIN_C_COMPILER", aarch64::LINKER);
    }
    succeed(for_target(&mut cargo, cross))
}

/// Compiles the declarations of the header with empty bodies: a shared object whose debug information is the interface as C
/// has it, and nothing of what is behind it. (Of the library itself abidiff 2.2 compares the symbols alone, because it finds no function
/// in Rust's debug information. `cargo xtask header --check` compares the header with the source.)
fn stubs() -> Result<PathBuf, String> {
    let folder = home("c").join("abi");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let header = fs::read_to_string(package().join("include/faultin.h")).map_err(|error| error.to_string())?;
    // Declarations of functions, and nothing else, end with a parenthesis and a semicolon.
    let source = format!("{}\n", header.replace(");\n", ") { __builtin_trap(); }\n"));
    let (file, object) = (folder.join("stubs.c"), folder.join("libfaultin.so.0"));
    fs::write(&file, source).map_err(|error| error.to_string())?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-g", "-O0", "-fPIC", "-shared", "-Wl,-soname,libfaultin.so.0", "-o"]).arg(&object).arg(&file);
    succeed(&mut gcc)?;
    Ok(object)
}

/// Installs with cargo-c, and compares with `make install`: the same header, and the same exported symbols.
fn cargo_c(prefix: &Path) -> Result<(), String> {
    let other = home("c").join("cargo-c");
    println!("\n--- cargo cinstall --prefix {}", other.display());
    let _ = fs::remove_dir_all(&other);
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["cinstall", "--package", "faultin-c", "--release", "--libdir", "lib"]);
    cargo.arg("--prefix").arg(&other).arg("--target-dir").arg(home("c").join("cargo-c-build"));
    succeed(&mut cargo)?;
    let read = |path: PathBuf| fs::read(&path).map_err(|error| format!("{}: {error}", path.display()));
    if read(other.join("include/faultin.h"))? != read(prefix.join("include/faultin.h"))? {
        return Err("cargo-c installs another header".into());
    }
    let symbols = |prefix: &Path| {
        output(
            Command::new("nm")
                .args(["--dynamic", "--defined-only", "--format=just-symbols"])
                .arg(prefix.join("lib/libfaultin.so.0")),
        )
    };
    match symbols(&other)? == symbols(prefix)? {
        true => Ok(()),
        false => Err("cargo-c exports other symbols".into()),
    }
}
