//! The Python package: a wheel, built by maturin, installed in an environment of its own, and its tests there.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stop, home, output, succeed, workspace};

pub(super) const ABOUT: &str = "the Python package: its wheel in a clean environment, and its tests";

/// Names of interpreters, in the order in which they are tried. The first one builds the wheel.
const INTERPRETERS: [&str; 6] = ["python3", "python3.11", "python3.12", "python3.13", "python3.14", "python3.15"];

/// Whether an interpreter can have an environment and the package: prints its version and its path.
const PROBE: &str = "import sys, ensurepip, venv
if sys.version_info < (3, 11): sys.exit(1)
print('%d.%d' % sys.version_info[:2], sys.executable)";

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
    /// Another interpreter to run the tests with, beside those of PATH and of pyenv
    #[arg(long, value_name = "PATH")]
    python: Vec<PathBuf>,
    /// Arguments for pytest
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let place = home("python");
    let package = workspace().join("crates/faultin-python");
    let interpreters = interpreters(&args.python);
    let [(_, first), others @ ..] = &interpreters[..] else {
        return Err(Stop::Skipped("no Python 3.11 or later with venv and pip".into()));
    };
    let tools = place.join("tools/bin/python");
    if !tools.exists() {
        environment(first, &place.join("tools"))?;
    }
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
    let wheel = only_file(&wheels, ".whl")?;

    // Makes an environment that has the wheel and what the tests need.
    let prepare = |interpreter: &Path, name: &str| {
        println!("\n--- {}, a clean environment", interpreter.display());
        let python = environment(interpreter, &place.join(name))?;
        install(&python, if args.short { &PACKAGES[..1] } else { &PACKAGES[..] })?;
        if args.torch {
            install(&python, &["torch"])?;
        }
        succeed(pip(&python).args(["install", "--quiet", "--no-index", "--no-deps"]).arg(&wheel))
            .map_err(Stop::Failed)?;
        Ok::<_, Stop>(python)
    };
    let pytest = |python: &Path, files: &[&str], arguments: &[String]| {
        let mut command = Command::new(python);
        // A slow kernel of OpenBLAS may have been chosen for reproducible results: no test needs that.
        command.current_dir(package.join("tests")).env_remove("OPENBLAS_CORETYPE");
        command.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "-c", "../pyproject.toml"]);
        succeed(command.args(files).args(arguments)).map_err(Stop::Failed)
    };
    let tests = prepare(first, "tests")?;
    if args.bench {
        return pytest(&tests, &["bench.py", "-s"], &args.arguments);
    }
    if args.short {
        return pytest(&tests, &["test_short.py"], &args.arguments);
    }
    pytest(&tests, &["."], &args.arguments)?;

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
    let source = environment(first, &place.join("source"))?;
    install(&source, &["pytest"])?;
    let mut from_source = pip(&source);
    // Out of the workspace: neither its lock file nor its configuration of cargo is there.
    from_source.current_dir(&place).env("CARGO_TARGET_DIR", place.join("target"));
    succeed(from_source.args(["install", "--no-deps"]).arg(&archive)).map_err(Stop::Failed)?;
    pytest(&source, &["test_short.py"], &[])?;

    // One wheel is for all versions.
    for (_, other) in others {
        let python = prepare(other, "other")?;
        pytest(&python, &["."], &args.arguments)?;
    }
    Ok(())
}

/// Returns the interpreters of this machine that can have the package, one of each version, with the version.
fn interpreters(more: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut all: Vec<PathBuf> = INTERPRETERS.iter().map(PathBuf::from).chain(more.iter().cloned()).collect();
    // The commands of pyenv run one of its versions only.
    if let Ok(root) = output(Command::new("pyenv").arg("root")) {
        let versions = std::fs::read_dir(Path::new(root.trim()).join("versions")).into_iter().flatten().flatten();
        all.extend(versions.map(|version| version.path().join("bin/python")));
    }
    let mut found = Vec::<(String, PathBuf)>::new();
    for interpreter in all {
        let Ok(answer) = output(Command::new(&interpreter).args(["-c", PROBE])) else { continue };
        let Some((version, path)) = answer.trim().split_once(' ') else { continue };
        if found.iter().all(|(known, _)| known != version) {
            found.push((version.to_owned(), PathBuf::from(path)));
        }
    }
    found
}

/// Makes a virtual environment; returns its interpreter.
fn environment(interpreter: &Path, place: &Path) -> Result<PathBuf, Stop> {
    succeed(Command::new(interpreter).args(["-m", "venv", "--clear"]).arg(place)).map_err(Stop::Failed)?;
    Ok(place.join("bin/python"))
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
