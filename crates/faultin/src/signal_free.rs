//! Access without a signal handler: for hosts where none may be installed, and for architectures without our assembly.
//!
//! The kernel does the copying: `process_vm_readv(2)` and `process_vm_writev(2)` on ourselves. About half a microsecond
//! a call where an access in place costs nothing, and the same exact counts. What differs:
//!
//! * The reason is the kernel's `EFAULT`, so every fault is [`Cause::Other`] with no signal.
//! * Memory that the kernel does not let itself be given by address is refused although it could be loaded:
//!   `memfd_secret`, device mappings, `[vvar]`.
//! * Memory tags and (for readers in other threads) protection keys are not checked.
//! * Pages are faulted in on the way; a fault that waits (userfaultfd, FUSE) waits here, too.
//! * Nothing is atomic.
//!
//! A sandbox may forbid the calls: [`Cause::Unsupported`].

use core::mem::MaybeUninit;

use crate::fault::{Access, Cause, Fault, Short};

/// Copies `len` bytes of foreign memory into plain memory.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes; `src` is foreign memory (or anything) that we may read; they do not
/// overlap. No handler is needed.
pub unsafe fn copy_in(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    transfer(Access::Read, len, src.addr(), |at, len| {
        let local = libc::iovec { iov_base: dst.wrapping_add(at).cast(), iov_len: len };
        let remote = libc::iovec { iov_base: src.wrapping_add(at).cast_mut().cast(), iov_len: len };
        // SAFETY: writes to `dst` only, forwarded.
        unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) }
    })
}

/// Copies `len` bytes of plain memory out to foreign memory.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// `src` is valid for reads of `len` bytes; `dst` is foreign memory (or anything) that its owner lets us write; they do
/// not overlap. No handler is needed.
pub unsafe fn copy_out(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    transfer(Access::Write, len, dst.addr(), |at, len| {
        let local = libc::iovec { iov_base: src.wrapping_add(at).cast_mut().cast(), iov_len: len };
        let remote = libc::iovec { iov_base: dst.wrapping_add(at).cast(), iov_len: len };
        // SAFETY: writes to `dst` only, forwarded.
        unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) }
    })
}

/// Fills `len` bytes of foreign memory with `byte`.
///
/// # Errors
/// [`Short`] if a byte could not be stored.
///
/// # Safety
/// `dst` is foreign memory (or anything) that its owner lets us write. No handler is needed.
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Result<(), Short> {
    let block = [byte; PATTERN];
    let mut at = 0;
    while at < len {
        let step = (len - at).min(block.len());
        // SAFETY: a part of the range.
        unsafe { copy_out(dst.wrapping_add(at), block.as_ptr(), step) }
            .map_err(|short| Short { done: at + short.done, ..short })?;
        at += step;
    }
    Ok(())
}

/// Loads a value: one copy of its bytes, not single-copy atomic.
///
/// # Errors
/// The [`Fault`].
///
/// # Safety
/// `ptr` is foreign memory (or anything) that we may read. No handler is needed.
pub unsafe fn load<T: crate::scalar::Scalar>(ptr: *const T) -> Result<T, Fault> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` is valid for writes; the rest is forwarded.
    unsafe { copy_in(value.as_mut_ptr().cast(), ptr.cast(), size_of::<T>()) }.map_err(|short| short.fault)?;
    // SAFETY: all bytes were written, and every pattern is an integer.
    Ok(unsafe { value.assume_init() })
}

/// Stores a value: one copy of its bytes, not single-copy atomic, and not all-or-nothing where it crosses into a page
/// that cannot be written.
///
/// # Errors
/// The [`Fault`].
///
/// # Safety
/// `ptr` is foreign memory (or anything) that its owner lets us write. No handler is needed.
pub unsafe fn store<T: crate::scalar::Scalar>(ptr: *mut T, value: T) -> Result<(), Fault> {
    // SAFETY: `value` is valid for reads; the rest is forwarded.
    unsafe { copy_out(ptr.cast(), core::ptr::from_ref(&value).cast(), size_of::<T>()) }.map_err(|short| short.fault)
}

/// Bytes filled by one call: what is copied from, on the stack.
const PATTERN: usize = 4 << 10;

/// Bytes asked of the kernel at once: it pins their pages.
const CHUNK: usize = 1 << 20;

/// Calls `step(done, len)` until everything is moved or the kernel moves nothing more. It refuses a request that leaves
/// the address space as a whole, so one that spans pages is repeated for a byte before that counts as an answer.
fn transfer(access: Access, len: usize, foreign: usize, step: impl Fn(usize, usize) -> isize) -> Result<(), Short> {
    let page = crate::page_size();
    let (mut done, mut chunk) = (0, CHUNK);
    while done < len {
        let ask = (len - done).min(chunk);
        let moved = step(done, ask);
        match usize::try_from(moved) {
            // Short, but not nothing: the next round says why.
            Ok(moved) if moved > 0 => done += moved,
            _ => {
                let error = if moved < 0 { std::io::Error::last_os_error().raw_os_error() } else { None };
                let cause = match error {
                    Some(libc::EINTR) => continue,
                    Some(libc::ENOSYS | libc::EPERM) => Cause::Unsupported,
                    _ if ask > page => {
                        chunk = page;
                        continue;
                    }
                    _ if ask > 1 && foreign.wrapping_add(done) & (page - 1) > page - ask => {
                        chunk = 1;
                        continue;
                    }
                    _ => Cause::Other,
                };
                return Err(Short { done, fault: Fault::refused(access, cause, foreign.wrapping_add(done)) });
            }
        }
    }
    Ok(())
}
