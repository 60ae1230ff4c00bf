//! The oldest compilers that are promised: `rust-version` in the libraries' manifests, and in the workspace's for the rest.
//!
//! A compiler is rustup's if it is installed there, or comes from Debian's packages, or is downloaded by rustup. The latter
//! two are kept in the target folder, and never installed.

use std::path::PathBuf;
use std::process::Command;

use super::aarch64::{dependency, versions, wrapper};
use super::{Stop, debian, home, output, promised, succeed, workspace};

pub(super) const ABOUT: &str = "the libraries and the workspace build with the oldest compilers that are promised";

/// The promises: the manifest, and cargo's arguments.
const PROMISES: [(&str, &[&str]); 4] = [
    ("crates/faultin/Cargo.toml", &["--package", "faultin", "--lib"]),
    ("crates/faultin/Cargo.toml", &["--package", "faultin", "--lib", "--no-default-features"]),
    ("crates/faultin-cache/Cargo.toml", &["--package", "faultin-cache", "--lib"]),
    ("Cargo.toml", &["--workspace", "--all-targets"]),
];

/// Arguments of `cargo xtask env msrv`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Version of the compiler, such as 1.85 [default: the `rust-version` of the libraries]
    #[arg(long)]
    rust: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let mut missing = Vec::new();
    for (manifest, arguments) in PROMISES {
        let rust = match &args.rust {
            Some(_) if manifest == "Cargo.toml" => continue,
            Some(rust) => rust.clone(),
            None => promised(manifest).map_err(Stop::Failed)?,
        };
        let rustc = match compiler(&rust) {
            Ok(rustc) => rustc,
            Err(Stop::Skipped(why)) => {
                missing.push(format!("{}: {why}", arguments.join(" ")));
                continue;
            }
            Err(failed) => return Err(failed),
        };
        let version = output(Command::new(&rustc).arg("--version")).map_err(Stop::Failed)?;
        println!("\n--- {} with {}", arguments.join(" "), version.trim());
        let mut cargo = Command::new("cargo");
        // The usual cargo: the promise is about the compiler.
        cargo.current_dir(workspace()).env("RUSTC", &rustc).env("CARGO_TARGET_DIR", home("msrv").join("target"));
        cargo.arg("check").args(arguments);
        if args.rust.is_some() {
            cargo.arg("--ignore-rust-version");
        }
        succeed(&mut cargo).map_err(|_| Stop::Failed(format!("Rust {rust} does not build {}", arguments.join(" "))))?;
    }
    if missing.is_empty() { Ok(()) } else { Err(Stop::Skipped(missing.join("; "))) }
}

/// Returns the compiler of version `rust`.
fn compiler(rust: &str) -> Result<PathBuf, Stop> {
    // If the caller has told rustup to install missing toolchains, it does not do so here.
    if let Ok(rustc) = rustup_which(rust, None) {
        return Ok(rustc);
    }
    packaged(rust).or_else(|stop| match stop {
        Stop::Skipped(why) => {
            downloaded(rust).map_err(|error| Stop::Skipped(format!("{why}, and rustup cannot download it: {error}")))
        }
        failed @ Stop::Failed(_) => Err(failed),
    })
}

/// Returns the compiler that rustup has installed, in its usual folder or in `rustup`.
fn rustup_which(rust: &str, rustup: Option<&PathBuf>) -> Result<PathBuf, String> {
    let mut command = Command::new("rustup");
    command.env("RUSTUP_AUTO_INSTALL", "0").args(["which", "--toolchain", rust, "rustc"]);
    if let Some(rustup) = rustup {
        command.env("RUSTUP_HOME", rustup);
    }
    Ok(output(&mut command)?.trim().into())
}

/// Returns the compiler that rustup downloads, into a separate folder.
fn downloaded(rust: &str) -> Result<PathBuf, String> {
    let rustup = home("msrv").join("rustup");
    rustup_which(rust, Some(&rustup)).or_else(|_| {
        let mut install = Command::new("rustup");
        install.env("RUSTUP_HOME", &rustup).args(["toolchain", "install", rust, "--profile", "minimal"]);
        // Without this, rustup replaces itself, too.
        output(install.arg("--no-self-update"))?;
        rustup_which(rust, Some(&rustup))
    })
}

/// Returns the compiler of Debian's packages, unpacked on the first call.
fn packaged(rust: &str) -> Result<PathBuf, Stop> {
    let home = home("msrv").join(rust);
    let (root, rustc) = (home.join("root"), home.join("rustc"));
    if rustc.exists() {
        return Ok(rustc);
    }
    let skipped = |why: String| Stop::Skipped(format!("Rust {rust}: {why}"));
    let there = versions("rustc-web");
    let version = there.iter().find(|version| version.starts_with(&format!("{rust}."))).ok_or_else(|| {
        skipped(format!(
            "rustup has not installed it, Debian has {}",
            if there.is_empty() { "none".into() } else { there.join(" and ") }
        ))
    })?;
    let library = dependency(&format!("libstd-rust-web-dev={version}"), "libstd-rust-web-").map_err(skipped)?;
    let llvm = dependency(&format!("{library}={version}"), "libllvm").map_err(skipped)?;
    let mut packages: Vec<String> =
        ["rustc-web", "libstd-rust-web-dev", &library].map(|name| format!("{name}={version}")).into();
    packages.push(llvm);
    let io = |error: std::io::Error| Stop::Failed(format!("{}: {error}", home.display()));
    debian::unpack(&packages, &home.join("download"), &root).map_err(|stop| match stop {
        Stop::Skipped(why) => skipped(why),
        failed => failed,
    })?;
    // Last, so that an interrupted setup is repeated.
    wrapper(&root, &rustc, "rustc").map_err(io)?;
    Ok(rustc)
}
