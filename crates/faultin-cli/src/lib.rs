//! The command line of `faultin`: its definition, from which `cargo xtask man` writes the man pages and completions, and
//! what runs it. [`faultin`] is the library to build programs with.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the command `faultin` is for Linux only; on other Unix systems, the library `faultin` has its file API"
);

mod demo;
mod guard;
mod store;
mod sum;
mod url;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Tools for memory that may fault: demonstrates SIGBUS, explains it in any program, and computes checksums that survive it
///
/// The kernel ends a program with SIGBUS ("Bus error") if it accesses a mapped page that cannot be provided: the file was truncated,
/// the disk is full or fails, or a peer shrank shared memory.
#[derive(Parser)]
#[command(name = "faultin", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Guard(guard::Args),
    Store(store::Args),
    Sum(sum::Args),
}

/// What a build without object stores says of their URLs.
#[cfg(not(feature = "store"))]
pub(crate) const NO_STORES: &str =
    "this build has no object stores: cargo install --path crates/faultin-cli --features store";

/// Makes the kernel write no core of this process, and keep other processes of the user out of its memory: credentials will be
/// in it. (Where the kernel refuses, that is no reason not to go on.)
#[cfg(feature = "store")]
pub(crate) fn keep_out_of_cores() {
    // SAFETY: sets an attribute of this process, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Guard(args) => guard::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Sum(args) => sum::run(&args),
    }
}

/// Prints what is wrong with the command line, without the secrets of URLs in it; or the help that it asks for.
fn refuse(error: &clap::Error) -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let plain = error.render().to_string();
    match url::told_in(&plain, arguments) {
        told if told == plain => error.exit(),
        told => {
            let _ = io::stderr().write_all(told.as_bytes());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Returns the definition of the command line.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Prints to standard output, and returns whether there was no error. A closed pipe (`faultin … | head -1`) is none.
pub fn printed(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("faultin: {error}");
            false
        }
        _ => true,
    }
}
