//! Lists of segments, with the limits of readv(2).

use core::ffi::{c_int, c_void};

use libc::iovec;

use crate::copy::{faultin_copy_in, faultin_copy_out};
use crate::fault::{Fault, failed};

/// The largest number of segments, as in readv(2) (IOV_MAX).
pub const FAULTIN_IOV_MAX: usize = 1024;

/// Returns the segments, if the list keeps the limits of readv(2): at most [`FAULTIN_IOV_MAX`] segments, and lengths whose sum
/// is a `ssize_t`.
///
/// # Safety
/// `list` is valid for reads of `count` segments while the result lives.
unsafe fn segments<'a>(list: *const iovec, count: c_int) -> Option<&'a [iovec]> {
    let count = usize::try_from(count).ok().filter(|&count| count <= FAULTIN_IOV_MAX)?;
    if count == 0 {
        return Some(&[]);
    }
    // SAFETY: forwarded.
    let list = unsafe { core::slice::from_raw_parts(list, count) };
    let sum = list.iter().try_fold(0_isize, |sum, segment| sum.checked_add_unsigned(segment.iov_len));
    sum.map(|_| list)
}

/// Copies the segments of a list, one after the other, until `len` bytes are done or a segment is short.
///
/// # Safety
/// As [`segments`]. `fault` is null or valid for writes, and `copy` copies as its arguments say.
unsafe fn each(
    list: *const iovec,
    count: c_int,
    len: usize,
    fault: *mut Fault,
    copy: impl Fn(usize, *mut c_void, usize) -> usize,
) -> usize {
    if len == 0 {
        return 0;
    }
    // SAFETY: forwarded.
    let Some(list) = (unsafe { segments(list, count) }) else {
        // SAFETY: forwarded.
        unsafe { failed(Fault::invalid(), fault) };
        return 0;
    };
    let mut done = 0;
    for segment in list {
        let ask = segment.iov_len.min(len - done);
        let copied = copy(done, segment.iov_base, ask);
        done += copied;
        if copied < ask {
            if !fault.is_null() {
                // SAFETY: forwarded; the copy has written it.
                unsafe { (*fault).done = done as u64 };
            }
            return done;
        }
    }
    if done < len {
        // The list is shorter than the caller said.
        // SAFETY: forwarded.
        unsafe { failed(Fault { done: done as u64, ..Fault::invalid() }, fault) };
    }
    done
}

/// Copies `len` bytes from segments that may fault into plain memory: gathers. The list itself is plain memory.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst    Plain memory for `len` bytes.
/// @param len    The number of bytes.
/// @param iov    The segments, in memory that may fault.
/// @param count  The number of segments, at most FAULTIN_IOV_MAX. The sum of their lengths is at most SSIZE_MAX.
/// @param fault  Written if fewer bytes were copied; may be NULL. FAULTIN_CAUSE_OUT_OF_RANGE if the list breaks a limit (nothing
///               is copied then), or has fewer than `len` bytes.
/// @return The number of bytes copied.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes, `iov` for reads of `count` segments; each is memory that may fault or be read,
/// and does not overlap with `dst`. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_copy_in_iov(
    dst: *mut c_void,
    len: usize,
    iov: *const iovec,
    count: c_int,
    fault: *mut Fault,
) -> usize {
    // SAFETY: forwarded; within `dst`.
    unsafe {
        each(iov, count, len, fault, |at, base, ask| faultin_copy_in(dst.wrapping_byte_add(at), base, ask, fault))
    }
}

/// Copies `len` bytes of plain memory to segments that may fault: scatters. The list itself is plain memory.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param iov    The segments, in memory that may fault.
/// @param count  The number of segments, at most FAULTIN_IOV_MAX. The sum of their lengths is at most SSIZE_MAX.
/// @param src    Plain memory of `len` bytes.
/// @param len    The number of bytes.
/// @param fault  Written if fewer bytes were copied; may be NULL. FAULTIN_CAUSE_OUT_OF_RANGE if the list breaks a limit (nothing
///               is copied then), or has fewer than `len` bytes.
/// @return The number of bytes copied.
///
/// # Safety
/// `src` is valid for reads of `len` bytes, `iov` for reads of `count` segments; each is memory that may fault or be
/// written, and does not overlap with `src`. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_copy_out_iov(
    iov: *const iovec,
    count: c_int,
    src: *const c_void,
    len: usize,
    fault: *mut Fault,
) -> usize {
    // SAFETY: forwarded; within `src`.
    unsafe {
        each(iov, count, len, fault, |at, base, ask| faultin_copy_out(base, src.wrapping_byte_add(at), ask, fault))
    }
}
