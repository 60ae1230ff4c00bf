//! System calls of a handler: without the C library, whose `errno` they leave alone.

use core::ffi::{CStr, c_int, c_long};

use faultin::signal::syscall6;

/// Makes a system call, and repeats it while a signal interrupts it.
///
/// # Errors
/// Its error number.
///
/// # Safety
/// Those of the system call.
pub(super) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Result<usize, c_int> {
    loop {
        // SAFETY: forwarded.
        let result = unsafe { syscall6(number, arguments) };
        match usize::try_from(result) {
            Ok(result) => return Ok(result),
            Err(_) if result == -(libc::EINTR as isize) => {}
            Err(_) => return Err(result.unsigned_abs() as c_int),
        }
    }
}

/// A descriptor that is closed when it is dropped, unless it is the program's.
pub(super) struct Descriptor {
    number: c_int,
    is_ours: bool,
}

impl Descriptor {
    pub(super) fn open(path: &CStr, flags: c_int) -> Option<Descriptor> {
        let here = libc::AT_FDCWD as isize as usize;
        let flags = (flags | libc::O_CLOEXEC) as usize;
        // SAFETY: a string that ends with NUL.
        let opened = unsafe { call(libc::SYS_openat, [here, path.as_ptr().expose_provenance(), flags, 0, 0, 0]) };
        opened.ok().map(|number| Descriptor { number: number as c_int, is_ours: true })
    }

    /// A descriptor of the program, which stays open.
    pub(super) fn of_program(number: c_int) -> Descriptor {
        Descriptor { number, is_ours: false }
    }

    pub(super) fn number(&self) -> c_int {
        self.number
    }

    pub(super) fn read(&self, to: &mut [u8]) -> usize {
        let arguments = [self.number as usize, to.as_mut_ptr().expose_provenance(), to.len(), 0, 0, 0];
        // SAFETY: the kernel writes the buffer.
        unsafe { call(libc::SYS_read, arguments) }.unwrap_or(0)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours {
            // SAFETY: opened here, and closed once.
            let _ = unsafe { syscall6(libc::SYS_close, [self.number as usize, 0, 0, 0, 0, 0]) };
        }
    }
}

/// Writes everything, as far as that is possible.
pub(super) fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let arguments = [fd as usize, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0];
        // SAFETY: the kernel reads the buffer.
        match unsafe { call(libc::SYS_write, arguments) } {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or(&[]),
            _ => return,
        }
    }
}
