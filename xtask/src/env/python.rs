//! The Python package: a wheel, built by maturin, installed in an environment of its own, and its tests there.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stop, home, output, succeed, workspace};

pub(super) const ABOUT: &str = "the Python package: its wheel in a clean environment, and its tests";

/// Names of interpreters, in the order in which they are tried.
const INTERPRETERS: [&str; 6] = ["python3", "python3.11", "python3.12", "python3.13", "python3.14", "python3.15"];

/// What the tests use. PyTorch is not among them: its packages have gigabytes, so its tests run only where it can be imported.
const PACKAGES: [&str; 7] = ["pytest", "mypy", "numpy", "pyarrow", "safetensors", "ml_dtypes", "typing_extensions"];

/// What `cargo xtask env python` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only the tests that need no package but pytest, with a wheel of the dev profile
    #[arg(long)]
    short: bool,
    /// Install PyTorch as well: some gigabytes
    #[arg(long)]
    torch: bool,
    /// Print the figures of the benchmarks in place of the tests
    #[arg(long)]
    bench: bool,
    /// Arguments for pytest
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let place = home("python");
    let package = workspace().join("crates/faultin-python");
    let tools = environment(&place.join("tools"), false)?;
    install(&tools, &["maturin>=1.9.4,<2"])?;
    let maturin = tools.with_file_name("maturin");

    println!("\n--- the wheel");
    let wheels = fresh(&place.join("wheels"))?;
    let mut build = Command::new(&maturin);
    build.current_dir(&package).args(["build", "--out"]).arg(&wheels);
    build.args(if args.short { ["--profile", "dev"] } else { ["--profile", "release"] });
    // maturin sets variables that PyO3's build scripts depend on: a common folder would be built again each time.
    build.env("CARGO_TARGET_DIR", place.join("target"));
    succeed(&mut build).map_err(Stop::Failed)?;

    println!("\n--- installed in a clean environment");
    let tests = environment(&place.join("tests"), true)?;
    let packages = if args.short { &PACKAGES[..1] } else { &PACKAGES[..] };
    install(&tests, packages)?;
    if args.torch {
        install(&tests, &["torch"])?;
    }
    let wheel = only_file(&wheels, ".whl")?;
    succeed(pip(&tests).args(["install", "--quiet", "--no-index", "--no-deps"]).arg(&wheel)).map_err(Stop::Failed)?;

    let pytest = |files: &[&str], arguments: &[String]| {
        let mut command = Command::new(&tests);
        // A slow kernel of OpenBLAS may have been chosen for reproducible results: no test needs that.
        command.current_dir(package.join("tests")).env_remove("OPENBLAS_CORETYPE");
        command.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "-c", "../pyproject.toml"]);
        succeed(command.args(files).args(arguments)).map_err(Stop::Failed)
    };
    if args.bench {
        return pytest(&["bench.py", "-s"], &args.arguments);
    }
    if args.short {
        return pytest(&["test_short.py"], &args.arguments);
    }
    pytest(&["."], &args.arguments)?;

    println!("\n--- types");
    let mut mypy = Command::new(&tests);
    mypy.current_dir(&package).args(["-m", "mypy", "--strict", "--cache-dir"]).arg(place.join("mypy"));
    succeed(mypy.args(["python/faultin", "tests/typed.py"])).map_err(Stop::Failed)?;
    let mut stubtest = Command::new(&tests);
    stubtest.current_dir(&place).args(["-m", "mypy.stubtest", "faultin", "--mypy-config-file"]);
    succeed(stubtest.arg(package.join("pyproject.toml"))).map_err(Stop::Failed)?;

    println!("\n--- from the source archive");
    let archives = fresh(&place.join("archives"))?;
    succeed(Command::new(&maturin).current_dir(&package).args(["sdist", "--out"]).arg(&archives))
        .map_err(Stop::Failed)?;
    let archive = only_file(&archives, ".tar.gz")?;
    let other = environment(&place.join("source"), true)?;
    install(&other, &["pytest"])?;
    let mut from_source = pip(&other);
    // Out of the workspace: neither its lock file nor its configuration of cargo is there.
    from_source.current_dir(&place).env("CARGO_TARGET_DIR", place.join("target"));
    succeed(from_source.args(["install", "--no-deps"]).arg(&archive)).map_err(Stop::Failed)?;
    let mut again = Command::new(&other);
    again.current_dir(package.join("tests")).args(["-m", "pytest", "-p", "no:cacheprovider", "-q"]);
    succeed(again.args(["-c", "../pyproject.toml", "test_short.py"])).map_err(Stop::Failed)
}

/// Makes a virtual environment, or takes the one that is there; returns its interpreter.
fn environment(place: &Path, clean: bool) -> Result<PathBuf, Stop> {
    let python = place.join("bin/python");
    if python.exists() && !clean {
        return Ok(python);
    }
    let probe = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))";
    let found = INTERPRETERS.iter().find(|name| output(Command::new(name).args(["-c", probe])).is_ok());
    let Some(interpreter) = found else {
        return Err(Stop::Skipped("no Python 3.11 or later with venv and pip".into()));
    };
    succeed(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(place)).map_err(Stop::Failed)?;
    Ok(python)
}

fn pip(python: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--disable-pip-version-check"]);
    pip
}

/// Installs packages from the registry.
fn install(python: &Path, packages: &[&str]) -> Result<(), Stop> {
    let mut command = pip(python);
    output(command.args(["install", "--quiet", "--only-binary", ":all:"]).args(packages))
        .map(drop)
        .map_err(|error| Stop::Skipped(format!("packages of PyPI: {}", error.lines().last().unwrap_or_default())))
}

/// Makes an empty folder.
fn fresh(place: &Path) -> Result<PathBuf, Stop> {
    let _ = std::fs::remove_dir_all(place);
    std::fs::create_dir_all(place).map_err(|error| Stop::Failed(format!("{}: {error}", place.display())))?;
    Ok(place.to_owned())
}

/// Returns the file of this kind in a folder that has one.
fn only_file(place: &Path, end: &str) -> Result<PathBuf, Stop> {
    let files = std::fs::read_dir(place).map_err(|error| Stop::Failed(format!("{}: {error}", place.display())))?;
    let mut files = files.filter_map(|file| Some(file.ok()?.path()));
    files
        .find(|file| file.to_string_lossy().ends_with(end))
        .ok_or_else(|| Stop::Failed(format!("no {end} in {}", place.display())))
}
