//! Copies by the kernel: system calls.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Calls `process_vm_readv(2)` on this process; returns the number of bytes done, or `None`.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes.
#[inline]
pub unsafe fn process_vm_readv(dst: *mut u8, src: *const u8, len: usize) -> Option<usize> {
    let local = libc::iovec { iov_base: dst.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: src.cast_mut().cast(), iov_len: len };
    // SAFETY: the kernel writes to `dst` only; forwarded.
    usize::try_from(unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) }).ok()
}

/// Calls `pread(2)`; returns the number of bytes done, or `None`.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes, or is no address of this process at all.
#[inline]
pub unsafe fn pread(file: BorrowedFd<'_>, dst: *mut u8, len: usize) -> Option<usize> {
    // SAFETY: the kernel writes to `dst` only; forwarded.
    usize::try_from(unsafe { libc::pread(file.as_raw_fd(), dst.cast(), len, 0) }).ok()
}

/// `MADV_POPULATE_READ`.
#[inline]
pub fn populate_read(ptr: *mut u8, len: usize) -> bool {
    // SAFETY: changes no byte and no mapping.
    unsafe { libc::madvise(ptr.cast(), len, libc::MADV_POPULATE_READ) == 0 }
}

/// `MADV_POPULATE_WRITE`.
#[inline]
pub fn populate_write(ptr: *mut u8, len: usize) -> bool {
    // SAFETY: changes no byte and no mapping.
    unsafe { libc::madvise(ptr.cast(), len, libc::MADV_POPULATE_WRITE) == 0 }
}
