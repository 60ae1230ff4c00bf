//! No instruction of ours faults here, so no interrupted registers are ever looked at: the handler is not installed, and
//! a host that calls `try_handle` finds no table entry.

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
/// As the system call.
pub(crate) unsafe fn syscall4(number: i64, a: usize, b: usize, c: usize, d: usize) -> isize {
    // SAFETY: forwarded.
    unsafe { syscall6(number, [a, b, c, d, 0, 0]) }
}

/// # Safety
/// As the system call.
pub(crate) unsafe fn syscall6(number: i64, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: forwarded. It may set errno, which matters in a handler; none is ever installed here.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) as isize } {
        // The kernel's answer is the number itself.
        -1 => -(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) as isize),
        result => result,
    }
}
