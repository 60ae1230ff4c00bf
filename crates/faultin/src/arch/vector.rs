//! [`Vector`]: the operations on vector registers that scans of memory use, whatever their size.

#[cfg(not(faultin_portable))]
use crate::fault::Fault;

/// A vector register of bytes. A mask has all bits of a byte set, or none.
///
/// # Safety
///
/// All functions need a CPU that has the registers. [`four`](Self::four) needs what the loads do: foreign memory that we
/// may read, four registers of it at any alignment, and a handler that is reached. [`plain`](Self::plain) needs one
/// register of bytes that may be read.
#[allow(clippy::missing_safety_doc)]
pub trait Vector: Copy {
    /// Number of bytes in a register.
    const BYTES: usize;

    /// Number of bits in a [`mask`](Self::mask) for each byte.
    const BITS: u32;

    /// Loads four registers from memory that may fault.
    #[cfg(not(faultin_portable))]
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], Fault>;

    /// Loads one register from memory that does not fault.
    unsafe fn plain(ptr: *const u8) -> Self;

    /// Returns a register with the same byte everywhere.
    unsafe fn splat(byte: u8) -> Self;

    /// Returns a mask of the bytes that are equal.
    unsafe fn eq(self, other: Self) -> Self;

    /// Returns the bits that are set in both.
    unsafe fn and(self, other: Self) -> Self;

    /// Returns the bits that are set in either.
    unsafe fn or(self, other: Self) -> Self;

    /// Returns the difference of each byte, modulo 256.
    unsafe fn sub(self, other: Self) -> Self;

    /// Returns a mask in a general register, the first byte's bits lowest.
    unsafe fn mask(self) -> u64;

    /// Returns the sum of all bytes.
    unsafe fn total(self) -> u64;
}
