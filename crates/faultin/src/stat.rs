//! `fstat(2)`, where the standard library would use `statx(2)`, which filters of system calls may reject.

use core::mem::MaybeUninit;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::errno::CallError;

/// Calls `fstat` by its number. The C library's function makes the call with a path and takes a fifth longer.
#[inline]
pub(crate) fn fstat(file: &File) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: writes a `stat`, whose layout the kernel and the C library share on these machines.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let failed = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), stat.as_mut_ptr()) } != 0;
    // SAFETY: writes a `stat`.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let failed = unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) } != 0;
    if failed {
        return Err(CallError::last("fstat"));
    }
    // SAFETY: the call succeeded and has written all of it.
    Ok(unsafe { stat.assume_init() })
}

/// Returns the type of a file that is not a regular one.
pub(crate) fn irregular(file: &File) -> io::Result<Option<std::fs::FileType>> {
    if fstat(file)?.st_mode & libc::S_IFMT == libc::S_IFREG {
        return Ok(None);
    }
    // Only the standard library's `Metadata` can express it.
    let about = file.metadata().map_err(|error| CallError::name("statx", error))?;
    Ok(Some(about.file_type()))
}
