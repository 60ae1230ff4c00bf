//! Strings, searches, checksums and versioned structures over memory that the kernel copies piece by piece to the stack.

use core::ops::ControlFlow;

use super::{BLOCK, copy_in, fill};
use crate::fault::Short;
use crate::page_size;
use crate::scan::{Plain, SHORT_NEEDLE, over};
use crate::structs::StructError;

/// Calls `each` with the bytes from `ptr`, piece by piece and with their offsets, until it breaks. No piece is on two
/// pages. The part of a piece that could be loaded is given to `each` before a fault is reported.
///
/// # Safety
/// The range is foreign memory that we may read.
unsafe fn pieces<R>(
    ptr: *const u8,
    len: usize,
    mut each: impl FnMut(usize, &[u8]) -> ControlFlow<R>,
) -> Result<Option<R>, Short> {
    let mut block = [0; BLOCK];
    let mut at = 0;
    while at < len {
        let from = ptr.wrapping_add(at);
        let to_end = page_size() - (from.addr() & (page_size() - 1));
        let piece = &mut block[..BLOCK.min(to_end).min(len - at)];
        // SAFETY: a part of the range.
        let read = unsafe { copy_in(piece.as_mut_ptr(), from, piece.len()) };
        let loaded = read.map_or_else(|short| short.done, |()| piece.len());
        if let ControlFlow::Break(result) = each(at, &piece[..loaded]) {
            return Ok(Some(result));
        }
        read.map_err(|short| Short { done: at + short.done, ..short })?;
        at += loaded;
    }
    Ok(None)
}

/// Breaks with what `look` finds in a piece: an offset in it becomes one in the range.
fn at_first(
    look: impl Fn(Plain, usize) -> Result<Option<usize>, Short>,
) -> impl FnMut(usize, &[u8]) -> ControlFlow<usize> {
    move |at, piece| match look(Plain(piece.as_ptr()), piece.len()) {
        Ok(Some(found)) => ControlFlow::Break(at + found),
        // Plain memory does not fail.
        _ => ControlFlow::Continue(()),
    }
}

/// Returns the length of the string at `ptr`, or `max`: [`strnlen`](crate::raw::strnlen) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; none of the `done` bytes before it is NUL.
///
/// # Safety
/// The string is foreign memory that we may read.
pub unsafe fn strnlen(ptr: *const u8, max: usize) -> Result<usize, Short> {
    // SAFETY: forwarded.
    unsafe { find_byte(ptr, max, 0) }.map(|nul| nul.unwrap_or(max))
}

/// Copies the string at `src` up to and including its NUL, at most `max` bytes; returns the number of bytes before the NUL:
/// [`strncpy`](crate::raw::strncpy) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; none of the `done` bytes copied is NUL.
///
/// # Safety
/// The string is foreign memory that we may read; `dst` is valid for writes of `max` bytes and does not overlap with it.
pub unsafe fn strncpy(dst: *mut u8, src: *const u8, max: usize) -> Result<usize, Short> {
    let copy = |at: usize, piece: &[u8]| {
        let nul = piece.iter().position(|&byte| byte == 0);
        let count = nul.map_or(piece.len(), |nul| nul + 1);
        // SAFETY: `at + count <= max`, for which `dst` is valid.
        unsafe { dst.add(at).copy_from_nonoverlapping(piece.as_ptr(), count) };
        nul.map_or(ControlFlow::Continue(()), |nul| ControlFlow::Break(at + nul))
    };
    // SAFETY: forwarded.
    unsafe { pieces(src, max, copy) }.map(|nul| nul.unwrap_or(max))
}

/// Returns whether all of `len` bytes are zero: [`is_zeroed`](crate::raw::is_zeroed) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded and every byte before it is zero.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn is_zeroed(ptr: *const u8, len: usize) -> Result<bool, Short> {
    let look = |_: usize, piece: &[u8]| match piece.iter().all(|&byte| byte == 0) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    // SAFETY: forwarded.
    unsafe { pieces(ptr, len, look) }.map(|found| found.is_none())
}

