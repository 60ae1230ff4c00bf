//! Reading resident bytes: the kernel copies, and does not wait.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::error::{OperationError, Reason};

/// Reads `dst.len()` bytes from `offset` in the file. Fails with [`PastEnd`](Reason::PastEnd) if the file ends before.
pub(super) fn read(file: &File, dst: &mut [u8], offset: u64) -> Result<(), OperationError> {
    let mut done = 0;
    while done < dst.len() {
        let rest = &mut dst[done..];
        let iov = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let Ok(at) = i64::try_from(offset + done as u64) else {
            return Err(OperationError::new(done, Reason::PastEnd { len: 0 }));
        };
        // The lower half, and the upper one where a `long` is half of the position. (The system call, because musl has a function
        // of it from 1.2.5 on only.)
        let (low, high) = (at as libc::c_long, (at >> 32) as libc::c_long);
        let (fd, flags) = (file.as_raw_fd(), libc::RWF_NOWAIT);
        // SAFETY: writes to `rest` only.
        let read = unsafe { libc::syscall(libc::SYS_preadv2, fd, &raw const iov, 1, low, high, flags) };
        match usize::try_from(read) {
            Ok(0) => return Err(OperationError::new(done, Reason::PastEnd { len: 0 })),
            Ok(read) => done += read,
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Flags that are not known are EINVAL on some file systems.
                    Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => {
                        return Err(OperationError::new(done, Reason::Unsupported("reading without waiting")));
                    }
                    _ => return Err(OperationError::io_there(done, "preadv2", error)),
                }
            }
        }
    }
    Ok(())
}
