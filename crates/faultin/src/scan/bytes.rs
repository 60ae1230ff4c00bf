//! [`Bytes`]: memory to search, which may fault or not.

use crate::arch::{Block, Vector};
use crate::fault::Fault;

/// A range of memory. Offsets are bytes from its start; the caller keeps accesses inside.
pub(crate) trait Bytes: Copy {
    /// Loads four consecutive vector registers.
    ///
    /// # Safety
    /// The CPU has these registers, and the range that many bytes after `at`.
    unsafe fn four<V: Vector>(self, at: usize) -> Result<[V; 4], Fault>;

    /// Loads sixteen bytes.
    ///
    /// # Safety
    /// The range has that many bytes after `at`.
    unsafe fn block(self, at: usize) -> Result<Block, Fault>;

    /// Loads eight bytes, the first one lowest.
    ///
    /// # Safety
    /// The range has that many bytes after `at`.
    unsafe fn word(self, at: usize) -> Result<u64, Fault>;

    /// Loads one byte.
    ///
    /// # Safety
    /// It is in the range.
    unsafe fn byte(self, at: usize) -> Result<u8, Fault>;

    /// Returns the same memory from `at` on.
    fn behind(self, at: usize) -> Self;

    /// Returns the number of bytes from `at` to the next multiple of a power of two.
    fn to_multiple_of(self, size: usize, at: usize) -> usize;

    /// Returns how many bytes of `len`, from the start, are worth trying after a fault.
    fn worth_trying(self, fault: &Fault, len: usize) -> usize;
}

/// Memory that does not fault.
///
/// # Invariants
/// Points to as many bytes as are searched.
#[derive(Clone, Copy)]
pub(crate) struct Plain(pub *const u8);

impl Bytes for Plain {
    #[inline(always)]
    unsafe fn four<V: Vector>(self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded, and the invariant.
        unsafe {
            let ptr = self.0.add(at);
            Ok([
                V::plain(ptr),
                V::plain(ptr.add(V::BYTES)),
                V::plain(ptr.add(2 * V::BYTES)),
                V::plain(ptr.add(3 * V::BYTES)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn block(self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded, and the invariant.
        Ok(unsafe { Block::plain(self.0.add(at)) })
    }

    #[inline(always)]
    unsafe fn word(self, at: usize) -> Result<u64, Fault> {
        // SAFETY: forwarded, and the invariant.
        Ok(u64::from_le(unsafe { self.0.add(at).cast::<u64>().read_unaligned() }))
    }

    #[inline(always)]
    unsafe fn byte(self, at: usize) -> Result<u8, Fault> {
        // SAFETY: forwarded, and the invariant.
        Ok(unsafe { *self.0.add(at) })
    }

    fn behind(self, at: usize) -> Self {
        Plain(self.0.wrapping_add(at))
    }

    fn to_multiple_of(self, size: usize, at: usize) -> usize {
        to_multiple_of(self.0, size, at)
    }

    fn worth_trying(self, _fault: &Fault, len: usize) -> usize {
        len
    }
}

pub(super) fn to_multiple_of(ptr: *const u8, size: usize, at: usize) -> usize {
    ptr.addr().wrapping_add(at).wrapping_neg() & (size - 1)
}
