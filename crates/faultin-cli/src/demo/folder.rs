//! A temporary folder, without the build time of a package for it.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Missing;

/// A folder that is removed when it is dropped. (Children end without dropping it.)
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one in the folder for temporary files, in shared memory or here: in the first of these that is writable.
    pub fn new() -> Result<Folder, Missing> {
        let name = format!("faultin-demo.{}", std::process::id());
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for parent in [std::env::temp_dir(), "/dev/shm".into(), ".".into()] {
            for number in 0..100 {
                let path = parent.join(format!("{name}.{number}"));
                match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => return Ok(Folder(path)),
                    Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(other) => {
                        error = other;
                        break;
                    }
                }
            }
        }
        Err(Missing::because("a folder to write a file to", error))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
