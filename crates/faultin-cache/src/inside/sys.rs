//! The system calls of code that runs in signals: bare, without `errno`, cancellation points or anything else of the C
//! library. (`rustix` may have been built to call that library; only its type for error numbers is used here.)
//!
//! `tests/inside.rs` checks this for the files that run in signals.

#![allow(unsafe_code, reason = "system calls")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use faultin::signal::syscall6;
use rustix::io::Errno;

/// # Safety
/// Those of the system call.
unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's contract.
    let result = unsafe { syscall6(number, arguments) };
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL)))
}

fn fd(fd: BorrowedFd<'_>) -> usize {
    // Never negative.
    fd.as_raw_fd() as usize
}

/// `pread(2)`.
pub(crate) fn pread(from: BorrowedFd<'_>, buf: &mut [u8], pos: u64) -> Result<usize, Errno> {
    let arguments = [fd(from), buf.as_mut_ptr().expose_provenance(), buf.len(), pos as usize, 0, 0];
    // SAFETY: writes to a buffer that is borrowed for it. (A position fits into a machine word.)
    unsafe { call(libc::SYS_pread64, arguments) }
}

/// `pwrite(2)`.
pub(crate) fn pwrite(to: BorrowedFd<'_>, buf: &[u8], pos: u64) -> Result<usize, Errno> {
    // SAFETY: reads a buffer that is borrowed for it.
    unsafe { call(libc::SYS_pwrite64, [fd(to), buf.as_ptr().expose_provenance(), buf.len(), pos as usize, 0, 0]) }
}

/// `write(2)`.
pub(crate) fn write(to: BorrowedFd<'_>, buf: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads a buffer that is borrowed for it.
    unsafe { call(libc::SYS_write, [fd(to), buf.as_ptr().expose_provenance(), buf.len(), 0, 0, 0]) }
}

/// `read(2)`.
pub(crate) fn read(from: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: writes to a buffer that is borrowed for it.
    unsafe { call(libc::SYS_read, [fd(from), buf.as_mut_ptr().expose_provenance(), buf.len(), 0, 0, 0]) }
}

/// `fallocate(2)`: frees the memory of a range.
pub(crate) fn punch_hole(file: BorrowedFd<'_>, pos: u64, len: usize) -> Result<(), Errno> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: numbers.
    unsafe { call(libc::SYS_fallocate, [fd(file), mode as usize, pos as usize, len, 0, 0]) }.map(drop)
}

/// `mprotect(2)`.
///
/// # Safety
/// A part of a mapping of the caller, to whose bytes there are no references.
pub(crate) unsafe fn mprotect(start: *mut u8, len: usize, rights: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_mprotect, [start.expose_provenance(), len, rights as usize, 0, 0, 0]) }.map(drop)
}

/// `madvise(2)`.
///
/// # Safety
/// A part of a mapping of the caller, for which the effect of the advice is what the caller expects.
pub(crate) unsafe fn madvise(start: *mut u8, len: usize, advice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_madvise, [start.expose_provenance(), len, advice as usize, 0, 0, 0]) }.map(drop)
}

/// `munlock(2)`.
///
/// # Safety
/// A part of a mapping of the caller.
pub(crate) unsafe fn munlock(start: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_munlock, [start.expose_provenance(), len, 0, 0, 0, 0]) }.map(drop)
}

/// `munmap(2)`.
///
/// # Safety
/// A mapping of the caller, which no other code uses any more.
pub(crate) unsafe fn munmap(start: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_munmap, [start.expose_provenance(), len, 0, 0, 0, 0]) }.map(drop)
}

/// `ioctl(2)`.
///
/// # Safety
/// `argument` is the structure that this request reads and writes.
pub(crate) unsafe fn ioctl<T>(file: BorrowedFd<'_>, request: u32, argument: &mut T) -> Result<(), Errno> {
    let arguments = [fd(file), request as usize, ptr::from_mut(argument).expose_provenance(), 0, 0, 0];
    // SAFETY: the caller's contract.
    unsafe { call(libc::SYS_ioctl, arguments) }.map(drop)
}

