//! Copies between memory that may fault and plain memory.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use faultin::{raw, signal_free};

use crate::fault::{Fault, count, stopped};
use crate::handler::has_handler;

/// The largest size that faultin_copy_in() and faultin_copy_out() copy themselves: one comparison says that there is a handler,
/// and that the size is small. 0 without a handler.
static SHORT: AtomicUsize = AtomicUsize::new(0);

/// What they jump to otherwise: first the kernel's copies, with a handler the routine of this CPU.
static IN: AtomicPtr<()> = AtomicPtr::new(faultin_kernel_copy_in as *mut ());
static OUT: AtomicPtr<()> = AtomicPtr::new(faultin_kernel_copy_out as *mut ());

type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut Fault) -> usize;

/// Makes the copies plain accesses, whose faults are recovered from here on.
pub(crate) fn rely_on_the_handler() {
    let copy = raw::counting_copy(stopped) as *mut ();
    IN.store(copy, Ordering::Relaxed);
    OUT.store(copy, Ordering::Relaxed);
    SHORT.store(raw::COUNTING_SHORT, Ordering::Release);
}

/// Makes the branch that calls it the less likely one: the code of the other one is where the function begins.
#[cold]
#[inline(always)]
const fn less_likely() {}

/// Copies as faultin_copy_in() and faultin_copy_out() do, by way of `longer` if this is no short copy with a handler.
///
/// # Safety
/// As either.
#[inline(always)]
unsafe fn copy(longer: &AtomicPtr<()>, dst: *mut c_void, src: *const c_void, len: usize, fault: *mut Fault) -> usize {
    // SAFETY: forwarded; with a handler, faults are recovered. The pointer is to a function of this type.
    unsafe {
        if len > SHORT.load(Ordering::Relaxed) {
            less_likely();
            let longer = core::mem::transmute::<*mut (), Copy>(longer.load(Ordering::Relaxed));
            return longer(dst, src, len, fault);
        }
        raw::counting_copy_short(dst.cast(), src.cast(), len, fault.cast())
    }
}

/// Copies `len` bytes of memory that may fault into plain memory. Every byte before the returned count is copied, and none
/// after it.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst    Plain memory for `len` bytes, which does not overlap with `src`.
/// @param src    Memory that may fault.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL.
/// @return The number of bytes copied.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes, `src` is memory that may fault or be read; they do not overlap. `fault` is null
/// or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_copy_in(dst: *mut c_void, src: *const c_void, len: usize, fault: *mut Fault) -> usize {
    // SAFETY: forwarded.
    unsafe { copy(&IN, dst, src, len, fault) }
}

/// Copies `len` bytes of plain memory to memory that may fault. Every byte before the returned count is copied, and none after
/// it.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst    Memory that may fault.
/// @param src    Plain memory of `len` bytes, which does not overlap with `dst`.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL.
/// @return The number of bytes copied.
///
/// # Safety
/// `src` is valid for reads of `len` bytes, `dst` is memory that may fault or be written; they do not overlap. `fault` is
/// null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_copy_out(
    dst: *mut c_void,
    src: *const c_void,
    len: usize,
    fault: *mut Fault,
) -> usize {
    // SAFETY: forwarded.
    unsafe { copy(&OUT, dst, src, len, fault) }
}

/// Copies `len` bytes between two ranges that both may fault, ascending.
///
/// Ranges that overlap with `dst` below `src` are copied as by memmove(). With `dst` above `src` nothing is copied
/// (FAULTIN_CAUSE_OVERLAP), because no exact count could be kept.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst    Memory that may fault.
/// @param src    Memory that may fault.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL. Its `access` says which side failed.
/// @return The number of bytes copied.
///
/// # Safety
/// Both are memory that may fault or be accessed. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_copy(dst: *mut c_void, src: *const c_void, len: usize, fault: *mut Fault) -> usize {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let copied = match has_handler() {
            true => raw::copy(dst.cast(), src.cast(), len),
            false => signal_free::copy(dst.cast(), src.cast(), len),
        };
        count(copied, len, fault)
    }
}

/// Fills `len` bytes of memory that may fault with a byte.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst    Memory that may fault.
/// @param byte   The byte, converted to unsigned char.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were filled; may be NULL.
/// @return The number of bytes filled.
///
/// # Safety
/// `dst` is memory that may fault or be written. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_fill(dst: *mut c_void, byte: c_int, len: usize, fault: *mut Fault) -> usize {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let filled = match has_handler() {
            true => raw::fill(dst.cast(), byte as u8, len),
            false => signal_free::fill(dst.cast(), byte as u8, len),
        };
        count(filled, len, fault)
    }
}

/// Copies as faultin_copy_in() does, always by the kernel: for threads that block SIGSEGV or SIGBUS, and for code that must not
/// raise a signal.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone. One system call if all bytes can be read.
///
/// @param dst    Plain memory for `len` bytes, which does not overlap with `src`.
/// @param src    Memory that may fault.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL.
/// @return The number of bytes copied.
///
/// # Safety
/// As [`faultin_copy_in`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_kernel_copy_in(
    dst: *mut c_void,
    src: *const c_void,
    len: usize,
    fault: *mut Fault,
) -> usize {
    // SAFETY: forwarded.
    unsafe { count(signal_free::copy_in(dst.cast(), src.cast(), len), len, fault) }
}

/// Copies as faultin_copy_out() does, always by the kernel: for threads that block SIGSEGV or SIGBUS, and for code that must
/// not raise a signal.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone. One system call if all bytes can be written.
///
/// @param dst    Memory that may fault.
/// @param src    Plain memory of `len` bytes, which does not overlap with `dst`.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL.
/// @return The number of bytes copied.
///
/// # Safety
/// As [`faultin_copy_out`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_kernel_copy_out(
    dst: *mut c_void,
    src: *const c_void,
    len: usize,
    fault: *mut Fault,
) -> usize {
    // SAFETY: forwarded.
    unsafe { count(signal_free::copy_out(dst.cast(), src.cast(), len), len, fault) }
}
