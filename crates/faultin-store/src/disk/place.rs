//! [`Place`]: the directory of a tier, and the two files in it.
//!
//! The bytes of objects may be private, and in a directory that other users can write to, such as `/tmp`, names may be links that they
//! have made. So the directory must belong to this user, must not be writable by others, and its own name must not be a link; files are
//! opened relative to it, and not through links.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, open, openat};
use rustix::process::geteuid;

use super::device::FileDevice;
use super::writer::Files;

/// A directory that only this user can write to.
#[derive(Debug)]
pub struct Place {
    dir: OwnedFd,
}

impl Place {
    /// Opens the directory at `path`, and makes it, for this user only, if it does not exist.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the directory is another user's or other users may write to it;
    /// the kernel's errors, such as `ENOTDIR` for a link.
    pub fn open(path: &Path) -> io::Result<Place> {
        // Without a slash at the end, which would follow a link.
        let path: PathBuf = path.components().collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(&path, flags, Mode::empty())?;
        let stat = fstat(&dir)?;
        let reject = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", path.display())));
        if stat.st_uid != geteuid().as_raw() {
            return reject("the directory of a disk tier must belong to the user of the process");
        }
        if stat.st_mode & 0o022 != 0 {
            return reject("other users may write to this directory; a disk tier needs one of mode 0700");
        }
        Ok(Place { dir })
    }

    /// Opens the index and the data, or makes them, and locks them for this process until the index is dropped.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if another process has them; the kernel's errors.
    pub fn files(&self) -> io::Result<Files> {
        let index = self.file("index")?;
        flock(&index, FlockOperation::NonBlockingLockExclusive)?;
        let data = self.file("data")?;
        Ok((Box::new(FileDevice::new(index)), Arc::new(FileDevice::new(data))))
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fstat(&file)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == geteuid().as_raw()
            && stat.st_nlink <= 1;
        if !is_ours {
            let why = format!("{name}: not a file of this user with one name");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if stat.st_mode & 0o077 != 0 {
            fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        }
        Ok(file.into())
    }
}
