//! Copying and filling memory that may fault: see [`raw`](crate::raw).

#[cfg(feature = "std")]
use core::ffi::c_void;
use core::fmt;
use core::mem::MaybeUninit;
#[cfg(feature = "std")]
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::arch;
use crate::fault::outcome::{FaultCode, Outcome, bounds, exact};
use crate::fault::{Access, Cause, Fault, Short};

/// Copies `len` bytes of foreign memory into plain memory.
///
/// Differs from the kernel's `copy_from_user`: returns the number of bytes copied, not of those missed, and leaves the rest
/// of the destination untouched instead of zeroing it.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// * `dst` is valid for writes of `len` bytes; `src` is foreign memory that we may read.
/// * The ranges do not overlap.
#[doc(alias = "copy_from_user")]
#[doc(alias = "raw_copy_from_user")]
#[doc(alias = "copy_from_user_nofault")]
#[inline]
pub unsafe fn copy_in(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { copy_nonoverlapping(dst, src, len) }
}

/// Copies as [`copy_in`] does, for a source that is in no cache and a destination that stays in the L1 cache: a string
/// instruction, where the CPU has a fast one, prefetches where vector loads wait.
///
/// # Safety
/// As [`copy_in`].
#[cfg(feature = "std")]
#[inline]
pub(crate) unsafe fn copy_in_ahead(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    if !arch::cpu::string_copies_are_fast() {
        // SAFETY: forwarded.
        return unsafe { copy_in(dst, src, len) };
    }
    // SAFETY: forwarded.
    let outcome = unsafe { arch::copy_bytes(dst, src, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    Err(exact(dst.addr(), src.addr(), outcome.done(dst), FaultCode(outcome.code), outcome.si_addr))
}

/// Copies as [`copy_in`] does, for a destination that is not read soon: where the CPU can, bytes go past its caches
/// (non-temporal stores), which saves reading the destination first. Elsewhere, and for less than a few hundred bytes, it
/// is the same as [`copy_in`].
///
/// The copy is complete on return: another thread that learns of it afterwards sees the bytes.
///
/// # Errors
/// As [`copy_in`].
///
/// # Safety
/// As [`copy_in`].
#[cfg(feature = "std")]
#[inline]
pub unsafe fn copy_in_streaming(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    let outcome = unsafe { arch::copy_streaming(dst, src, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    // SAFETY: the arguments of the copy that failed, and its result.
    unsafe { finish_copy(dst, src, len, outcome.code, outcome.si_addr, outcome.reached) }
}

/// Copies `len` bytes of plain memory out to foreign memory.
///
/// Differs from the kernel's `copy_to_user`: returns the number of bytes copied, not of those missed.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// * `src` is valid for reads of `len` bytes; `dst` is foreign memory that its owner lets us write.
/// * The ranges do not overlap.
#[doc(alias = "copy_to_user")]
#[doc(alias = "raw_copy_to_user")]
#[doc(alias = "copy_to_user_nofault")]
#[inline]
pub unsafe fn copy_out(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { copy_nonoverlapping(dst, src, len) }
}

/// Copies between two ranges of foreign memory, ascending.
///
/// Ranges that overlap with `dst` below `src` are copied as by `memmove`, byte by byte with the CPU's string instruction.
/// With `dst` above `src` no exact count could be kept, and the copy fails ([`Cause::Overlap`], nothing accessed). `dst ==
/// src` accesses every byte.
///
/// # Errors
/// [`Short`] if a byte of either range could not be accessed.
///
/// # Safety
/// * `src` is foreign memory that we may read, `dst` foreign memory that its owner lets us write.
#[doc(alias = "raw_copy_in_user")]
#[inline]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // Addresses with different tags may be the same byte.
    let (to, from) = (arch::untag(dst.addr()), arch::untag(src.addr()));
    let (above, below) = (to.wrapping_sub(from), from.wrapping_sub(to));
    if above < len || below < len {
        // SAFETY: forwarded.
        return unsafe { copy_overlapping(dst, src, len) };
    }
    // SAFETY: forwarded; no overlap.
    unsafe { copy_nonoverlapping(dst, src, len) }
}

#[cold]
unsafe fn copy_overlapping(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    if arch::untag(dst.addr()) > arch::untag(src.addr()) {
        return Err(Short::rejected(Access::Write, Cause::Overlap, dst.addr()));
    }
    // SAFETY: forwarded; ascending, with `dst` not above `src`.
    let outcome = unsafe { arch::copy_bytes(dst, src, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    Err(exact(dst.addr(), src.addr(), outcome.done(dst), FaultCode(outcome.code), outcome.si_addr))
}

/// Copies as [`copy`] does, for short copies of unpredictable size: the same contract and counts.
///
/// On x86-64, up to 64 bytes are copied with few branches on the size, or none, which is several times faster where a branch
/// predictor cannot predict the size: with one masked register where the CPU has AVX-512, otherwise with four that overlap.
/// The price of a mask: a later load of the copied bytes cannot be forwarded from a store that is still in flight, and takes
/// about 2.5 times as long. Use it for data that is passed on, not for objects that are used at once; for sizes that repeat,
/// [`copy_in`] is as fast.
///
/// # Errors
/// As [`copy_in`].
///
/// # Safety
/// * Each range is plain memory valid for the access, or foreign memory that its owner lets us access.
/// * They do not overlap.
#[inline]
pub unsafe fn copy_unpredictable(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    let outcome = unsafe { arch::copy_unpredictable(dst, src, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    // SAFETY: forwarded.
    unsafe { finish_copy(dst, src, len, outcome.code, outcome.si_addr, outcome.reached) }
}

#[inline]
unsafe fn copy_nonoverlapping(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    let outcome = unsafe { arch::copy(dst, src, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    // SAFETY: forwarded.
    unsafe { finish_copy(dst, src, len, outcome.code, outcome.si_addr, outcome.reached) }
}

/// Fills `len` bytes of foreign memory with `byte`.
///
/// Differs from the kernel's `clear_user` (for `byte` 0): returns the number of bytes filled, not of those missed.
///
/// # Errors
/// [`Short`] if a byte could not be stored.
///
/// # Safety
/// * `dst` is foreign memory that its owner lets us write.
pub unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    let outcome = unsafe { arch::fill(dst, byte, len) };
    if outcome.code == 0 {
        return Ok(());
    }
    let (mut done, limit) = bounds(dst, dst.addr(), len, &outcome);
    if done == len {
        // The store that failed repeated bytes that were stored already.
        return Ok(());
    }
    let mut code = outcome.code;
    if done < limit {
        let rest = dst.wrapping_add(done);
        // SAFETY: a part of the range.
        let last = unsafe { arch::fill_bytes(rest, byte, limit - done) };
        if last.code == 0 {
            done = limit;
            if done == len {
                return Ok(());
            }
        } else {
            done += last.done(rest);
            code = last.code;
        }
    }
    Err(Short { done, fault: Fault::from_registers(FaultCode(code), 0).at(dst.addr().wrapping_add(done)) })
}

/// Zeroes `len` bytes of foreign memory.
///
/// # Errors
/// As [`fill`].
///
/// # Safety
/// As [`fill`].
#[doc(alias = "clear_user")]
#[inline]
pub unsafe fn zero(dst: *mut u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { fill(dst, 0, len) }
}

/// Finishes a copy that an out-of-line routine could not: copies exactly up to the first byte that cannot be copied. (The
/// outcome comes in registers, so that a copy that succeeds stores nothing.)
#[cold]
#[inline(never)]
unsafe fn finish_copy(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    code: u64,
    si_addr: usize,
    reached: usize,
) -> Result<(), Short> {
    let first = Outcome { code, si_addr, reached };
    let side = match FaultCode(code).access() {
        Access::Read => src.addr(),
        Access::Write => dst.addr(),
    };
    let (done, limit) = bounds(dst, side, len, &first);
    if done == len {
        // The store that failed repeated bytes that were stored already.
        return Ok(());
    }
    if done >= limit {
        return Err(exact(dst.addr(), src.addr(), done, FaultCode(code), si_addr));
    }
    let (to, from) = (dst.wrapping_add(done), src.wrapping_add(done));
    // SAFETY: a part of both ranges.
    let rest = unsafe { arch::copy_bytes(to, from, limit - done) };
    if rest.code != 0 {
        let done = done + rest.done(to);
        return Err(exact(dst.addr(), src.addr(), done, FaultCode(rest.code), rest.si_addr));
    }
    if limit == len {
        // The owner has made the memory accessible meanwhile.
        return Ok(());
    }
    Err(exact(dst.addr(), src.addr(), limit, FaultCode(code), si_addr))
}

/// A copy with C's calling convention, from or to foreign memory, that returns the number of bytes copied. Its last argument
/// is for [`Stopped`] alone. Not part of the interface.
#[cfg(feature = "std")]
#[doc(hidden)]
pub type CountingCopy = unsafe extern "C" fn(*mut u8, *const u8, usize, *mut c_void) -> usize;

/// What a [`CountingCopy`] calls with a short result and its last argument; its result is the copy's. Not part of the
/// interface.
#[cfg(feature = "std")]
#[doc(hidden)]
pub type Stopped = unsafe extern "C" fn(&Short, *mut c_void) -> usize;

/// The object's [`Stopped`].
#[cfg(feature = "std")]
static STOPPED: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Returns a copy for callers in C, with the contract of [`copy_in`] and [`copy_out`]: as fast as the routine itself, because
/// nothing is between it and the caller. Each object has one `stopped`. Not part of the interface.
#[cfg(feature = "std")]
#[doc(hidden)]
pub fn counting_copy(stopped: Stopped) -> CountingCopy {
    STOPPED.store(stopped as *mut (), Ordering::Release);
    #[cfg(all(target_arch = "x86_64", not(faultin_syscall)))]
    return arch::dispatch::counting_copy();
    #[cfg(not(all(target_arch = "x86_64", not(faultin_syscall))))]
    {
        unsafe extern "C" fn plain(dst: *mut u8, src: *const u8, len: usize, caller: *mut c_void) -> usize {
            // SAFETY: forwarded.
            unsafe { counted(copy_in(dst, src, len), len, caller) }
        }
        plain
    }
}

/// The largest size of [`counting_copy_short`]. Not part of the interface.
#[cfg(feature = "std")]
#[doc(hidden)]
pub const COUNTING_SHORT: usize = {
    #[cfg(all(target_arch = "x86_64", not(faultin_syscall)))]
    {
        arch::SHORT
    }
    #[cfg(not(all(target_arch = "x86_64", not(faultin_syscall))))]
    {
        0
    }
};

/// Copies as a [`CountingCopy`] does, where it is called. Not part of the interface.
///
/// # Safety
/// As the [`CountingCopy`], which [`counting_copy`] has returned before in this object. `len` is at most [`COUNTING_SHORT`].
#[cfg(feature = "std")]
#[doc(hidden)]
#[inline(always)]
pub unsafe fn counting_copy_short(dst: *mut u8, src: *const u8, len: usize, caller: *mut c_void) -> usize {
    #[cfg(all(target_arch = "x86_64", not(faultin_syscall)))]
    {
        // SAFETY: forwarded; the arguments of the copy, and its outcome.
        unsafe { arch::copy_short(dst, src, len, |code, si_addr| finish_short(dst, src, len, caller, si_addr, code)) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(faultin_syscall))))]
    {
        let _ = (dst, src, caller);
        len
    }
}

/// Finishes a [`counting_copy_short`] that met a fault. As many arguments as there are registers for them: a copy that succeeds
/// needs no stack.
///
/// # Safety
/// The arguments of the copy, and its outcome.
#[cfg(all(feature = "std", target_arch = "x86_64", not(faultin_syscall)))]
#[cold]
#[inline(never)]
unsafe extern "C" fn finish_short(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    caller: *mut c_void,
    si_addr: usize,
    code: u64,
) -> usize {
    // SAFETY: forwarded.
    unsafe { finish_counting(dst, src, len, caller, si_addr, dst.addr(), code) }
}

/// # Safety
/// `caller` is what [`Stopped`] takes.
#[cfg(feature = "std")]
unsafe fn counted(result: Result<(), Short>, len: usize, caller: *mut c_void) -> usize {
    let Err(short) = result else { return len };
    let stopped = STOPPED.load(Ordering::Acquire);
    // SAFETY: stored before the copy was returned.
    unsafe { core::mem::transmute::<*mut (), Stopped>(stopped)(&short, caller) }
}

/// Finishes a [`CountingCopy`] that met a fault.
///
/// # Safety
/// The arguments of the copy, and its outcome.
#[cfg(all(feature = "std", target_arch = "x86_64", not(faultin_syscall)))]
pub(crate) unsafe extern "C" fn finish_counting(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    caller: *mut c_void,
    si_addr: usize,
    reached: usize,
    code: u64,
) -> usize {
    // SAFETY: forwarded.
    unsafe { counted(finish_copy(dst, src, len, code, si_addr, reached), len, caller) }
}

/// A short read into memory that was not initialised: the part that is initialised now, and the rest.
#[derive(Debug)]
pub struct ShortRead<'d> {
    /// The bytes that were read.
    pub init: &'d mut [u8],
    /// The rest, untouched.
    pub uninit: &'d mut [MaybeUninit<u8>],
    /// The reason why the read stopped.
    pub fault: Fault,
}

impl fmt::Display for ShortRead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Short { done: self.init.len(), fault: self.fault }.fmt(f)
    }
}

impl core::error::Error for ShortRead<'_> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.fault)
    }
}

impl From<ShortRead<'_>> for Short {
    fn from(read: ShortRead<'_>) -> Self {
        Short { done: read.init.len(), fault: read.fault }
    }
}

