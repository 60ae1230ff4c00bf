//! [`Foreign`], and searches of it: see [`raw`](crate::raw#searches).

use super::bytes::{Bytes, to_multiple_of};
use super::over;
use crate::arch::{self, Block, Vector};
use crate::fault::outcome::worth_trying;
use crate::fault::{Fault, Short};

/// Foreign memory.
///
/// # Invariants
/// The code that made it has promised the preconditions of [`scan`](super) for the range.
#[derive(Clone, Copy)]
pub(crate) struct Foreign(pub *const u8);

impl Bytes for Foreign {
    #[inline(always)]
    unsafe fn four<V: Vector>(self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded, and the invariants.
        unsafe { V::four(self.0.wrapping_add(at)) }
    }

    #[inline(always)]
    unsafe fn block(self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded, and the invariants.
        unsafe { arch::load_vector(self.0.wrapping_add(at)) }
    }

    #[inline(always)]
    unsafe fn word(self, at: usize) -> Result<u64, Fault> {
        // SAFETY: forwarded, and the invariants.
        unsafe { arch::load_64(self.0.wrapping_add(at).cast()) }.map(u64::from_le)
    }

    #[inline(always)]
    unsafe fn byte(self, at: usize) -> Result<u8, Fault> {
        let ptr = self.0.wrapping_add(at);
        // SAFETY: forwarded, and the invariants. Its fault knows the address, also where the CPU does not report it.
        unsafe { arch::load_8(ptr) }.map_err(|fault| fault.at(ptr.addr()))
    }

    fn behind(self, at: usize) -> Self {
        Foreign(self.0.wrapping_add(at))
    }

    fn to_multiple_of(self, size: usize, at: usize) -> usize {
        to_multiple_of(self.0, size, at)
    }

    fn worth_trying(self, fault: &Fault, len: usize) -> usize {
        worth_trying(fault, self.0.addr(), len)
    }
}

/// Returns whether all of `len` bytes are zero; stops at the first that is not.
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

/// Returns the first offset at which two ranges differ, `None` if they are equal.
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

/// Returns the offset of the first byte that is `byte`, `None` if none of `len` is.
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

/// Returns the offset of the first byte that is one of `bytes`, `None` if none of `len` is. Fast for up to four.
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

/// Returns the offset of the last byte that is `byte`, `None` if none of `len` is.
///
/// # Errors
/// [`Short`] if a byte could not be loaded, and none *after* it is `byte`. Its [`done`](Short::done) counts those after it:
/// the bytes at the end of the range.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "memrchr")]
pub unsafe fn rfind_byte(ptr: *const u8, len: usize, byte: u8) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::rfind_byte(Foreign(ptr), len, byte) }.map_err(|(at, fault)| Short { done: len - at - 1, fault })
}

/// Counts the bytes of `len` that are `byte`.
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

/// Returns the offset of the first occurrence of `needle`, `None` if there is none. An empty needle is found at 0.
///
/// Takes time in proportion to `len`, whatever the bytes are. If a part of the needle occurs often, the search takes 8
/// bytes of memory for each byte of a needle of more than 1,024 bytes. For a shorter one it allocates nothing and takes up to 4
/// KiB of stack.
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

/// Returns the offset of the last occurrence of `needle`, `None` if there is none. An empty needle is found at `len`.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; no occurrence begins after it. Its [`done`](Short::done) counts the bytes after
/// it.
///
/// # Safety
/// The range is foreign memory that we may read.
pub unsafe fn rfind(ptr: *const u8, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    unsafe { over::rfind(Foreign(ptr), len, needle) }.map_err(|(at, fault)| Short { done: len - at - 1, fault })
}

/// Returns the CRC-32C (Castagnoli) of `len` bytes, continued from `before`: 0, or the checksum of the bytes before them.
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
