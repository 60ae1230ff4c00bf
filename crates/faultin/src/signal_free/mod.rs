//! Access without a signal handler: for hosts where none may be installed, threads that block SIGSEGV or SIGBUS, code in a
//! signal handler, and architectures without assembly of this crate.
//!
//! The kernel copies (see [`Method`]), at about half a microsecond per call where an access in place costs nothing, and with
//! the same exact counts. No function here relies on a handler or on an unblocked signal, and the copies, loads, stores and
//! strings are async-signal-safe. [`KernelReadView`] and [`KernelWriteView`] are ranges of such memory that implement the
//! traits of [`memory`](crate::memory). [`Process`] reads the memory of another process.
//!
//! Differences from the accesses in place:
//!
//! * No signal reports a fault, so [`Fault::signal`] is 0. Its [cause](Fault::cause) is determined afterwards. From Linux
//!   6.12 on it is [`Unmapped`](Cause::Unmapped), [`Protection`](Cause::Protection), [`Backing`](Cause::Backing) or
//!   [`Poison`](Cause::Poison); before, `Unmapped` or [`Other`](Cause::Other). It is `Other`, too, if the memory has become
//!   accessible since. An address that the machine does not have is `Unmapped`.
//! * Memory tags are checked only where a pipe is the only way to give the memory to the kernel. Protection keys are those
//!   of the thread.
//! * Pages are faulted in during the copy; a fault that waits (userfaultfd, FUSE) waits here, too.
//! * Nothing is atomic: a value may be torn while another thread stores it. Read-modify-write operations are
//!   [`Cause::Unsupported`].
//!
//! A sandbox may forbid every way: [`Cause::Unsupported`].

mod look;
mod process;
mod raw;
mod touch;
mod view;
mod ways;

pub use look::{
    compare, copy_struct_in, count_byte, crc32c, find, find_any, find_byte, is_zeroed, rfind_byte, strncpy, strnlen,
};
pub use process::{Process, ProcessError, ProcessReason};
pub(crate) use touch::touch;
pub use view::{KernelReadView, KernelWriteView};
pub use ways::Method;

use core::mem::MaybeUninit;
use core::num::NonZeroUsize;

use crate::copy::ShortRead;
use crate::fault::Granularity;
use crate::fault::outcome::TAG_GRANULE;
use crate::fault::{Access, Cause, Fault, Short};
use crate::scalar::Scalar;
use crate::walk::{self, Touch};
use crate::{arch, page_size};

/// Returns the way that loads by the kernel take in this thread: the first one that is allowed. `None` if all are
/// forbidden.
pub fn method() -> Option<Method> {
    ways::now()
}

/// Copies `len` bytes of foreign memory into plain memory: [`copy_in`](crate::raw::copy_in) by the kernel.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// * `dst` is valid for writes of `len` bytes; `src` is foreign memory that we may read.
/// * The ranges do not overlap.
pub unsafe fn copy_in(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { ways::transfer(Access::Read, dst, src, len) }
}

/// Copies `len` bytes of plain memory out to foreign memory: [`copy_out`](crate::raw::copy_out) by the kernel.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// * `src` is valid for reads of `len` bytes; `dst` is foreign memory that its owner lets us write.
/// * The ranges do not overlap.
pub unsafe fn copy_out(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { ways::transfer(Access::Write, dst, src, len) }
}

/// Copies between two ranges of foreign memory, ascending: [`copy`](crate::raw::copy()) by the kernel, with the same rule for
/// ranges that overlap.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed, or the ranges overlap with `dst` above `src`.
///
/// # Safety
/// `src` is foreign memory that we may read, `dst` foreign memory that its owner lets us write.
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    let above = arch::untag(dst.addr()).wrapping_sub(arch::untag(src.addr()));
    if above != 0 && above < len {
        return Err(Short::rejected(Access::Write, Cause::Overlap, dst.addr()));
    }
    let mut block = [MaybeUninit::<u8>::uninit(); BLOCK];
    let mut at = 0;
    while at < len {
        let step = BLOCK.min(len - at);
        // SAFETY: the block is this function's, and has as many bytes.
        let read = unsafe { copy_in(block.as_mut_ptr().cast(), src.wrapping_add(at), step) };
        let loaded = read.map_or_else(|short| short.done, |()| step);
        // SAFETY: as many bytes of the block were written.
        unsafe { copy_out(dst.wrapping_add(at), block.as_ptr().cast(), loaded) }
            .and(read)
            .map_err(|short| Short { done: at + short.done, ..short })?;
        at += step;
    }
    Ok(())
}

/// Copies foreign memory into memory that need not be initialised: [`read_uninit`](crate::raw::read_uninit) by the kernel.
///
/// # Errors
/// [`ShortRead`] if a byte could not be loaded.
///
/// # Safety
/// `src` is foreign memory that we may read, and does not overlap with `dst`.
pub unsafe fn read_uninit(dst: &mut [MaybeUninit<u8>], src: *const u8) -> Result<&mut [u8], ShortRead<'_>> {
    // SAFETY: `dst` is valid for writes; the rest is forwarded.
    let read = unsafe { copy_in(dst.as_mut_ptr().cast(), src, dst.len()) };
    // SAFETY: the bytes that were read.
    unsafe { ShortRead::of(dst, read) }
}

