//! Writing a file atomically: a reader finds the old contents, or all of the new ones.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes `text` to `path`: through a new file in its directory that gets its name, and its permissions if it existed. `-` is
/// standard output; a pipe or a device is written to directly.
///
/// # Errors
/// The system's error, with the file's name.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    if is_stdout(path) {
        super::print(text);
        return Ok(());
    }
    replace(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Returns whether this name stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A symbolic link stays, and its target is replaced.
    let path = fs::canonicalize(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(PathBuf::from(path)),
        _ => Err(error),
    })?;
    let permissions = match fs::metadata(&path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => return fs::write(&path, text),
        Ok(there) => there.permissions(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Permissions::from_mode(0o666),
        Err(error) => return Err(error),
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".faultin-").permissions(permissions).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}
