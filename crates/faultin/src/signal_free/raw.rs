//! System calls without the C library, and descriptors that close themselves.

use core::ffi::{CStr, c_int, c_long};

use crate::arch;

/// Makes a system call, and repeats it while a signal interrupts it.
///
/// # Errors
/// Its `errno`.
///
/// # Safety
/// Those of the system call. A pointer among the arguments was exposed, or is this process's by contract.
pub(super) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Result<usize, c_int> {
    loop {
        // SAFETY: forwarded.
        let result = unsafe { arch::context::syscall6(number, arguments) };
        match usize::try_from(result) {
            Ok(result) => return Ok(result),
            Err(_) if result == -(libc::EINTR as isize) => {}
            Err(_) => return Err(result.unsigned_abs() as c_int),
        }
    }
}

/// A descriptor that this module has opened.
pub(super) struct Descriptor(usize);

impl Descriptor {
    pub(super) fn number(&self) -> usize {
        self.0
    }

    pub(super) fn open(path: &CStr, flags: c_int) -> Option<Self> {
        let here = libc::AT_FDCWD as isize as usize;
        // SAFETY: the path ends with a NUL.
        let opened =
            unsafe { call(libc::SYS_openat, [here, path.as_ptr().expose_provenance(), flags as usize, 0, 0, 0]) };
        opened.ok().map(Descriptor)
    }

    /// Returns the reading end and the writing end of a new pipe, which never waits.
    pub(super) fn pipe() -> Option<[Self; 2]> {
        let mut ends: [c_int; 2] = [0; 2];
        let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
        // SAFETY: the kernel writes the two numbers.
        unsafe { call(libc::SYS_pipe2, [(&raw mut ends).expose_provenance(), flags, 0, 0, 0, 0]) }.ok()?;
        Some(ends.map(|end| Descriptor(end as usize)))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: opened by this module, and closed once.
        let _ = unsafe { arch::context::syscall6(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
    }
}
