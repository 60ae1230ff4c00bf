//! `cargo xtask`: the chores of this workspace that need more than cargo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod api;
mod checked;
mod env;
mod licences;
mod man;
mod packages;
mod release;
mod test;

/// Chores of this workspace that need more than cargo.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the tests, and say in one line at the end what was skipped
    Test(test::Args),
    /// Run the tests in which foreign code touches memory with other string functions of glibc
    Tunables(test::TunablesArgs),
    /// Say which long suites are due
    Checked(checked::Args),
    /// List the public API of each library in docs/api
    Api(api::Args),
    /// Check licences and sources of all packages, by the lists of deny.toml
    Licences,
    /// Write the man pages and completions of the command
    Man(man::Args),
    /// Check everything that a release needs, and print the commands that publish it
    Release(release::Args),
    /// Set up an environment in which faults are real, and run the tests in it
    Env(env::Args),
    #[command(hide = true)]
    Serve(env::files::serve::Args),
}

fn main() -> ExitCode {
    match Xtask::parse().task {
        Task::Test(args) => test::main(&args),
        Task::Tunables(args) => test::tunables(&args),
        Task::Checked(args) => checked::main(&args),
        Task::Api(args) => api::main(&args),
        Task::Licences => licences::main(),
        Task::Man(args) => man::main(&args),
        Task::Release(args) => release::main(&args),
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
