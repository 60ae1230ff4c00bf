//! The oldest compiler that is promised: `rust-version` in `Cargo.toml`.
//!
//! It is rustup's if rustup has it, or comes from Debian's packages, unpacked beside the build and never installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::aarch64::{apt, dependency, versions, wrapper};
use super::{Stop, home, output, succeed, workspace};

pub(super) const ABOUT: &str = "the workspace builds with the oldest compiler that is promised";

/// What `cargo xtask env msrv` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Another version than `rust-version`, such as 1.85
    #[arg(long)]
    rust: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let manifest =
        fs::read_to_string(workspace().join("Cargo.toml")).map_err(|error| Stop::Failed(error.to_string()))?;
    let promised = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let promised = promised.ok_or_else(|| Stop::Failed("Cargo.toml has no rust-version".into()))?;
    let rust = args.rust.clone().unwrap_or_else(|| promised.trim_matches('"').to_owned());
    let rustc = match output(Command::new("rustup").args(["which", "--toolchain", &rust, "rustc"])) {
        Ok(path) => path.trim().into(),
        Err(_) => packaged(&rust)?,
    };
    let version = output(Command::new(&rustc).arg("--version")).map_err(Stop::Failed)?;
    println!("{}", version.trim());
    let mut cargo = Command::new("cargo");
    // The usual cargo: what is promised is a compiler.
    cargo.current_dir(workspace()).env("RUSTC", &rustc).env("CARGO_TARGET_DIR", home("msrv").join("target"));
    cargo.args(["check", "--workspace", "--all-targets"]);
    if args.rust.is_some() {
        cargo.arg("--ignore-rust-version");
    }
    succeed(&mut cargo).map_err(|_| Stop::Failed(format!("Rust {rust} does not build the workspace")))
}

/// The compiler of Debian's packages, unpacked on the first call.
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
            "rustup does not have it, and Debian has {}",
            if there.is_empty() { "none".into() } else { there.join(" and ") }
        ))
    })?;
    let library = dependency(&format!("libstd-rust-web-dev={version}"), "libstd-rust-web-").map_err(skipped)?;
    let llvm = dependency(&format!("{library}={version}"), "libllvm").map_err(skipped)?;
    let mut packages: Vec<String> =
        ["rustc-web", "libstd-rust-web-dev", &library].map(|name| format!("{name}={version}")).into();
    packages.push(llvm);
    let io = |error: std::io::Error| Stop::Failed(format!("{}: {error}", home.display()));
    let downloads = home.join("download");
    for folder in [&root, &downloads] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(io)?;
    }
    apt(Command::new("apt-get").current_dir(&downloads).args(["download", "-q"]).args(&packages)).map_err(skipped)?;
    for package in fs::read_dir(&downloads).map_err(io)? {
        succeed(Command::new("dpkg").arg("-x").arg(package.map_err(io)?.path()).arg(&root)).map_err(Stop::Failed)?;
    }
    fs::remove_dir_all(&downloads).map_err(io)?;
    // Last, so that what was interrupted is done again.
    wrapper(&root, &rustc, "rustc").map_err(io)?;
    Ok(rustc)
}
