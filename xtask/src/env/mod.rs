//! Environments: machines, kernels and devices on which faults happen that this machine does not have.
//!
//! An environment installs what it needs, so that a second run starts at once. Where that is impossible it is *skipped*:
//! the last line reports what is missing, the count above it the number of skips, and the exit status is 0, because nothing
//! was found wrong. Everything else that fails, tests included, has a non-zero status.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

mod aarch64;
mod aarch64_vm;
mod c;
pub mod debian;
pub mod files;
mod guard;
mod msrv;
mod portable;
mod python;
mod stores;

/// Arguments of `cargo xtask env`.
#[derive(clap::Args)]
pub struct Args {
    /// List the environments, and run nothing
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    environment: Option<Environment>,
}

#[derive(clap::Subcommand)]
enum Environment {
    /// Run the tests on aarch64 with memory tags, under user-mode emulation
    Aarch64(aarch64::Args),
    /// Run the tests of `faultin guard` on a kernel for aarch64, in an emulated machine
    Aarch64Vm(aarch64_vm::Args),
    /// Install the C library, and run its programs with every compiler, C library and sanitizer of this machine
    C(c::Args),
    /// Run the tests on file systems that fail: FUSE, bad blocks, checksums, full disks (needs root)
    Files(files::Args),
    /// Run `faultin guard` with real programs on full or failing file systems (needs root)
    Guard(guard::Args),
    /// Build the libraries with the oldest supported compiler
    Msrv(msrv::Args),
    /// Lint the file API as it is compiled for systems other than Linux
    Portable,
    /// Build the Python package, install it in a clean environment, and run its tests there
    Python(python::Args),
    /// Run the tests of object stores over the network, and with a server that others wrote (as root)
    Stores(stores::Args),
}

/// The reason why an environment returned no result of its own.
pub enum Stop {
    /// This machine cannot have it; what is missing.
    Skipped(String),
    /// It should have worked.
    Failed(String),
}

/// Runs the command line.
pub fn main(args: Args) -> ExitCode {
    let environment = match args.environment {
        Some(environment) if !args.list => environment,
        _ => {
            println!("aarch64     {}", aarch64::ABOUT);
            println!("aarch64-vm  {}", aarch64_vm::ABOUT);
            println!("c           {}", c::ABOUT);
            println!("files       {}", files::ABOUT);
            println!("guard       {}", guard::ABOUT);
            println!("msrv        {}", msrv::ABOUT);
            println!("portable    {}", portable::ABOUT);
            println!("python      {}", python::ABOUT);
            println!("stores      {}", stores::ABOUT);
            return ExitCode::SUCCESS;
        }
    };
    let (name, result) = match environment {
        Environment::Aarch64(args) => ("aarch64", aarch64::run(&args)),
        Environment::Aarch64Vm(args) => ("aarch64-vm", aarch64_vm::run(&args)),
        Environment::C(args) => ("c", c::run(&args)),
        Environment::Files(args) => ("files", files::run(&args)),
        Environment::Guard(args) => ("guard", guard::run(&args)),
        Environment::Msrv(args) => ("msrv", msrv::run(&args)),
        Environment::Portable => ("portable", portable::run()),
        Environment::Python(args) => ("python", python::run(&args)),
        Environment::Stores(args) => ("stores", stores::run(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skipped(what)) => {
            println!("0 passed, 0 failed, 1 skipped");
            if faultin_test::is_required(name) {
                eprintln!("{name} is required, but: {what}");
                return ExitCode::FAILURE;
            }
            faultin_test::skipped(name, what);
            ExitCode::SUCCESS
        }
        Err(Stop::Failed(what)) => {
            eprintln!("failed: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the workspace.
pub fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Returns the oldest Rust that a manifest promises: its `rust-version`.
fn promised(manifest: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(workspace().join(manifest)).map_err(|error| format!("{manifest}: {error}"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("rust-version = "));
    Ok(version.ok_or_else(|| format!("{manifest} has no rust-version"))?.trim_matches('"').to_owned())
}

/// Returns cargo's target folder.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target)
}

/// Returns the folder for downloads and builds of this environment.
pub fn home(name: &str) -> PathBuf {
    target().join("env").join(name)
}

/// Returns whether a command of this name can be run.
pub fn has_command(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Runs a command to its end, with its output; an error describes the failure.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Runs a command to its end; returns its output.
pub fn output(command: &mut Command) -> Result<String, String> {
    match command.output() {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(out) => Err(format!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end())),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Whether the compiler that cargo uses has a standard library for a target, or rustup can add it.
fn has_std_for(target: &str) -> bool {
    let has = || {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let Ok(dir) = output(Command::new(rustc).args(["--print", "target-libdir", "--target", target])) else {
            return false;
        };
        let Ok(mut files) = std::fs::read_dir(dir.trim_end()) else { return false };
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
    };
    let add = || output(Command::new("rustup").args(["target", "add", target]));
    has() || has_command("rustup") && add().is_ok() && has()
}
