//! Four vector registers at once, for scans of memory: two loads of pairs, one test for both.

use core::arch::aarch64::*;
use core::arch::asm;

use super::scalar::Block;
use crate::arch::Vector;
use crate::fault::Fault;
use crate::fault::outcome::fault_of;

impl Vector for Block {
    const BYTES: usize = 16;
    const BITS: u32 = 4;

    #[inline(always)]
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], Fault> {
        let (err, addr): (u64, u64);
        let (a, b, c, d): (uint8x16_t, uint8x16_t, uint8x16_t, uint8x16_t);
        // SAFETY: two loads with table entries.
        unsafe {
            asm!(
                "mov {err}, xzr",
                concat!(
                    "20: ldp {a:q}, {b:q}, [{ptr}]\n",
                    "21: ldp {c:q}, {d:q}, [{ptr}, #32]\n",
                    "29:\n",
                    prelude!(),
                    entry_at!("20b", "29b", info!("1")),
                    entry_at!("21b", "29b", info!("1")),
                ),
                ptr = in(reg) ptr,
                a = out(vreg) a,
                b = out(vreg) b,
                c = out(vreg) c,
                d = out(vreg) d,
                err = out(reg) err,
                addr = out(reg) addr,
                options(nostack, preserves_flags, readonly),
            );
        }
        if err == 0 { Ok([Block(a), Block(b), Block(c), Block(d)]) } else { Err(fault_of(err, addr as usize)) }
    }

    #[inline(always)]
    unsafe fn plain(ptr: *const u8) -> Self {
        // SAFETY: the caller's bytes; these vector instructions are part of every target that has `std`.
        Block(unsafe { vld1q_u8(ptr) })
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: as in `plain`; so for all that follow.
        Block(unsafe { vdupq_n_u8(byte) })
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { vceqq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { vandq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Block::or(self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { vsubq_u8(self.0, other.0) })
    }

    /// Returns four bits per byte: the narrowing shift is the shortest way to a general register.
    #[inline(always)]
    unsafe fn mask(self) -> u64 {
        // SAFETY: as above.
        unsafe { vget_lane_u64::<0>(vreinterpret_u64_u8(vshrn_n_u16::<4>(vreinterpretq_u16_u8(self.0)))) }
    }

    #[inline(always)]
    unsafe fn total(self) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { vaddlvq_u8(self.0) })
    }
}
