//! Sixteen bytes at once. Kernels have no vector registers, and do not need this.

use core::arch::aarch64::*;
use core::arch::asm;

use crate::fault::Fault;
use crate::fault::outcome::fault_of;

/// Sixteen bytes in a vector register.
#[derive(Clone, Copy)]
pub struct Block(pub(in crate::arch) uint8x16_t);

/// Loads 16 bytes into a vector register: the access that every scan of memory uses.
///
/// # Safety
/// As the other loads, for 16 bytes at any alignment.
#[inline(always)]
pub unsafe fn load_vector(ptr: *const u8) -> Result<Block, Fault> {
    let (err, addr): (u64, u64);
    let value: uint8x16_t;
    // SAFETY: one load with a table entry.
    unsafe {
        asm!(
            "mov {err}, xzr",
            guarded!("1", "ldr {value:q}, [{ptr}]"),
            ptr = in(reg) ptr,
            value = out(vreg) value,
            err = out(reg) err,
            addr = lateout(reg) addr,
            options(nostack, preserves_flags, readonly),
        );
    }
    outcome!(err, addr as usize, Block(value))
}

impl Block {
    /// Returns one bit per byte that is zero, the first byte's lowest.
    #[inline(always)]
    pub fn zero_bytes(self) -> u32 {
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        // SAFETY: these vector instructions are part of every target that has `std`; `BITS` is 16 bytes.
        unsafe {
            let bits = vandq_u8(vceqzq_u8(self.0), vld1q_u8(BITS.as_ptr()));
            u32::from(vaddv_u8(vget_low_u8(bits))) | u32::from(vaddv_u8(vget_high_u8(bits))) << 8
        }
    }

    /// Returns the bits that are set in either.
    #[inline(always)]
    pub fn or(self, other: Block) -> Block {
        // SAFETY: as in `zero_bytes`.
        Block(unsafe { vorrq_u8(self.0, other.0) })
    }

    /// Returns the bytes in memory order.
    #[inline(always)]
    pub fn bytes(self) -> [u8; 16] {
        // SAFETY: both types are 16 plain bytes.
        unsafe { core::mem::transmute(self.0) }
    }
}
