//! aarch64 under user-mode emulation, memory tags included.
//!
//! Two parts: an emulator with a linker and a C library, and a Rust standard library for the target. The latter is the
//! installed toolchain's if it has one, or if rustup can add it (`rustup target add aarch64-unknown-linux-gnu`).
//! Otherwise it comes from Debian's packages, if they are new enough: unpacked next to the build and never installed,
//! together with the compiler it belongs to. A standard library only works with the very compiler that made it.
//!
//! User-mode emulation checks tags on every access of this crate, as the hardware does. System calls ignore them, and
//! `process_vm_readv` and userfaultfd do not exist: tests that need those need a whole kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian::{apt, dependencies};
use super::{Stop, has_command, has_std_for, home, output, promised, succeed, workspace};

pub(super) const ABOUT: &str = "the tests on aarch64 with memory tags, under user-mode emulation";

pub(super) const TARGET: &str = "aarch64-unknown-linux-gnu";
pub(super) const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// The cargo command of the lints.
const LINTS: &str = "cargo-clippy";
/// Where the distribution keeps the target's C library; programs look for their loader below it.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Arguments of `cargo xtask env aarch64`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Set up the environment, print its variables for cargo, and run nothing
    #[arg(long, conflicts_with = "lint")]
    print: bool,
    /// Lint the code that is compiled for this architecture only, instead of running tests
    #[arg(long)]
    lint: bool,
    /// Arguments for `cargo test`; without `-p`, all packages of the workspace are tested
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// What cargo needs to build for the target.
pub(super) struct Cross {
    pub variables: Vec<(&'static str, String)>,
    /// The folder of the compiler, if it is Debian's.
    bin: Option<PathBuf>,
}

impl Cross {
    /// Cargo's target folder for this architecture.
    pub fn target(&self) -> PathBuf {
        home("aarch64").join("target").join(TARGET)
    }
}

/// Installs linker, C library and standard library.
pub(super) fn cross() -> Result<Cross, Stop> {
    install(linker)?;
    let mut variables = vec![
        ("CARGO_BUILD_TARGET", TARGET.into()),
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER.into()),
        ("CARGO_TARGET_DIR", home("aarch64").join("target").display().to_string()),
    ];
    let bin = if has_std_for(TARGET) { None } else { Some(toolchain()?) };
    if let Some(bin) = &bin {
        variables.push(("RUSTC", bin.join("rustc").display().to_string()));
        variables.push(("RUSTDOC", bin.join("rustdoc").display().to_string()));
    }
    Ok(Cross { variables, bin })
}

/// As [`cross`], with an emulator that runs what is built.
pub(super) fn emulated() -> Result<Cross, Stop> {
    install(|| if has_command(EMULATOR) { vec![] } else { vec!["qemu-user"] })?;
    let mut cross = cross()?;
    cross.variables.extend([
        ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -cpu max -L {SYSROOT}")),
        // A thread that ends holds a lock of the emulator's own memory pools for a moment. A child that is forked then
        // waits for it forever; `malloc` is prepared for that.
        ("G_SLICE", "always-malloc".into()),
    ]);
    Ok(cross)
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let Cross { variables, bin: packaged } = emulated()?;
    if args.print {
        for (name, value) in variables {
            println!("export {name}='{value}'");
        }
        return Ok(());
    }
    let mut cargo = match packaged {
        // The lints come with their compiler.
        Some(bin) if args.lint => Command::new(bin.join(LINTS)),
        _ => Command::new("cargo"),
    };
    cargo.current_dir(workspace()).envs(variables);
    cargo.arg(if args.lint { "clippy" } else { "test" });
    if !args.cargo.iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package")) {
        // Tasks run on the host, and models are the same everywhere.
        cargo.args(["--workspace", "--exclude", "xtask", "--exclude", "faultin-cache-loom"]);
    }
    succeed(cargo.args(&args.cargo)).map_err(|_| Stop::Failed("cargo; what it said is above".into()))
}

/// Returns the packages of linker and C library, where they are not installed.
fn linker() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if !has_command(LINKER) {
        packages.push("gcc-aarch64-linux-gnu");
    }
    if !Path::new(SYSROOT).join("lib/libc.so.6").exists() {
        packages.push("libc6-dev-arm64-cross");
    }
    packages
}

/// Installs the packages that are missing.
fn install(missing: impl Fn() -> Vec<&'static str>) -> Result<(), Stop> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let skipped = |why: &str| Stop::Skipped(format!("{} ({why})", packages.join(", ")));
    if !has_command("apt-get") {
        return Err(skipped("no apt-get to install them with"));
    }
    eprintln!("installing {}", packages.join(", "));
    apt(Command::new("apt-get").arg("update").arg("-q")).map_err(|error| skipped(&error))?;
    apt(Command::new("apt-get").args(["install", "-q", "-y", "--no-install-recommends"]).args(&packages))
        .map_err(|error| skipped(&error))?;
    match missing()[..] {
        [] => Ok(()),
        ref rest => Err(Stop::Failed(format!("installed, but not where expected: {}", rest.join(", ")))),
    }
}

