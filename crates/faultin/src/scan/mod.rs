//! Comparing and searching memory that may fault: see [`raw`](crate::raw#searches).

mod bytes;
mod crc32c;
mod look;
mod pass;
mod substring;
mod widest;

pub(crate) use bytes::{Bytes, Foreign, Plain};
use look::{AnyOf, Differing, NoneOf};

use crate::fault::{Fault, Short};

/// Whether all of `len` bytes are zero; stops at the first that is not.
///
/// Differs from the kernel's `check_zeroed_user`: reads nothing outside the range, and a fault comes with the number of
/// bytes that were zero before it.
///
/// # Errors
/// [`Short`] if a byte could not be loaded and every byte before it is zero.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "check_zeroed_user")]
#[doc(alias = "memchr_inv")]
pub unsafe fn is_zeroed(ptr: *const u8, len: usize) -> Result<bool, Short> {
    // SAFETY: forwarded.
    unsafe { over::is_zeroed(Foreign(ptr), len) }
}

/// The first offset at which two ranges differ, `None` if they are equal.
///
/// # Errors
/// [`Short`] if a byte of either could not be loaded and every byte before it is equal.
///
/// # Safety
/// Both ranges are foreign memory that we may read.
#[doc(alias = "memcmp")]
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::compare(Foreign(a), Foreign(b), len) }
}

/// The offset of the first byte that is `byte`, `None` if none of `len` is.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none before it is `byte`.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "memchr")]
pub unsafe fn find_byte(ptr: *const u8, len: usize, byte: u8) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { find_any(ptr, len, [byte]) }
}

/// The offset of the first byte that is one of `bytes`, `None` if none of `len` is. Fast for up to four.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none before it is one of `bytes`.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "memchr2")]
#[doc(alias = "memchr3")]
#[doc(alias = "strpbrk")]
pub unsafe fn find_any<const N: usize>(ptr: *const u8, len: usize, bytes: [u8; N]) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::find_any(Foreign(ptr), len, bytes) }
}

/// The offset of the last byte that is `byte`, `None` if none of `len` is.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none *behind* it is `byte`. Its [`done`](Short::done) counts those: the
/// bytes at the end of the range.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "memrchr")]
pub unsafe fn rfind_byte(ptr: *const u8, len: usize, byte: u8) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::rfind_byte(Foreign(ptr), len, byte) }.map_err(|(at, fault)| Short { done: len - at - 1, fault })
}

/// How many of `len` bytes are `byte`.
///
/// # Errors
/// [`Short`] at the first byte that could not be loaded.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn count_byte(ptr: *const u8, len: usize, byte: u8) -> Result<usize, Short> {
    // SAFETY: forwarded.
    unsafe { over::count_byte(Foreign(ptr), len, byte) }
}

/// The offset of the first occurrence of `needle`, `None` if there is none. An empty one is found at 0.
///
/// Takes time in proportion to `len`, whatever the bytes are. A needle that is met again and again in part needs 8
/// bytes of memory for each of its bytes.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; no occurrence ends before it.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "memmem")]
pub unsafe fn find(ptr: *const u8, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::find(Foreign(ptr), len, needle) }
}

/// The offset of the last occurrence of `needle`, `None` if there is none. An empty one is found at `len`.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; no occurrence begins behind it. Its [`done`](Short::done) counts the bytes
/// behind it.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn rfind(ptr: *const u8, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::rfind(Foreign(ptr), len, needle) }.map_err(|(at, fault)| Short { done: len - at - 1, fault })
}

/// The CRC-32C (Castagnoli) of `len` bytes, continued from `before`: 0, or the checksum of the bytes before them.
///
/// # Errors
/// [`Short`] at the first byte that could not be loaded.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn crc32c(before: u32, ptr: *const u8, len: usize) -> Result<u32, Short> {
    // SAFETY: forwarded.
    unsafe { over::crc32c(before, Foreign(ptr), len) }
}

/// The same over any [`Bytes`]: foreign memory, or copies of it. Errors of the functions that go backwards have the offset
/// of the byte.
///
/// # Safety
///
/// For all: the range has as many bytes; those of foreign memory as above.
#[allow(clippy::missing_safety_doc)]
pub(crate) mod over {
    use super::*;

    pub(crate) use super::crc32c::sum as crc32c;
    pub(crate) use super::substring::{find, rfind};

    pub(crate) unsafe fn is_zeroed<B: Bytes>(bytes: B, len: usize) -> Result<bool, Short> {
        // SAFETY: forwarded; so for all that follow.
        unsafe { widest::first(&NoneOf(bytes, 0), len) }.map(|found| found.is_none())
    }

    pub(crate) unsafe fn compare<A: Bytes, B: Bytes>(a: A, b: B, len: usize) -> Result<Option<usize>, Short> {
        // SAFETY: as above.
        unsafe { widest::first(&Differing(a, b), len) }
    }

    pub(crate) unsafe fn find_any<B: Bytes, const N: usize>(
        bytes: B,
        len: usize,
        needles: [u8; N],
    ) -> Result<Option<usize>, Short> {
        // SAFETY: as above.
        unsafe { widest::first(&AnyOf(bytes, needles), len) }
    }

    pub(crate) unsafe fn rfind_byte<B: Bytes>(bytes: B, len: usize, byte: u8) -> Result<Option<usize>, (usize, Fault)> {
        // SAFETY: as above.
        unsafe { widest::last(&AnyOf(bytes, [byte]), len) }
    }

    pub(crate) unsafe fn count_byte<B: Bytes>(bytes: B, len: usize, byte: u8) -> Result<usize, Short> {
        // SAFETY: as above.
        unsafe { widest::count(&AnyOf(bytes, [byte]), len) }
    }
}