/// `futex(2)`: sleeps until it is woken, or for `time`, if the word is as expected. Also returns because of a signal, and
/// spuriously.
pub(crate) fn futex_wait_for(word: &AtomicU32, expected: u32, time: Option<Duration>) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // Two machine words, as 64-bit kernels have them.
    let time = time.map(|time| [time.as_secs() as i64, i64::from(time.subsec_nanos())]);
    let time = time.as_ref().map_or(0, |time| time.as_ptr().expose_provenance());
    let arguments = [word.as_ptr().expose_provenance(), operation as usize, expected as usize, time, 0, 0];
    // SAFETY: reads the word, and the time if there is one.
    let _ = unsafe { call(libc::SYS_futex, arguments) };
}

/// `futex(2)`: wakes threads that sleep at the word, at most `count`.
pub(crate) fn futex_wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // The kernel takes a signed number.
    let count = count.min(i32::MAX as u32) as usize;
    // SAFETY: only the address of the word is used.
    let _ = unsafe { call(libc::SYS_futex, [word.as_ptr().expose_provenance(), operation as usize, count, 0, 0, 0]) };
}

/// `prlimit64(2)`: the maximum size of a file of this process in bytes; unlimited if it is unknown.
pub(crate) fn file_size_limit() -> u64 {
    resource_limit(libc::RLIMIT_FSIZE as usize)
}

/// `prlimit64(2)`: the least of the limits of this process's memory in bytes; unlimited if they are unknown.
pub(crate) fn memory_limit() -> u64 {
    resource_limit(libc::RLIMIT_AS as usize).min(resource_limit(libc::RLIMIT_DATA as usize))
}

fn resource_limit(resource: usize) -> u64 {
    let mut limits = [u64::MAX; 2];
    let to = limits.as_mut_ptr().expose_provenance();
    // SAFETY: writes two numbers.
    match unsafe { call(libc::SYS_prlimit64, [0, resource, 0, to, 0, 0]) } {
        Ok(_) => limits[0],
        Err(_) => u64::MAX,
    }
}

/// `sysinfo(2)`: the memory of the machine in bytes, `None` if it is unknown.
pub(crate) fn memory() -> Option<usize> {
    // SAFETY: zeros are one.
    let mut info: libc::sysinfo = unsafe { core::mem::zeroed() };
    // SAFETY: writes the structure.
    unsafe { call(libc::SYS_sysinfo, [(&raw mut info).expose_provenance(), 0, 0, 0, 0, 0]) }.ok()?;
    usize::try_from(info.totalram).ok()?.checked_mul(usize::try_from(info.mem_unit).ok()?.max(1))
}

/// Returns the kernel's id of this thread.
pub(crate) fn gettid() -> u32 {
    // SAFETY: has no arguments, and does not fail.
    unsafe { call(libc::SYS_gettid, [0; 6]) }.map_or(0, |thread| thread as u32)
}

/// `rt_sigprocmask(2)`: blocks these signals and no others, and returns the previous mask. It does not fail. (The C
/// library's function leaves its own signals unchanged.)
pub(crate) fn set_mask(new: u64) -> u64 {
    change_mask(libc::SIG_SETMASK, new)
}

/// Changes the mask by `signals`, and returns the previous one.
fn change_mask(how: libc::c_int, signals: u64) -> u64 {
    let mut before = 0_u64;
    let (new, old) = (ptr::from_ref(&signals).expose_provenance(), ptr::from_mut(&mut before).expose_provenance());
    // SAFETY: two sets of signals of the kernel's size, on the stack.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, [how as usize, new, old, size_of::<u64>(), 0, 0]) };
    before
}

/// `rt_sigpending(2)`: returns the signals that are pending until this thread unblocks them. It does not fail.
pub(crate) fn pending() -> u64 {
    let mut pending = 0_u64;
    // SAFETY: writes one set of signals of the kernel's size.
    let _ = unsafe {
        call(libc::SYS_rt_sigpending, [ptr::from_mut(&mut pending).expose_provenance(), size_of::<u64>(), 0, 0, 0, 0])
    };
    pending
}

/// Blocks signals, until it is dropped.
pub(crate) struct Blocked {
    pub(crate) before: u64,
}

impl Blocked {
    pub(crate) fn all() -> Blocked {
        Blocked { before: set_mask(u64::MAX) }
    }

    /// Blocks all signals except those in `open`, which stay as they are.
    pub(crate) fn all_but(open: u64) -> Blocked {
        Blocked { before: change_mask(libc::SIG_BLOCK, !open) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}
