//! Object stores over the network: the tests of `faultin-store` in full, those of the command, machines that are network
//! namespaces, and a server that others wrote.

mod ceph;

use std::process::Command;

use super::{Stop, home, output, succeed, target, workspace};

pub(super) const ABOUT: &str = "object stores over the network: faults, four machines, and a server that others wrote";

/// Number of cases of the model test, in place of the tests' own number.
const CASES: &str = "300";

/// What `cargo xtask env stores` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only the server that others wrote, with `faultin store check`
    #[arg(long)]
    others: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    println!("--- build");
    succeed(tests().arg("--no-run")).map_err(Stop::Failed)?;
    println!("\n--- Ceph's radosgw");
    let (server, missing) = match ceph::Gateway::start(&home("stores").join("ceph")) {
        Ok(server) => (Some(server), None),
        Err(missing @ Stop::Skipped(_)) => (None, Some(missing)),
        Err(failed) => return Err(failed),
    };
    let mut tests = tests();
    if let Some(server) = &server {
        println!("{}", server.version);
        check(server).map_err(Stop::Failed)?;
        tests.env("FAULTIN_STORE_ENDPOINT", server.address());
    }
    println!("\n--- tests");
    if args.others {
        tests.args(["--test", "others"]);
    } else {
        tests.env("FAULTIN_STORE_CASES", CASES).env("FAULTIN_STORE_NETWORK", "1");
    }
    succeed(&mut tests).map_err(Stop::Failed)?;
    missing.map_or(Ok(()), Err)
}

/// Returns the command of all tests. Always of the same packages, so that nothing is built twice.
fn tests() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["test", "--package", "faultin-store", "--package", "faultin-store-test"]);
    cargo.args(["--package", "faultin-cli", "--features", "faultin-cli/store"]);
    cargo
}

/// Prints what a server honours.
///
/// # Errors
/// If objects cannot be read from it. (It need not be able to fence.)
fn check(server: &ceph::Gateway) -> Result<(), String> {
    const NO_FENCING: i32 = 3;
    let mut check = Command::new(target().join("debug/faultin"));
    check.args(["store", "check", "s3://bucket/checked"]).envs(server.variables());
    let status = check.status().map_err(|error| format!("{check:?}: {error}"))?;
    match status.code() {
        Some(0 | NO_FENCING) => Ok(()),
        _ => Err(format!("faultin store check: {status}")),
    }
}

/// Returns whether this is root.
fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0")
}
