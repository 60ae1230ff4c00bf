//! Layered file systems: a mapping there may stop showing the file.
//!
//! On overlayfs, a file of a lower layer that is opened for writing is copied to the upper layer first. From then on every
//! descriptor of the file leads to another inode. `fstat(2)` and `read(2)` follow it, with the same device and inode
//! numbers; a mapping does not, and neither does a new mapping of the old open file description. So where this can happen,
//! a new description is opened and mapped: after the file's state was queried, so that any later change is detected.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::stamp::Stamp;
use super::state::file_system;
use crate::errno::CallError;

/// overlayfs, aufs and unionfs, by the `f_type` of `statfs(2)`.
const LAYERED: [u32; 3] = [0x794c_7630, 0x6175_6673, 0xf15f_083d];

/// Returns whether the bytes of `file` may move away from under a mapping. Those of a file that is open for writing have
/// moved already.
pub(super) fn may_move(file: &File) -> bool {
    if !file_system(file).is_some_and(|(kind, _)| LAYERED.contains(&kind)) {
        return false;
    }
    // SAFETY: queries the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags < 0 || flags & libc::O_ACCMODE == libc::O_RDONLY
}

/// Opens the current file of a descriptor once more, to read. `stamp` is its earlier stamp.
///
/// # Errors
/// Those of `open(2)`; `ESTALE` if it is another file.
pub(super) fn reopen(file: &File, path: Option<&Path>, stamp: &Stamp) -> io::Result<File> {
    let open = |path: &Path| File::options().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path);
    let open = |path: &Path| open(path).map_err(|error| CallError::name("open", error));
    let again = open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())));
    // Without /proc the name may work.
    let again = match (again, path) {
        (Err(_), Some(path)) => open(path)?,
        (again, _) => again?,
    };
    match Stamp::of(&again) {
        Ok(now) if now.is_of_the_same_file(stamp) => Ok(again),
        now => {
            // Closing any descriptor of a file releases the process's record locks on it. Whichever file it is, it stays
            // open: a space opens at most as many as it is [replaced](super::mapping::REPLACED) times.
            let _ = again.into_raw_fd();
            Err(now.err().unwrap_or_else(|| io::Error::from_raw_os_error(libc::ESTALE)))
        }
    }
}