#[cfg(feature = "std")]
impl From<ShortRead<'_>> for std::io::Error {
    /// Converts the [`Short`] in it: an `io::Error` borrows nothing.
    fn from(read: ShortRead<'_>) -> Self {
        Short::from(read).into()
    }
}

/// Returns `bytes` as initialised (`assume_init_mut` of slices, stable since Rust 1.93).
///
/// # Safety
/// Each byte has been written.
unsafe fn written(bytes: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: the range is that of the slice, which is borrowed for as long; forwarded from the caller.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

impl<'d> ShortRead<'d> {
    /// Returns the result of a copy into `dst` that ended with `read`.
    ///
    /// # Safety
    /// The copy has written the bytes that it counted.
    #[inline]
    pub(crate) unsafe fn of(dst: &'d mut [MaybeUninit<u8>], read: Result<(), Short>) -> Result<&'d mut [u8], Self> {
        match read {
            // SAFETY: every byte was written.
            Ok(()) => Ok(unsafe { written(dst) }),
            Err(short) => {
                let (init, uninit) = dst.split_at_mut(short.done);
                // SAFETY: the bytes before the count were written.
                Err(ShortRead { init: unsafe { written(init) }, uninit, fault: short.fault })
            }
        }
    }
}

/// Copies foreign memory into memory that need not be initialised, and returns the initialised part: all of it, or the two
/// halves of a [`ShortRead`].
///
/// # Errors
/// [`ShortRead`] if a byte could not be loaded.
///
/// # Safety
/// * `src` is foreign memory that we may read, and does not overlap with `dst`.
pub unsafe fn read_uninit(dst: &mut [MaybeUninit<u8>], src: *const u8) -> Result<&mut [u8], ShortRead<'_>> {
    // SAFETY: `dst` is valid for writes; the rest is forwarded.
    let read = unsafe { copy_in(dst.as_mut_ptr().cast(), src, dst.len()) };
    // SAFETY: the bytes that were read.
    unsafe { ShortRead::of(dst, read) }
}
