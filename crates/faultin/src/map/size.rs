//! [`has_known_size`]: whether a file's size is the number of its bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::stamp::Stamp;
use super::state::is_made_up;
use crate::errno::CallError;

/// How often a file of size 0 must return a byte to count as one without a size. (A file may be filled and emptied
/// meanwhile.)
const ATTEMPTS: usize = 8;

/// Returns whether the size that `fstat(2)` reports of a regular file is the number of its bytes.
///
/// It is not on proc, sysfs, tracefs, debugfs, cgroup and similar file systems, which `fstatfs(2)` identifies: nothing is
/// read there. Elsewhere a file of size 0 that has a first byte has no size (FUSE servers with direct I/O make such files).
///
/// # Errors
/// Those of `fstat(2)`, and of reading one byte from a file of size 0.
pub fn has_known_size(file: &File) -> io::Result<bool> {
    has_size(file, Stamp::of(file)?.size)
}

/// Returns the same for a file whose size was queried.
pub(crate) fn has_size(file: &File, size: u64) -> io::Result<bool> {
    if is_made_up(file) {
        return Ok(false);
    }
    if size > 0 {
        return Ok(true);
    }
    // A file that was empty when its size was queried may have a first byte a moment later, and a size.
    for _ in 0..ATTEMPTS {
        match file.read_at(&mut [0], 0) {
            Ok(0) => return Ok(true),
            Ok(_) if Stamp::of(file)?.size > 0 => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match error.raw_os_error() {
                // Not open for reading, or with O_DIRECT, which does not read one byte: only the size is available.
                Some(libc::EBADF | libc::EINVAL) => return Ok(true),
                // Without positions, or not readable at once: a stream.
                Some(libc::ESPIPE | libc::EAGAIN) => return Ok(false),
                _ => return Err(CallError::name("pread64", error)),
            },
        }
    }
    Ok(false)
}
