//! The `faultin` command.

mod bench;

use std::process::ExitCode;

use clap::Parser;

/// Memory that may fault: an access that fails is a short count and a reason, never a dead process
#[derive(Parser)]
#[command(name = "faultin", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
    }
}