/// Returns the first offset at which two ranges differ, `None` if they are equal: [`compare`](crate::raw::compare) by the
/// kernel.
///
/// # Errors
/// [`Short`] if a byte of either could not be loaded and every byte before it is equal.
///
/// # Safety
/// Both ranges are foreign memory that we may read.
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> Result<Option<usize>, Short> {
    let mut block = [0; BLOCK];
    let look = |at: usize, piece: &[u8]| {
        // SAFETY: the block is this function's and as long as a piece can be; a part of the second range.
        let read = unsafe { copy_in(block.as_mut_ptr(), b.wrapping_add(at), piece.len()) };
        let loaded = read.map_or_else(|short| short.done, |()| piece.len());
        match (piece.iter().zip(&block[..loaded]).position(|(a, b)| a != b), read) {
            (Some(differs), _) => ControlFlow::Break(Ok(at + differs)),
            (None, Err(short)) => ControlFlow::Break(Err(Short { done: at + short.done, ..short })),
            (None, Ok(())) => ControlFlow::Continue(()),
        }
    };
    // SAFETY: forwarded.
    unsafe { pieces(a, len, look) }?.transpose()
}

/// Returns the offset of the first byte that is `byte`: [`find_byte`](crate::scan::find_byte) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none before it is `byte`.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn find_byte(ptr: *const u8, len: usize, byte: u8) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { find_any(ptr, len, [byte]) }
}

/// Returns the offset of the first byte that is one of `bytes`: [`find_any`](crate::scan::find_any) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none before it is one of `bytes`.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn find_any<const N: usize>(ptr: *const u8, len: usize, bytes: [u8; N]) -> Result<Option<usize>, Short> {
    // SAFETY: a piece has as many bytes; the rest is forwarded.
    unsafe { pieces(ptr, len, at_first(|piece, len| over::find_any(piece, len, bytes))) }
}

/// Returns the offset of the last byte that is `byte`: [`rfind_byte`](crate::scan::rfind_byte) by the kernel.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none after it is `byte`. Its [`done`](Short::done) counts the bytes after
/// it.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn rfind_byte(ptr: *const u8, len: usize, byte: u8) -> Result<Option<usize>, Short> {
    let mut block = [0; BLOCK];
    let (mut end, mut size) = (len, BLOCK);
    while end > 0 {
        // Number of bytes of the last byte's page, up to and including that byte.
        let within = (ptr.addr().wrapping_add(end - 1) & (page_size() - 1)) + 1;
        let piece = &mut block[..size.min(within).min(end)];
        let at = end - piece.len();
        // SAFETY: a part of the range.
        match unsafe { copy_in(piece.as_mut_ptr(), ptr.wrapping_add(at), piece.len()) } {
            Ok(()) => {
                if let Some(found) = piece.iter().rposition(|&b| b == byte) {
                    return Ok(Some(at + found));
                }
                (end, size) = (at, BLOCK);
            }
            // A bad byte may come before good ones.
            Err(_) if piece.len() > 1 => size = piece.len() / 2,
            Err(short) => return Err(Short { done: len - end, ..short }),
        }
    }
    Ok(None)
}

/// Counts the bytes of `len` that are `byte`: [`count_byte`](crate::scan::count_byte) by the kernel.
///
/// # Errors
/// [`Short`] at the first byte that could not be loaded.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn count_byte(ptr: *const u8, len: usize, byte: u8) -> Result<usize, Short> {
    let mut count = 0;
    let look = |_: usize, piece: &[u8]| {
        // SAFETY: a piece has as many bytes.
        count += unsafe { over::count_byte(Plain(piece.as_ptr()), piece.len(), byte) }.unwrap_or(0);
        ControlFlow::<()>::Continue(())
    };
    // SAFETY: forwarded.
    unsafe { pieces(ptr, len, look) }.map(|_| count)
}

