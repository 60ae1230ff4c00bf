//! Debian's packages.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stop, has_command, output, succeed};

/// Runs a command of the package manager. Its output goes to standard error: standard output is for `--print`.
pub fn apt(command: &mut Command) -> Result<(), String> {
    succeed(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr()))
}

/// The packages of an architecture, beside the system: apt with its own state, in which nothing is installed. It needs no root, changes
/// nothing of the system, and has what it downloads in a folder of its own.
pub struct Archive {
    arch: String,
    home: PathBuf,
}

impl Archive {
    /// Of Debian's name for the architecture, in a folder. The lists of packages are downloaded at the first call.
    ///
    /// # Errors
    /// [`Stop::Skipped`] if there is no apt, or the lists cannot be downloaded.
    pub fn new(arch: &str, home: PathBuf) -> Result<Archive, Stop> {
        if !has_command("apt-get") || !has_command("dpkg") {
            return Err(Stop::Skipped("no apt-get and dpkg to get packages with".into()));
        }
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            make(&home.join(folder))?;
        }
        let status = home.join("state/status");
        fs::write(&status, "").map_err(|error| Stop::Failed(format!("{}: {error}", status.display())))?;
        let archive = Archive { arch: arch.to_owned(), home };
        if archive.dependency("dpkg", "tar").is_err() {
            archive.update()?;
        }
        Ok(archive)
    }

    fn update(&self) -> Result<(), Stop> {
        apt(self.command("apt-get").args(["-q", "update"])).map_err(Stop::Skipped)
    }

    fn command(&self, program: &str) -> Command {
        let (state, cache) = (self.home.join("state"), self.home.join("cache"));
        let mut command = Command::new(program);
        for (option, value) in [
            ("APT::Architecture", self.arch.clone()),
            ("APT::Architectures", self.arch.clone()),
            ("APT::Sandbox::User", String::new()),
            ("Debug::NoLocking", "true".to_owned()),
            ("Dir::Cache", cache.display().to_string()),
            ("Dir::State", state.display().to_string()),
            ("Dir::State::status", state.join("status").display().to_string()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }

    /// Returns the dependency of a package whose name begins with `prefix`.
    ///
    /// # Errors
    /// If it has none.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String, String> {
        let shown = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        dependencies(&shown)
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .ok_or_else(|| format!("{package} depends on no {prefix}*"))
    }

    /// Unpacks packages with all that they depend on, or without, into `root`, which is made anew. A second call with the same
    /// packages does nothing.
    ///
    /// # Errors
    /// [`Stop::Skipped`] if they cannot be downloaded.
    pub fn unpack(&self, packages: &[&str], with_dependencies: bool, root: &Path) -> Result<(), Stop> {
        let (stamp, list) = (root.join(".packages"), packages.join(" "));
        if fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == list) {
            return Ok(());
        }
        eprintln!("downloading {list} ({})", self.arch);
        let downloads = self.home.join("cache/archives");
        let _ = fs::remove_dir_all(&downloads);
        make(&downloads.join("partial"))?;
        let mut download = self.command("apt-get");
        if with_dependencies {
            download.args(["install", "-qq", "-y", "--download-only", "--no-install-recommends"]);
        } else {
            download.args(["download", "-q"]).current_dir(&downloads);
        }
        if apt(download.args(packages)).is_err() {
            // The lists may name versions that have been replaced.
            self.update()?;
            apt(&mut download).map_err(Stop::Skipped)?;
        }
        unpack_all(&downloads, root)?;
        let _ = fs::remove_dir_all(&downloads);
        // Last, so that an interrupted setup is repeated.
        fs::write(&stamp, list).map_err(|error| Stop::Failed(format!("{}: {error}", stamp.display())))
    }
}

/// Returns the names in the dependencies of what `apt-cache show` prints.
pub fn dependencies(shown: &str) -> impl Iterator<Item = &str> {
    let lists = shown.lines().filter_map(|line| line.strip_prefix("Depends: "));
    lists.flat_map(|list| list.split(", ")).filter_map(|dependency| dependency.split(' ').next())
}

/// Downloads packages to a folder and unpacks them into `root`, without installing them. Both folders are made anew, and the
/// downloads are removed.
///
/// # Errors
/// [`Stop::Skipped`] if the packages cannot be downloaded.
pub fn unpack(packages: &[impl AsRef<OsStr>], downloads: &Path, root: &Path) -> Result<(), Stop> {
    let _ = fs::remove_dir_all(downloads);
    make(downloads)?;
    apt(Command::new("apt-get").current_dir(downloads).args(["download", "-q"]).args(packages))
        .map_err(Stop::Skipped)?;
    unpack_all(downloads, root)?;
    fs::remove_dir_all(downloads).map_err(|error| Stop::Failed(format!("{}: {error}", downloads.display())))
}

/// Unpacks all packages of a folder into `root`, which is made anew.
fn unpack_all(downloads: &Path, root: &Path) -> Result<(), Stop> {
    let _ = fs::remove_dir_all(root);
    make(root)?;
    let io = |error: std::io::Error| Stop::Failed(format!("{}: {error}", downloads.display()));
    for package in fs::read_dir(downloads).map_err(io)? {
        let package = package.map_err(io)?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            succeed(Command::new("dpkg").arg("-x").arg(package).arg(root)).map_err(Stop::Failed)?;
        }
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), Stop> {
    fs::create_dir_all(folder).map_err(|error| Stop::Failed(format!("{}: {error}", folder.display())))
}
