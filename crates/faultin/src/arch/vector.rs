//! [`Vector`]: what is done with vector registers where memory is looked through, whatever their size.

use crate::fault::Fault;

/// A vector register of bytes. A mask has all bits of a byte set, or none.
///
/// # Safety
///
/// All functions need a CPU that has the registers. [`four`](Self::four) needs what the loads do: foreign memory that may be read, four registers of it at any alignment, and a handler that is reached.
/// [`plain`](Self::plain) needs one register of bytes that may be read.
#[allow(clippy::missing_safety_doc)]
pub trait Vector: Copy {
    /// Bytes in a register.
    const BYTES: usize;

    /// Bits in a [`mask`](Self::mask) for each byte.
    const BITS: u32;

    /// Four registers from memory that may fault.
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], Fault>;

    /// One register from memory that does not.
    unsafe fn plain(ptr: *const u8) -> Self;

    /// The same byte everywhere.
    unsafe fn splat(byte: u8) -> Self;

    /// A mask of the bytes that are alike.
    unsafe fn eq(self, other: Self) -> Self;

    /// The bits that are set in both.
    unsafe fn and(self, other: Self) -> Self;

    /// The bits that are set in either.
    unsafe fn or(self, other: Self) -> Self;

    /// The difference of each byte, modulo 256.
    unsafe fn sub(self, other: Self) -> Self;

    /// A mask in a general register, the first byte's bits lowest.
    unsafe fn mask(self) -> u64;

    /// The sum of all bytes.
    unsafe fn total(self) -> u64;
}