/// Returns the CRC-32C of `len` bytes, continued from `before`: [`crc32c`](crate::scan::crc32c) by the kernel.
///
/// # Errors
/// [`Short`] at the first byte that could not be loaded.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn crc32c(before: u32, ptr: *const u8, len: usize) -> Result<u32, Short> {
    let mut sum = before;
    let look = |_: usize, piece: &[u8]| {
        // SAFETY: a piece has as many bytes, and plain memory does not fail.
        sum = unsafe { over::crc32c(sum, Plain(piece.as_ptr()), piece.len()) }.unwrap_or(sum);
        ControlFlow::<()>::Continue(())
    };
    // SAFETY: forwarded.
    unsafe { pieces(ptr, len, look) }.map(|_| sum)
}

/// Returns the offset of the first occurrence of `needle`: [`find`](crate::raw::find) by the kernel. Async-signal-safe, with
/// 8 KiB of stack, for needles of at most 1,024 bytes. For longer ones it allocates, because an occurrence may be in two
/// pieces.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; no occurrence ends before it.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn find(ptr: *const u8, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    if needle.len() > len || needle.is_empty() {
        // SAFETY: forwarded: a result that needs no search still reports a byte that cannot be loaded.
        return unsafe { count_byte(ptr, if needle.is_empty() { 0 } else { len }, 0) }
            .map(|_| if needle.is_empty() { Some(0) } else { None });
    }
    if needle.len() <= SHORT_NEEDLE {
        // SAFETY: forwarded.
        return unsafe { find_in(ptr, len, needle, &mut [0; 4 * SHORT_NEEDLE]) };
    }
    // SAFETY: forwarded.
    unsafe { find_in(ptr, len, needle, &mut vec![0; needle.len() - 1 + SEARCHED.max(needle.len())]) }
}

/// Searches window by window: the window has the last bytes that were searched, and the next ones.
///
/// # Safety
/// As [`find`]. The window is longer than the needle.
unsafe fn find_in(ptr: *const u8, len: usize, needle: &[u8], window: &mut [u8]) -> Result<Option<usize>, Short> {
    let keep = needle.len() - 1;
    let (mut start, mut kept) = (0, 0);
    loop {
        let at = start + kept;
        let ask = (window.len() - kept).min(len - at);
        // SAFETY: the window has as many bytes; a part of the range.
        let read = unsafe { copy_in(window[kept..].as_mut_ptr(), ptr.wrapping_add(at), ask) };
        let loaded = kept + read.map_or_else(|short| short.done, |()| ask);
        // SAFETY: as many bytes of the window.
        if let Ok(Some(found)) = unsafe { over::find(Plain(window.as_ptr()), loaded, needle) } {
            return Ok(Some(start + found));
        }
        read.map_err(|short| Short { done: at + short.done, ..short })?;
        if start + loaded == len {
            return Ok(None);
        }
        kept = keep.min(loaded);
        window.copy_within(loaded - kept..loaded, 0);
        start += loaded - kept;
    }
}

/// Number of bytes searched at once for a long needle.
const SEARCHED: usize = 64 << 10;

/// Copies a structure whose size is its version: [`copy_struct_in`](crate::raw::copy_struct_in) by the kernel.
///
/// # Errors
/// [`StructError`] if a byte cannot be loaded, or the part that does not fit has a byte that is not zero.
///
/// # Safety
/// `src` is foreign memory that we may read, `dst` is valid for writes of `dst_len` bytes and does not overlap with it.
pub unsafe fn copy_struct_in(dst: *mut u8, dst_len: usize, src: *const u8, src_len: usize) -> Result<(), StructError> {
    let common = dst_len.min(src_len);
    // SAFETY: parts of the two ranges.
    unsafe {
        if src_len > dst_len && !is_zeroed(src.wrapping_add(common), src_len - common)? {
            return Err(StructError::TooBig);
        }
        copy_in(dst, src, common)?;
        fill(dst.wrapping_add(common), 0, dst_len - common)?;
    }
    Ok(())
}
