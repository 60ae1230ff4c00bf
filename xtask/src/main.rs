//! `cargo xtask`: the chores of this workspace that need more than cargo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod api;
mod checked;
mod env;
mod header;
mod licences;
mod man;
mod packages;
mod release;
mod test;

/// Tasks of this workspace that cargo alone cannot do
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the tests, and print at the end, in one line, which tests were skipped and why
    Test(test::Args),
    /// Run the tests in which libc's string functions access memory, with each set of implementations that glibc has
    Tunables(test::TunablesArgs),
    /// List the long suites that are due; exit status 1 if there are any
    Checked(checked::Args),
    /// Write the list of each library's public API to docs/api
    Api(api::Args),
    /// Write the header of the C library
    Header(header::Args),
    /// Check the licences and sources of all packages against deny.toml; exit status 1 if one is not allowed
    Licences,
    /// Write the man pages and shell completions of `faultin`
    Man(man::Args),
    /// Check all that a release needs, and print the commands that publish it
    Release(release::Args),
    /// Set up an environment with real faults or another target, and run the tests in it
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
        Task::Header(args) => header::main(&args),
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
