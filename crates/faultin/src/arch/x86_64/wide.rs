//! Four vector registers at once, for scans of memory: four loads, one test for all of them.

use core::arch::asm;
use core::arch::x86_64::*;

use super::scalar::Block;
use crate::arch::Vector;
use crate::fault::Fault;
use crate::fault::outcome::fault_of;

/// Four loads, `$size` bytes apart, into registers of a class: each with its own entry, and one error register.
macro_rules! four {
    ($insn:literal, $size:literal, $class:ident, $register:ty, $ptr:expr) => {{
        let (err, addr): (u64, u64);
        let (a, b, c, d): ($register, $register, $register, $register);
        asm!(
            "xor {err:e}, {err:e}",
            concat!("20: ", $insn, " {a}, [{ptr}]"),
            concat!("21: ", $insn, " {b}, [{ptr} + ", $size, "]"),
            concat!("22: ", $insn, " {c}, [{ptr} + 2 * ", $size, "]"),
            concat!("23: ", $insn, " {d}, [{ptr} + 3 * ", $size, "]"),
            concat!(
                "29:\n",
                prelude!(),
                entry_at!("20b", "29b", info!("1")),
                entry_at!("21b", "29b", info!("1")),
                entry_at!("22b", "29b", info!("1")),
                entry_at!("23b", "29b", info!("1")),
            ),
            ptr = in(reg) $ptr,
            a = out($class) a,
            b = out($class) b,
            c = out($class) c,
            d = out($class) d,
            err = out(reg) err,
            addr = out(reg) addr,
            options(nostack, readonly),
        );
        if err == 0 { Ok([a, b, c, d]) } else { Err(fault_of(err, addr as usize)) }
    }};
}

impl Vector for Block {
    const BYTES: usize = 16;
    const BITS: u32 = 1;

    #[inline(always)]
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], Fault> {
        // SAFETY: four loads with table entries.
        unsafe { four!("movups", "16", xmm_reg, __m128i, ptr) }.map(|four| four.map(Block))
    }

    #[inline(always)]
    unsafe fn plain(ptr: *const u8) -> Self {
        // SAFETY: the caller's bytes; SSE2 is part of x86-64.
        Block(unsafe { _mm_loadu_si128(ptr.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: SSE2 is part of x86-64; so for all that follow.
        Block(unsafe { _mm_set1_epi8(byte as i8) })
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { _mm_cmpeq_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { _mm_and_si128(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Block::or(self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        Block(unsafe { _mm_sub_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mask(self) -> u64 {
        // SAFETY: as above.
        u64::from(unsafe { _mm_movemask_epi8(self.0) } as u32)
    }

    #[inline(always)]
    unsafe fn total(self) -> u64 {
        // SAFETY: as above.
        let halves: [u64; 2] = unsafe { core::mem::transmute(_mm_sad_epu8(self.0, _mm_setzero_si128())) };
        halves[0] + halves[1]
    }
}

/// 32 bytes in a vector register. Operations on it need AVX2, and compile to single instructions only where the surrounding
/// function has it.
#[derive(Clone, Copy)]
pub struct Wide(__m256i);

/// Four loads of 32 bytes.
///
/// # Safety
/// As [`Vector::four`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn four_avx2(ptr: *const u8) -> Result<[Wide; 4], Fault> {
    // SAFETY: four loads with table entries.
    unsafe { four!("vmovdqu", "32", ymm_reg, __m256i, ptr) }.map(|four| four.map(Wide))
}

impl Vector for Wide {
    const BYTES: usize = 32;
    const BITS: u32 = 1;

    #[inline(always)]
    unsafe fn four(ptr: *const u8) -> Result<[Self; 4], Fault> {
        // SAFETY: forwarded; the CPU has AVX2 by the trait's contract, here and in all that follow.
        unsafe { four_avx2(ptr) }
    }

    #[inline(always)]
    unsafe fn plain(ptr: *const u8) -> Self {
        // SAFETY: the caller's bytes.
        Wide(unsafe { _mm256_loadu_si256(ptr.cast()) })
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: as in `four`.
        Wide(unsafe { _mm256_set1_epi8(byte as i8) })
    }

    #[inline(always)]
    unsafe fn eq(self, other: Self) -> Self {
        // SAFETY: as in `four`.
        Wide(unsafe { _mm256_cmpeq_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as in `four`.
        Wide(unsafe { _mm256_and_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: as in `four`.
        Wide(unsafe { _mm256_or_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as in `four`.
        Wide(unsafe { _mm256_sub_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mask(self) -> u64 {
        // SAFETY: as in `four`.
        u64::from(unsafe { _mm256_movemask_epi8(self.0) } as u32)
    }

    #[inline(always)]
    unsafe fn total(self) -> u64 {
        // SAFETY: as in `four`.
        let quarters: [u64; 4] = unsafe { core::mem::transmute(_mm256_sad_epu8(self.0, _mm256_setzero_si256())) };
        quarters.iter().sum()
    }
}
