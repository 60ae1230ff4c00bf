//! `cargo xtask release`: checks everything that a release needs, and prints the commands that publish it.
//!
//! The task never publishes. Its steps use the published packages as their users get them: made into `.crate` files,
//! compiled from those, documented, and the command installed into a root that holds nothing but a C library.

use std::fs;
use std::process::{Command, ExitCode};

use crate::env::{output, succeed, workspace};
use crate::packages::{self, Package};
use crate::{api, licences};

mod archive;
mod bare;
mod changelog;

/// Arguments of `cargo xtask release`.
#[derive(clap::Args)]
pub struct Args {
    /// Check all except what only a release must have: the date in the changelog and the address of the repository
    #[arg(long)]
    dry_run: bool,
    /// Allow files that are not committed
    #[arg(long, requires = "dry_run")]
    allow_dirty: bool,
}

/// Runs the command line.
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let packages = packages::all()?;
    let published = packages::in_order(&packages)?;
    let version = &published.first().ok_or("no package is published")?.version;

    step("checked in");
    if args.allow_dirty {
        println!("not asked");
    } else {
        clean(&output(Command::new("git").current_dir(workspace()).args(["status", "--porcelain"]))?)?;
    }
    step("versions");
    none(packages::disagreements(&packages))?;
    println!("{} packages have version {version}", published.len());

    step("changelog and metadata");
    let text =
        fs::read_to_string(workspace().join("CHANGELOG.md")).map_err(|error| format!("CHANGELOG.md: {error}"))?;
    let log = changelog::check(&text, version);
    none(log.wrong)?;
    let mut open = log.open;
    open.extend(published.iter().filter(|package| !package.has_repository).map(|package| {
        format!(
            "{} names no repository: the links of its README to other documents lead nowhere on crates.io",
            package.name
        )
    }));
    match args.dry_run {
        true => open.iter().for_each(|open| println!("open: {open}")),
        false => none(open)?,
    }

    step("licences");
    println!("{} packages have licences of the list", licences::check()?);

    step("public API");
    println!("{}", api::check()?);

    step("packages, compiled from their files");
    package(&published, args.allow_dirty)?;
    let unpacked = archive::unpack(&published)?;
    println!("{} packages carry what they name", published.len());

    step("documentation, of the packages");
    unpacked.document()?;

    step("the command, installed from its package into a bare root");
    if let Err(why) = bare::install_and_run(&unpacked, version)? {
        faultin_test::skipped("bare-root", why);
        println!("0 passed, 0 failed, 1 skipped");
    }

    println!("\nnothing has been published, and this task never does");
    if !args.dry_run {
        println!("to publish {version}:\n{}", commands(&published, version));
    }
    Ok(())
}

fn step(name: &str) {
    println!("--- {name}");
}

/// Returns an error if there are complaints.
fn none(wrong: Vec<String>) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Returns an error if `git status --porcelain` has printed anything.
fn clean(status: &str) -> Result<(), String> {
    if status.is_empty() {
        Ok(())
    } else {
        Err(format!("these files differ from what is checked in:\n{}", status.trim_end()))
    }
}

/// Makes the `.crate` files; cargo compiles each, with the others as its dependencies.
fn package(published: &[&Package], allow_dirty: bool) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["package", "--quiet", "--locked"]);
    // Otherwise cargo would replace what it has compiled from this workspace.
    cargo.env("CARGO_TARGET_DIR", archive::target());
    if allow_dirty {
        cargo.arg("--allow-dirty");
    }
    for package in published {
        cargo.args(["--package", &package.name]);
    }
    succeed(&mut cargo)
}

/// Returns the commands that publish.
fn commands(published: &[&Package], version: &str) -> String {
    let mut text = format!("    git tag --annotate v{version} --message 'faultin {version}'\n");
    for package in published {
        text += &format!("    cargo publish --locked --package {}\n", package.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_checked_in_is_an_error() {
        assert_eq!(clean(""), Ok(()));
        assert!(clean("?? new.rs\n M old.rs\n").unwrap_err().ends_with("?? new.rs\n M old.rs"));
    }

    #[test]
    fn commands_publish_in_order() {
        let packages = packages::all().unwrap();
        let text = commands(&packages::in_order(&packages).unwrap(), "1.2.3");
        assert!(text.contains("v1.2.3"));
        let at = |name: &str| text.find(&format!("--package {name}\n")).unwrap_or_else(|| panic!("{name} in {text}"));
        assert!(at("faultin") < at("faultin-cache") && at("faultin-cache") < at("faultin-cli"));
        assert!(!text.contains("faultin-test") && !text.contains("xtask"));
    }
}