/// Returns the folder with the commands of Debian's packages, made on the first call.
fn toolchain() -> Result<PathBuf, Stop> {
    let home = home("aarch64");
    let (root, bin, stamp) = (home.join("root"), home.join("bin"), home.join("version"));
    if stamp.exists() && bin.join(LINTS).exists() {
        return Ok(bin);
    }
    let skipped = |why: String| Stop::Skipped(format!("a Rust standard library for {TARGET} ({why})"));
    if !has_command("apt-get") || !has_command("dpkg") {
        return Err(skipped("neither rustup's nor a Debian to take one from".into()));
    }
    let packages = packages().map_err(skipped)?;
    let io = |error: std::io::Error| Stop::Failed(format!("{}: {error}", home.display()));
    let downloads = home.join("download");
    for dir in [&root, &downloads] {
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(io)?;
        }
        fs::create_dir_all(dir).map_err(io)?;
    }
    eprintln!("downloading {}", packages.join(", "));
    apt(Command::new("apt-get").current_dir(&downloads).args(["download", "-q"]).args(&packages)).map_err(skipped)?;
    for package in fs::read_dir(&downloads).map_err(io)? {
        succeed(Command::new("dpkg").arg("-x").arg(package.map_err(io)?.path()).arg(&root)).map_err(Stop::Failed)?;
    }
    fs::remove_dir_all(&downloads).map_err(io)?;
    fs::create_dir_all(&bin).map_err(io)?;
    for tool in ["rustc", "rustdoc", LINTS] {
        wrapper(&root, &bin.join(tool), tool).map_err(io)?;
    }
    let version = output(Command::new(bin.join("rustc")).arg("--version")).map_err(Stop::Failed)?;
    // Last, so that an interrupted setup is repeated.
    fs::write(stamp, version).map_err(io)?;
    Ok(bin)
}

/// Returns the packages of the newest version that exists for both architectures, `name=version`.
fn packages() -> Result<Vec<String>, String> {
    let foreign = output(Command::new("dpkg").arg("--print-foreign-architectures"))?;
    if !foreign.lines().any(|line| line == "arm64") {
        apt(Command::new("dpkg").args(["--add-architecture", "arm64"]))?;
    }
    let arm64 = "libstd-rust-web-dev:arm64";
    if versions(arm64).is_empty() {
        apt(Command::new("apt-get").args(["update", "-q"]))?;
    }
    let here = versions("rustc-web");
    let version = versions(arm64)
        .into_iter()
        .filter(|version| here.contains(version))
        .reduce(|a, b| if newer(&b, &a) { b } else { a })
        .ok_or("no version of the packages rustc-web and libstd-rust-web-dev:arm64 in common")?;
    let promised = promised("Cargo.toml")?;
    if newer(&promised, &version) {
        return Err(format!("rustup cannot add it, and Debian has {version}, which is older than {promised}"));
    }
    // The compiler proper is a shared library in a package with its own name, and so is its LLVM.
    let library = dependency(&format!("libstd-rust-web-dev={version}"), "libstd-rust-web-")?;
    let llvm = dependency(&format!("{library}={version}"), "libllvm")?;
    let mut packages: Vec<String> = ["rustc-web", "rust-web-clippy", "libstd-rust-web-dev", &library, arm64]
        .map(|name| format!("{name}={version}"))
        .into();
    packages.push(llvm);
    Ok(packages)
}

/// Returns the versions of a package that apt knows; none if it does not know it.
pub(super) fn versions(package: &str) -> Vec<String> {
    let shown = output(Command::new("apt-cache").args(["show", package])).unwrap_or_default();
    shown.lines().filter_map(|line| line.strip_prefix("Version: ")).map(str::to_owned).collect()
}

/// Returns whether Debian version `a` is later than `b`.
fn newer(a: &str, b: &str) -> bool {
    succeed(Command::new("dpkg").args(["--compare-versions", a, "gt", b])).is_ok()
}

/// Returns the dependency of a package whose name begins with `prefix`.
pub(super) fn dependency(package: &str, prefix: &str) -> Result<String, String> {
    let shown = output(Command::new("apt-cache").args(["show", package]))?;
    dependencies(&shown)
        .find(|name| name.starts_with(prefix) && *name != "libstd-rust-web-dev")
        .map(str::to_owned)
        .ok_or_else(|| format!("{package} depends on no {prefix}*"))
}

/// Writes a script that runs a tool of the unpacked packages with the libraries unpacked with them.
pub(super) fn wrapper(root: &Path, script: &Path, tool: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let usr = root.join("usr").display().to_string();
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{usr}/lib/{arch}-linux-gnu' exec '{usr}/bin/{tool}' \"$@\"\n",
        arch = std::env::consts::ARCH,
    );
    fs::write(script, text)?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))
}
