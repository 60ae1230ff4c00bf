//! No instruction of this crate faults here, so interrupted registers are never read: the handler is not installed, and a
//! host that calls `try_handle` finds no table entry.

use crate::fault::Access;

pub(crate) fn pc(_: &libc::ucontext_t) -> usize {
    0
}

pub(crate) fn set_pc(_: &mut libc::ucontext_t, _: usize) {}

pub(crate) fn set_register(_: &mut libc::ucontext_t, _: usize, _: u64) {}

pub(crate) fn access(_: &libc::ucontext_t) -> Option<Access> {
    None
}

/// # Safety
/// Those of the system call.
pub(crate) unsafe fn syscall4(number: libc::c_long, a: usize, b: usize, c: usize, d: usize) -> isize {
    // SAFETY: forwarded.
    unsafe { syscall6(number, [a, b, c, d, 0, 0]) }
}

/// # Safety
/// Those of the system call.
pub(crate) unsafe fn syscall6(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: forwarded. `errno` is preserved, for code that runs in a handler.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let result = libc::syscall(number, a, b, c, d, e, f) as isize;
        let error = *errno;
        *errno = before;
        if result == -1 { -(error as isize) } else { result }
    }
}

/// Returns a number that differs from thread to thread.
pub(crate) fn thread_pointer() -> usize {
    // SAFETY: returns a number of this thread.
    unsafe { libc::pthread_self() as usize }
}
