//! `cargo xtask`: the chores of this workspace that need more than cargo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod env;

/// Chores of this workspace that need more than cargo.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set up an environment in which faults are real, and run the tests in it
    Env(env::Args),
    #[command(hide = true)]
    Serve(env::files::serve::Args),
}

fn main() -> ExitCode {
    match Xtask::parse().task {
        Task::Env(args) => env::main(args),
        Task::Serve(args) => match env::files::serve::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("serve: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
