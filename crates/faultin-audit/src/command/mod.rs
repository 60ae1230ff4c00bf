//! The command line.

mod audit;
mod explore;
mod file;
mod rows;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "faultin-audit", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    audit: audit::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Explore(explore::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Explore(args)) => explore::run(args),
        None => audit::run(&cli.audit),
    }
}

/// Prints to standard output. A closed pipe (`faultin-audit | head -1`) is no error.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("faultin-audit: {error}");
    }
}
