//! The file API compiled for systems that are not here: the library as users get it, and its tests, without a warning.
//!
//! No linker and no C library of those systems is needed to check types and to lint. What compiles is run on Linux, with
//! `--cfg faultin_portable`: `.ci/long portable`.

use std::process::Command;

use super::{Stop, has_std_for, home, succeed, workspace};

pub(super) const ABOUT: &str = "the file API compiles for other systems than Linux";

/// One target for each standard library that differs.
const TARGETS: [&str; 4] =
    ["x86_64-unknown-freebsd", "aarch64-apple-darwin", "x86_64-unknown-netbsd", "x86_64-unknown-illumos"];

/// What is compiled: with default features, and with those that add to the file API, and its tests.
const BUILDS: [&[&str]; 2] = [&["--lib"], &["--lib", "--test", "map", "--features", "bytemuck,zerocopy"]];

pub(super) fn run() -> Result<(), Stop> {
    let (there, missing): (Vec<_>, Vec<_>) = TARGETS.into_iter().partition(|target| has_std_for(target));
    for target in there {
        for build in BUILDS {
            println!("\n--- {target}: {}", build.join(" "));
            let mut cargo = Command::new("cargo");
            cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", home("portable").join("target"));
            cargo.args(["clippy", "--package", "faultin", "--target", target]).args(build);
            succeed(cargo.args(["--", "--deny", "warnings"]))
                .map_err(|_| Stop::Failed(format!("faultin does not compile for {target}; what was said is above")))?;
        }
    }
    match missing[..] {
        [] => Ok(()),
        _ => Err(Stop::Skipped(format!("no standard library for {}", missing.join(", ")))),
    }
}
