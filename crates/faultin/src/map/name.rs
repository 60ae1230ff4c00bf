//! The name that a file was opened by, and the file that it leads to now.
//!
//! The name is looked up in a descriptor of its directory, so that it means the same after the process has changed its
//! working directory or the directory was renamed.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::Change;
use super::stamp::Stamp;
use super::state::PASS_THROUGH;

/// A path, and the directory of its last component.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    /// `None` where the directory could not be opened: then the path is looked up.
    place: Option<(OwnedFd, CString)>,
}

impl Name {
    /// Opens the directory of `path`.
    pub(super) fn new(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let open = || File::options().read(true).custom_flags(PASS_THROUGH | libc::O_DIRECTORY).open(directory);
        let last = path.file_name().map(OsStr::as_bytes).and_then(|name| CString::new(name).ok());
        let place = last.and_then(|last| open().ok().map(|directory| (OwnedFd::from(directory), last)));
        Name { path: path.to_owned(), place }
    }

    /// Returns the path as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the name leads to another file than the one with this stamp, or to none.
    // The fields have other types on other machines.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn change_from(&self, stamp: &Stamp) -> Option<Change> {
        let (directory, name) = match &self.place {
            Some((directory, name)) => (directory.as_raw_fd(), name.clone()),
            None => (libc::AT_FDCWD, CString::new(self.path.as_os_str().as_bytes()).ok()?),
        };
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: a string that ends with NUL, and a `stat` to write.
        if unsafe { libc::fstatat(directory, name.as_ptr(), stat.as_mut_ptr(), 0) } != 0 {
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Some(Change::Deleted),
                // A process without the right to look cannot tell.
                _ => None,
            };
        }
        // SAFETY: the call succeeded and has written all of it.
        let stat = unsafe { stat.assume_init() };
        (!stamp.is_of(stat.st_dev as u64, stat.st_ino as u64)).then_some(Change::Replaced)
    }

    /// Opens the file that the name leads to now, to read. Does not wait for the other end of a pipe.
    pub(super) fn open(&self) -> io::Result<File> {
        let Some((directory, name)) = &self.place else {
            return File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        };
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        loop {
            // SAFETY: a string that ends with NUL.
            let file = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags) };
            if file >= 0 {
                // SAFETY: a new descriptor, which nothing else owns.
                return Ok(unsafe { File::from_raw_fd(file) });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}
