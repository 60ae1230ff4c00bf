//! [`Bytes`]: memory to look through, that may fault or not.

use crate::arch::{self, Block, Vector};
use crate::copy::worth_trying;
use crate::fault::Fault;

/// A range of memory. Offsets are bytes from its start; whoever calls keeps accesses inside.
pub(crate) trait Bytes: Copy {
    /// Four vector registers, one behind the other.
    ///
    /// # Safety
    /// The CPU has these registers, and the range as many bytes behind `at`.
    unsafe fn four<V: Vector>(self, at: usize) -> Result<[V; 4], Fault>;

    /// Sixteen bytes.
    ///
    /// # Safety
    /// The range has as many behind `at`.
    unsafe fn block(self, at: usize) -> Result<Block, Fault>;

    /// Eight bytes, the first one lowest.
    ///
    /// # Safety
    /// The range has as many behind `at`.
    unsafe fn word(self, at: usize) -> Result<u64, Fault>;

    /// One byte.
    ///
    /// # Safety
    /// It is in the range.
    unsafe fn byte(self, at: usize) -> Result<u8, Fault>;

    /// The same memory from `at` on.
    fn behind(self, at: usize) -> Self;

    /// Bytes from `at` to the next multiple of a power of two.
    fn to_multiple_of(self, size: usize, at: usize) -> usize;

    /// How many bytes from the start, of `len`, are worth trying after a fault.
    fn worth_trying(self, fault: &Fault, len: usize) -> usize;
}

/// Foreign memory.
///
/// # Invariants
/// Made by whoever has promised the preconditions of [`scan`](super) for the range.
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
        // SAFETY: forwarded, and the invariants. Its fault knows the address, also where the CPU does not say.
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

/// Memory that does not fault.
///
/// # Invariants
/// Points to as many bytes as are looked through.
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

fn to_multiple_of(ptr: *const u8, size: usize, at: usize) -> usize {
    ptr.addr().wrapping_add(at).wrapping_neg() & (size - 1)
}
