//! The Python package: a wheel, built by maturin, installed in an environment of its own, and its tests there. One for aarch64, too, whose
//! tests run in an emulated machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::aarch64;
use super::aarch64_vm::{Contents, Run};
use super::{Stop, home, output, succeed, workspace};

pub(super) const ABOUT: &str = "the Python package: its wheel in a clean environment, and its tests";

/// Names of interpreters, in the order in which they are tried. The first one builds the wheel.
const INTERPRETERS: [&str; 6] = ["python3", "python3.11", "python3.12", "python3.13", "python3.14", "python3.15"];

/// Whether an interpreter can have an environment and the package: prints its version and its path.
const PROBE: &str = "import sys, ensurepip, venv
if sys.version_info < (3, 11): sys.exit(1)
print('%d.%d' % sys.version_info[:2], sys.executable)";

/// What the tests use. PyTorch is not among them: its packages have gigabytes, so its tests run only with `--torch`.
const PACKAGES: [&str; 7] = ["pytest", "mypy", "numpy", "pyarrow", "safetensors", "ml_dtypes", "typing_extensions"];

/// What `cargo xtask env python` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only the tests that need no package but pytest, with a wheel of the dev profile
    #[arg(long)]
    short: bool,
    /// Install PyTorch as well, for the first interpreter: a download of 3 GB, which takes 6 GB
    #[arg(long)]
    torch: bool,
    /// Only a wheel for aarch64, and its tests on Debian's kernel and Python for that, in an emulated machine
    #[arg(long)]
    aarch64: bool,
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
    if args.aarch64 {
        return on_aarch64(&tools, &maturin, &args.arguments);
    }

    println!("\n--- the wheel");
    let wheels = fresh(&place.join("wheels"))?;
    let mut build = Command::new(&maturin);
    build.current_dir(package()).args(["build", "--out"]).arg(&wheels);
    build.args(if args.short { ["--profile", "dev"] } else { ["--profile", "release"] });
    // maturin sets variables that PyO3's build scripts depend on: a common folder would be built again each time.
    build.env("CARGO_TARGET_DIR", place.join("target"));
    succeed(&mut build).map_err(Stop::Failed)?;
    let wheel = only_file(&wheels, ".whl")?;

    // Makes an environment that has the wheel and what the tests need.
    let prepare = |interpreter: &Path, name: &str, more: &[&str]| {
        println!("\n--- {}, a clean environment", interpreter.display());
        let python = environment(interpreter, &place.join(name))?;
        install(&python, if args.short { &PACKAGES[..1] } else { &PACKAGES[..] })?;
        if !more.is_empty() {
            install(&python, more)?;
        }
        succeed(pip(&python).args(["install", "--quiet", "--no-index", "--no-deps"]).arg(&wheel))
            .map_err(Stop::Failed)?;
        Ok::<_, Stop>(python)
    };
    let pytest = |python: &Path, files: &[&str], arguments: &[String]| {
        let mut command = Command::new(python);
        // A slow kernel of OpenBLAS may have been chosen for reproducible results: no test needs that.
        command.current_dir(package().join("tests")).env_remove("OPENBLAS_CORETYPE");
        command.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "-c", "../pyproject.toml"]);
        succeed(command.args(files).args(arguments)).map_err(Stop::Failed)
    };
    let tests = prepare(first, "tests", if args.torch { &["torch"] } else { &[] })?;
    if args.bench {
        return pytest(&tests, &["bench.py", "-s"], &args.arguments);
    }
    if args.short {
        return pytest(&tests, &["test_short.py"], &args.arguments);
    }
    pytest(&tests, &["."], &args.arguments)?;

    println!("\n--- types");
    let mut mypy = Command::new(&tests);
    mypy.current_dir(package()).args(["-m", "mypy", "--strict", "--cache-dir"]).arg(place.join("mypy"));
    succeed(mypy.args(["python/faultin", "tests/typed.py"])).map_err(Stop::Failed)?;
    let mut stubtest = Command::new(&tests);
    stubtest.current_dir(&place).args(["-m", "mypy.stubtest", "faultin", "--mypy-config-file"]);
    succeed(stubtest.arg(package().join("pyproject.toml"))).map_err(Stop::Failed)?;

    println!("\n--- from the source archive");
    let archives = fresh(&place.join("archives"))?;
    succeed(Command::new(&maturin).current_dir(package()).args(["sdist", "--out"]).arg(&archives))
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
        let python = prepare(other, "other", &[])?;
        pytest(&python, &["."], &args.arguments)?;
    }
    match on_aarch64(&tools, &maturin, &args.arguments) {
        Err(Stop::Skipped(why)) => faultin_test::skipped("aarch64-vm", why),
        result => result?,
    }
    Ok(())
}

fn package() -> PathBuf {
    workspace().join("crates/faultin-python")
}

/// What the tests use on aarch64.
const FOR_AARCH64: [&str; 5] = ["pytest", "numpy", "safetensors", "ml_dtypes", "typing_extensions"];

/// Builds the wheel for aarch64, which needs no Python for that, and runs the tests in an emulated machine.
fn on_aarch64(tools: &Path, maturin: &Path, arguments: &[String]) -> Result<(), Stop> {
    let place = home("python");
    let cross = aarch64::cross()?;
    println!("\n--- the wheel for aarch64");
    let wheels = fresh(&place.join("wheels-aarch64"))?;
    let mut build = Command::new(maturin);
    build.current_dir(package()).args(["build", "--profile", "release", "--target", aarch64::TARGET, "--out"]);
    build.arg(&wheels).envs(cross.variables).env("CARGO_TARGET_DIR", place.join("target"));
    succeed(&mut build).map_err(Stop::Failed)?;
    let wheel = only_file(&wheels, ".whl")?;

    let mut contents = Contents { packages: vec!["python3", "libstdc++6"], ..Contents::default() };
    let python = contents.system()?.join("usr/bin/python3");
    let link = std::fs::read_link(&python).map_err(|error| Stop::Failed(format!("{}: {error}", python.display())))?;
    let version = link.to_string_lossy().replace("python", "");
    let site = fresh(&place.join("site-aarch64"))?;
    let mut install = pip(tools);
    install.args(["install", "--quiet", "--only-binary", ":all:", "--implementation", "cp"]);
    install.args(["--python-version", &version, "--target"]).arg(&site);
    // (pip takes the names of platforms as they are, and not also those of older systems.)
    let name = wheel.file_stem().unwrap_or_default().to_string_lossy();
    let own = name.rsplit('-').next().unwrap_or_default().split('.');
    for platform in own.chain(["manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"]) {
        install.args(["--platform", platform]);
    }
    output(install.args(FOR_AARCH64).arg(&wheel)).map_err(Stop::Failed)?;

    println!("\n--- Python {version} on aarch64");
    let tests = package().join("tests");
    let pytest = ["python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-c", "/dev/null", "."];
    let command = pytest.iter().map(|&word| word.to_owned()).chain(arguments.iter().cloned()).collect();
    contents.runs.push(Run { name: "pytest".into(), command, folder: tests.clone() });
    contents.files.push(package().join("README.md"));
    contents.variables.push(("PYTHONPATH", site.display().to_string()));
    contents.trees.extend([tests, site]);
    contents.boot()
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