/// Fills `len` bytes of foreign memory with `byte`.
///
/// # Errors
/// [`Short`] if a byte could not be stored.
///
/// # Safety
/// `dst` is foreign memory that its owner lets us write.
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Result<(), Short> {
    let block = [byte; BLOCK];
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

/// Zeroes `len` bytes of foreign memory.
///
/// # Errors
/// As [`fill`].
///
/// # Safety
/// As [`fill`].
pub unsafe fn zero(dst: *mut u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { fill(dst, 0, len) }
}

/// Loads a value: one copy of its bytes, not single-copy atomic.
///
/// # Errors
/// The [`Fault`] if a byte of the value cannot be loaded.
///
/// # Safety
/// `ptr` is foreign memory that we may read.
pub unsafe fn load<T: Scalar>(ptr: *const T) -> Result<T, Fault> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` is valid for writes; the rest is forwarded.
    unsafe { copy_in(value.as_mut_ptr().cast(), ptr.cast(), size_of::<T>()) }.map_err(|short| short.fault)?;
    // SAFETY: all bytes were written, and every pattern is an integer.
    Ok(unsafe { value.assume_init() })
}

/// Stores a value: one copy of its bytes, not single-copy atomic. Nothing is stored if a byte cannot be stored, unless the
/// value is on two pages and the second one is revoked meanwhile.
///
/// # Errors
/// The [`Fault`] if a byte of the value cannot be stored.
///
/// # Safety
/// `ptr` is foreign memory that its owner lets us write.
pub unsafe fn store<T: Scalar>(ptr: *mut T, value: T) -> Result<(), Fault> {
    // SAFETY: `value` is valid for reads; the rest is forwarded.
    unsafe { store_bytes(ptr.cast(), core::ptr::from_ref(&value).cast(), size_of::<T>()) }
}

/// Stores bytes on at most two pages, all or none.
///
/// # Safety
/// As [`copy_out`].
pub(crate) unsafe fn store_bytes(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Fault> {
    let to_end = page_size() - (dst.addr() & (page_size() - 1));
    if to_end < len {
        // Both pages before the first byte: by an access that stores what is there and loses no store of another thread.
        touch(Access::Write, dst.addr())?;
        touch(Access::Write, dst.addr().wrapping_add(to_end))?;
    }
    // SAFETY: forwarded.
    unsafe { copy_out(dst, src, len) }.map_err(|short| short.fault)
}

/// Faults in `len` bytes for reading; returns the accessible prefix. [`fault_in_readable`](crate::raw::fault_in_readable) by
/// system calls. Not async-signal-safe.
///
/// # Errors
/// The [`Fault`] of the first byte if that is not accessible.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn fault_in_readable(ptr: *const u8, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
    // SAFETY: forwarded.
    crate::fault_in::prefix(len, unsafe { walk::pages(Touch::ReadByKernel, ptr.cast_mut(), len.get()) })
}

/// Faults in `len` bytes for writing, without changing any; returns the accessible prefix.
/// [`fault_in_writeable`](crate::raw::fault_in_writeable) by system calls. Not async-signal-safe.
///
/// # Errors
/// The [`Fault`] of the first byte if that is not accessible.
///
/// # Safety
/// The range is foreign memory that its owner lets us write.
pub unsafe fn fault_in_writeable(ptr: *mut u8, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
    // SAFETY: forwarded.
    crate::fault_in::prefix(len, unsafe { walk::pages(Touch::WriteByKernel, ptr, len.get()) })
}

/// Proves that every byte can be loaded, by system calls. Not async-signal-safe.
///
/// # Errors
/// [`Short`] if a byte cannot be loaded: the bytes before the unit that failed are proven.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn probe_read(ptr: *const u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { probe(Touch::ReadByKernel, ptr.cast_mut(), len, granularity) }
}

/// Proves that every byte can be stored, without changing any, by system calls. Not async-signal-safe.
///
/// # Errors
/// [`Short`] if a byte cannot be stored: the bytes before the unit that failed are proven.
///
/// # Safety
/// The range is foreign memory that its owner lets us write.
pub unsafe fn probe_write(ptr: *mut u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { probe(Touch::WriteByKernel, ptr, len, granularity) }
}

/// # Safety
/// The range is foreign memory that may be touched this way.
unsafe fn probe(by: Touch, ptr: *mut u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    let unit = match granularity {
        Granularity::Page => {
            // SAFETY: forwarded.
            return unsafe { walk::pages(by, ptr, len) }.map_err(|(done, fault)| Short { done, fault });
        }
        Granularity::Line => LINE,
        Granularity::Tag => TAG_GRANULE,
    };
    let mut at = 0;
    let mut each_unit = || {
        while at < len {
            // SAFETY: forwarded.
            unsafe { by.page(ptr.wrapping_add(at), len - at) }.map_err(|fault| (at, fault))?;
            at += unit - (ptr.addr().wrapping_add(at) & (unit - 1));
        }
        Ok(())
    };
    let proven = each_unit();
    // SAFETY: forwarded.
    unsafe { walk::still(by, ptr, len, proven) }.map_err(|(done, fault)| Short { done, fault })
}

/// Bytes in the unit of [`Granularity::Line`].
const LINE: usize = 64;

/// Number of bytes copied by way of the stack: few, because alternate signal stacks are small.
const BLOCK: usize = 1 << 10;
