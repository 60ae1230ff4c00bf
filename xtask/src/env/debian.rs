//! Debian's packages.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Stop, succeed};

/// Runs a command of the package manager. Its output goes to standard error: standard output is for `--print`.
pub fn apt(command: &mut Command) -> Result<(), String> {
    succeed(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr()))
}

/// Downloads packages to a folder and unpacks them into `root`, without installing them. Both folders are made anew, and the
/// downloads are removed.
///
/// # Errors
/// [`Stop::Skipped`] if the packages cannot be downloaded.
pub fn unpack(packages: &[impl AsRef<OsStr>], downloads: &Path, root: &Path) -> Result<(), Stop> {
    for folder in [root, downloads] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(|error| Stop::Failed(format!("{}: {error}", folder.display())))?;
    }
    apt(Command::new("apt-get").current_dir(downloads).args(["download", "-q"]).args(packages))
        .map_err(Stop::Skipped)?;
    let io = |error: std::io::Error| Stop::Failed(format!("{}: {error}", downloads.display()));
    for package in fs::read_dir(downloads).map_err(io)? {
        succeed(Command::new("dpkg").arg("-x").arg(package.map_err(io)?.path()).arg(root)).map_err(Stop::Failed)?;
    }
    fs::remove_dir_all(downloads).map_err(io)
}
