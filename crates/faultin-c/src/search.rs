//! Comparing, searching and strings, without copying.

use core::ffi::{c_char, c_int, c_void};

use faultin::{Access, Short, raw, signal_free};

use crate::fault::{Fault, failed};
use crate::handler::has_handler;

/// The offset of what was not found. (`cbindgen.toml` has it for C.)
///
/// cbindgen:ignore
pub const FAULTIN_NOT_FOUND: usize = usize::MAX;

/// The longest needle of faultin_find(), in bytes: the search allocates nothing.
pub const FAULTIN_NEEDLE_MAX: usize = 1024;

/// Reports the result of a search: an offset, or the number of bytes before the one that could not be loaded.
///
/// # Safety
/// `at` is valid for writes, `fault` is null or valid for writes.
unsafe fn found(result: Result<Option<usize>, Short>, at: *mut usize, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        match result {
            Ok(offset) => {
                at.write(offset.unwrap_or(FAULTIN_NOT_FOUND));
                0
            }
            Err(short) => {
                at.write(short.done);
                failed(&short, fault)
            }
        }
    }
}

/// Finds the first offset at which two ranges that may fault differ.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param a      Memory that may fault.
/// @param b      Memory that may fault.
/// @param len    The number of bytes of each.
/// @param at     The offset of the first byte that differs, FAULTIN_NOT_FOUND if none does. After an error, the number of equal
///               bytes before the one that could not be loaded.
/// @param fault  Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `a` and `b` are memory that may fault or be read, `at` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_compare(
    a: *const c_void,
    b: *const c_void,
    len: usize,
    at: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let result = match has_handler() {
            true => raw::compare(a.cast(), b.cast(), len),
            false => signal_free::compare(a.cast(), b.cast(), len),
        };
        found(result, at, fault)
    }
}

/// Finds the first occurrence of a needle in memory that may fault. The time is in proportion to `len`, whatever the bytes are.
///
/// Async-signal-safe, with 8 KiB of stack: does not allocate or lock, and leaves errno alone.
///
/// @param ptr         Memory that may fault.
/// @param len         The number of bytes to search.
/// @param needle      Plain memory: the bytes to find.
/// @param needle_len  Their number, at most FAULTIN_NEEDLE_MAX. None are found at 0.
/// @param at          The offset of the first occurrence, FAULTIN_NOT_FOUND if there is none. After an error, the offset of the
///                    byte that could not be loaded: no occurrence ends before it.
/// @param fault       Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `ptr` is memory that may fault or be read, `needle` is valid for reads of `needle_len` bytes, `at` is valid for writes,
/// `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_find(
    ptr: *const c_void,
    len: usize,
    needle: *const c_void,
    needle_len: usize,
    at: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        if needle_len > FAULTIN_NEEDLE_MAX {
            at.write(0);
            return failed(Fault::invalid().side(Access::Read), fault);
        }
        let needle = bytes(needle, needle_len);
        let result = match has_handler() {
            true => raw::find(ptr.cast(), len, needle),
            false => signal_free::find(ptr.cast(), len, needle),
        };
        found(result, at, fault)
    }
}

/// Finds the first occurrence of a byte in memory that may fault.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param ptr    Memory that may fault.
/// @param len    The number of bytes to search.
/// @param byte   The byte, converted to unsigned char.
/// @param at     The offset of the first occurrence, FAULTIN_NOT_FOUND if there is none. After an error, the number of bytes
///               before the one that could not be loaded.
/// @param fault  Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `ptr` is memory that may fault or be read, `at` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_find_byte(
    ptr: *const c_void,
    len: usize,
    byte: c_int,
    at: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let result = match has_handler() {
            true => raw::find_byte(ptr.cast(), len, byte as u8),
            false => signal_free::find_byte(ptr.cast(), len, byte as u8),
        };
        found(result, at, fault)
    }
}

/// Counts the bytes of a value in memory that may fault.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param ptr    Memory that may fault.
/// @param len    The number of bytes to search.
/// @param byte   The byte, converted to unsigned char.
/// @param count  The number of its occurrences; not written after an error.
/// @param fault  Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `ptr` is memory that may fault or be read, `count` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_count_byte(
    ptr: *const c_void,
    len: usize,
    byte: c_int,
    count: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let result = match has_handler() {
            true => raw::count_byte(ptr.cast(), len, byte as u8),
            false => signal_free::count_byte(ptr.cast(), len, byte as u8),
        };
        match result {
            Ok(number) => {
                count.write(number);
                0
            }
            Err(short) => failed(&short, fault),
        }
    }
}

/// Returns the length of a string in memory that may fault, or `max` if none of the first `max` bytes is NUL. No byte after
/// the NUL is needed.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param string  Memory that may fault.
/// @param max     The largest length.
/// @param len     The number of bytes before the NUL. After an error, the number of bytes before the one that could not be
///                loaded, none of which is NUL.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `string` is memory that may fault or be read, `len` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_strnlen(
    string: *const c_char,
    max: usize,
    len: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let result = match has_handler() {
            true => raw::strnlen(string.cast(), max),
            false => signal_free::strnlen(string.cast(), max),
        };
        found(result.map(Some), len, fault)
    }
}

/// Copies a string in memory that may fault, up to and including its NUL, at most `max` bytes. Unlike strncpy(), it fills nothing
/// after the NUL.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param dst     Plain memory for `max` bytes, which does not overlap with the string.
/// @param string  Memory that may fault.
/// @param max     The largest number of bytes, with the NUL.
/// @param len     The number of bytes before the NUL; `max` if none was found, and `dst` has no NUL then. After an error, the
///                number of bytes copied, none of which is NUL.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or the error number of the fault.
///
/// # Safety
/// `dst` is valid for writes of `max` bytes, `string` is memory that may fault or be read; they do not overlap. `len` is
/// valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_strncpy(
    dst: *mut c_char,
    string: *const c_char,
    max: usize,
    len: *mut usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let result = match has_handler() {
            true => raw::strncpy(dst.cast(), string.cast(), max),
            false => signal_free::strncpy(dst.cast(), string.cast(), max),
        };
        found(result.map(Some), len, fault)
    }
}

/// Returns plain bytes of the caller; an empty range may begin anywhere, also at null.
///
/// # Safety
/// `ptr` is valid for reads of `len` bytes while the result lives, or `len` is 0.
pub(crate) unsafe fn bytes<'a>(ptr: *const c_void, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        // SAFETY: forwarded.
        _ => unsafe { core::slice::from_raw_parts(ptr.cast(), len) },
    }
}
