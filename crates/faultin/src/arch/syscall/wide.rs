//! Four blocks at once, for scans of memory.

use crate::arch::Vector;

/// Sixteen bytes.
#[derive(Clone, Copy)]
pub struct Block(pub(super) [u8; 16]);

impl Vector for Block {
    const BYTES: usize = 16;
    const BITS: u32 = 1;

    #[cfg(not(faultin_portable))]
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], crate::fault::Fault> {
        let mut bytes = [[0; 16]; 4];
        // SAFETY: a local array; forwarded.
        unsafe { crate::signal_free::copy_in(bytes.as_mut_ptr().cast(), ptr, 64) }.map_err(|short| short.fault)?;
        Ok(bytes.map(Block))
    }

    unsafe fn plain(ptr: *const u8) -> Self {
        // SAFETY: the caller's bytes.
        Block(unsafe { ptr.cast::<[u8; 16]>().read_unaligned() })
    }

    unsafe fn splat(byte: u8) -> Self {
        Block([byte; 16])
    }

    unsafe fn eq(self, other: Self) -> Self {
        Block(core::array::from_fn(|i| if self.0[i] == other.0[i] { 0xff } else { 0 }))
    }

    unsafe fn and(self, other: Self) -> Self {
        Block(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    unsafe fn or(self, other: Self) -> Self {
        Block(core::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    unsafe fn sub(self, other: Self) -> Self {
        Block(core::array::from_fn(|i| self.0[i].wrapping_sub(other.0[i])))
    }

    unsafe fn mask(self) -> u64 {
        self.0.iter().rev().fold(0, |bits, &b| bits << 1 | u64::from(b >> 7))
    }

    unsafe fn total(self) -> u64 {
        self.0.iter().map(|&b| u64::from(b)).sum()
    }
}
