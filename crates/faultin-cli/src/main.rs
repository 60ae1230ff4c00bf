//! The `faultin` command: the audit, the exploration, checksums, the figures, and the soak.

mod audit;
mod bench;
mod explore;
mod file;
mod rows;
mod soak;
mod sum;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Memory that may fault: an access that fails is a short count and a reason, never a dead process
#[derive(Parser)]
#[command(name = "faultin", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Audit(audit::Args),
    Explore(explore::Args),
    Sum(sum::Args),
    Bench(bench::Args),
    Soak(soak::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Audit(args) => audit::run(&args),
        Command::Explore(args) => explore::run(&args),
        Command::Sum(args) => sum::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
    }
}

/// Prints, and minds nobody having listened to the end.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("faultin: {error}");
    }
}
