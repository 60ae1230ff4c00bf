//! The copies. Contract of each: `x0` destination, `x1` source, `x2` bytes, all of which may be foreign memory.
//!
//! * Success: `x3` is 0.
//! * A fault: `x3` is the fault code, `x4` is `si_addr`, everything before `x0` is stored, and the code's progress tells
//!   what is stored after it. Stores are ascending, so the stored bytes are a prefix, and nothing after them is stored.
//!
//! Loads are not ascending: the short paths load their tail before they store their head. The caller finishes with
//! [`copy_bytes`], which is exact by itself, up to the page or granule of `si_addr`.
//!
//! Small sizes are two overlapping halves, so that each size class is one path without a loop; larger ones use 16-byte
//! registers in pairs, because pairs are what these CPUs load and store best.

use core::arch::naked_asm;

use crate::fault::outcome::Outcome;

/// Registers of 16 bytes, which every aarch64 that runs Linux programs has. `x5` and `x6` are the ends of source and
/// destination.
#[cfg(feature = "std")]
#[unsafe(naked)]
unsafe extern "C" fn copy_vector() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        "add x5, x1, x2",
        "add x6, x0, x2",
        "cmp x2, #16",
        "b.lo 21f",
        "cmp x2, #32",
        "b.hi 25f",
        // 16 to 32
        ld!("ldr q0, [x1]"),
        ld!("ldur q1, [x5, #-16]"),
        st!(head "0", "str q0, [x0]"),
        floor!("16"),
        st!(tail "16", "stur q1, [x6, #-16]"),
        "ret",
        // below 16
        ".p2align 4",
        floor!("0"),
        "21: tbz x2, #3, 22f",
        ld!("ldr x7, [x1]"),
        ld!("ldur x8, [x5, #-8]"),
        st!(head "0", "str x7, [x0]"),
        floor!("8"),
        st!(tail "8", "stur x8, [x6, #-8]"),
        "ret",
        floor!("0"),
        "22: tbz x2, #2, 23f",
        ld!("ldr w7, [x1]"),
        ld!("ldur w8, [x5, #-4]"),
        st!(head "0", "str w7, [x0]"),
        floor!("4"),
        st!(tail "4", "stur w8, [x6, #-4]"),
        "ret",
        floor!("0"),
        "23: cbz x2, 24f",
        ld!("ldrb w7, [x1]"),
        "tbz x2, #1, 27f",
        ld!("ldurh w8, [x5, #-2]"),
        st!(head "0", "strb w7, [x0]"),
        floor!("1"),
        st!(tail "2", "sturh w8, [x6, #-2]"),
        "24: ret",
        "27:",
        floor!("0"),
        st!(head "0", "strb w7, [x0]"),
        "ret",
        ".p2align 4",
        floor!("0"),
        "25: cmp x2, #64",
        "b.hi 26f",
        // 33 to 64
        ld!("ldp q0, q1, [x1]"),
        ld!("ldp q2, q3, [x5, #-32]"),
        st!(head "0", "stp q0, q1, [x0]"),
        floor!("32"),
        st!(tail "32", "stp q2, q3, [x6, #-32]"),
        "ret",
        ".p2align 4",
        floor!("0"),
        "26: cmp x2, #128",
        "b.hi 30f",
        // 65 to 128
        ld!("ldp q0, q1, [x1]"),
        ld!("ldp q2, q3, [x1, #32]"),
        ld!("ldp q4, q5, [x5, #-64]"),
        ld!("ldp q6, q7, [x5, #-32]"),
        st!(head "0", "stp q0, q1, [x0]"),
        st!(head "32", "stp q2, q3, [x0, #32]"),
        floor!("64"),
        st!(tail "64", "stp q4, q5, [x6, #-64]"),
        st!(tail "32", "stp q6, q7, [x6, #-32]"),
        "ret",
        // Above: two registers unaligned, then aligned pairs, none of which spans two pages.
        ".p2align 4",
        "30:",
        floor!("0"),
        ld!("ldp q0, q1, [x1]"),
        st!(head "0", "stp q0, q1, [x0]"),
        floor!("32"),
        "add x7, x0, #32",
        "and x7, x7, #-32",
        "sub x7, x7, x0",
        "add x0, x0, x7",
        "add x1, x1, x7",
        "sub x2, x2, x7",
        ".p2align 5",
        "32:",
        ld!("ldp q0, q1, [x1]"),
        ld!("ldp q2, q3, [x1, #32]"),
        st!(head "0", "stp q0, q1, [x0]"),
        st!(head "32", "stp q2, q3, [x0, #32]"),
        "add x1, x1, #64",
        "add x0, x0, #64",
        "sub x2, x2, #64",
        "cmp x2, #64",
        "b.hs 32b",
        // Fewer than four registers are left: the last four end at the end, and repeat bytes that were copied already.
        "cbz x2, 33f",
        ld!("ldp q0, q1, [x5, #-64]"),
        ld!("ldp q2, q3, [x5, #-32]"),
        st!(tail "64", "stp q0, q1, [x6, #-64]"),
        st!(tail "32", "stp q2, q3, [x6, #-32]"),
        "33: ret",
        "77: ret",
    )
}

/// Words of eight bytes, each aligned on its side: an aligned access is within one page and one granule, so it is exact by
/// itself. Where source and destination have different alignment, each stored word is combined from two loaded ones;
/// nothing outside the range is loaded. The only copy of a build without `std`, because it needs neither vector registers
/// nor CPU detection.
#[unsafe(naked)]
unsafe extern "C" fn copy_general() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        "cmp x2, #32",
        "b.lo 40f",
        // Bytes, up to a word of the destination. Eight more if the alignments differ: then the source word that contains
        // the next byte begins inside the range.
        "eor x5, x0, x1",
        "tst x5, #7",
        "neg x6, x0",
        "and x6, x6, #7",
        "b.eq 20f",
        "add x6, x6, #8",
        "20: cbz x6, 22f",
        "21:",
        ld!("ldrb w5, [x1]"),
        st!(head "0", "strb w5, [x0]"),
        "add x1, x1, #1",
        "add x0, x0, #1",
        "sub x2, x2, #1",
        "subs x6, x6, #1",
        "b.ne 21b",
        "22: ands x6, x1, #7",
        "b.ne 35f",
        ".p2align 4",
        "31:",
        ld!("ldr x5, [x1]"),
        st!(head "0", "str x5, [x0]"),
        "add x1, x1, #8",
        "add x0, x0, #8",
        "sub x2, x2, #8",
        "cmp x2, #8",
        "b.hs 31b",
        "b 40f",
        // x7 is the address of the source word that contains the next byte, x5 its value; x6 of its bytes are done, x8
        // bits.
        "35: sub x7, x1, x6",
        "lsl x8, x6, #3",
        "neg x9, x8",
        ld!("ldr x5, [x7]"),
        ".p2align 4",
        "36:",
        step!("1", "0", "ldr x10, [x7, #8]", "46f"),
        // Shifts count modulo 64.
        "lsr x5, x5, x8",
        "lsl x11, x10, x9",
        "orr x5, x5, x11",
        st!(head "0", "str x5, [x0]"),
        "mov x5, x10",
        "add x7, x7, #8",
        "add x0, x0, #8",
        "sub x2, x2, #8",
        "cmp x2, #8",
        "b.hs 36b",
        "add x1, x7, x6",
        // The rest, or the whole of a short copy.
        "40: cbz x2, 44f",
        "41:",
        ld!("ldrb w5, [x1]"),
        st!(head "0", "strb w5, [x0]"),
        "add x1, x1, #1",
        "add x0, x0, #1",
        "subs x2, x2, #1",
        "b.ne 41b",
        "44: ret",
        // The second word of a pair cannot be loaded: the bytes of the first one are good. A store that fails now is the
        // nearer fault, and the one that is reported.
        "46: lsr x5, x5, x8",
        "mov x9, #8",
        "sub x6, x9, x6",
        "47:",
        st!(head "0", "strb w5, [x0]"),
        "lsr x5, x5, #8",
        "add x0, x0, #1",
        "subs x6, x6, #1",
        "b.ne 47b",
        "77: ret",
    )
}

/// Calls `$routine` with the registers that its contract names, and its own `$clobbered` ones.
macro_rules! call {
    ($routine:path, $dst:expr, $src:expr, $len:expr $(, $clobbered:tt)*) => {{
        let (code, si_addr, reached): (u64, usize, usize);
        core::arch::asm!(
            "bl {routine}",
            routine = sym $routine,
            inlateout("x0") $dst => reached,
            inlateout("x1") $src => _,
            inlateout("x2") $len => _,
            lateout("x3") code,
            lateout("x4") si_addr,
            // Scratch registers, the linker's, and the return address.
            lateout("x5") _,
            lateout("x6") _,
            lateout("x7") _,
            lateout("x8") _,
            lateout("x16") _,
            lateout("x17") _,
            lateout("x30") _,
            $(lateout($clobbered) _,)*
        );
        Outcome { code, si_addr, reached }
    }};
}

/// Copies ascending, exact by itself at every byte, in any build.
///
/// # Safety
/// Each range is plain memory of the right kind or foreign memory; the handler of this object's table is reached.
/// They do not overlap with `dst` above `src`.
#[inline(never)]
pub(crate) unsafe fn copy_bytes(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: `copy_general` touches the two ranges only, through table entries; forwarded from the caller.
    unsafe { call!(copy_general, dst, src, len, "x9", "x10", "x11") }
}

/// Copies with the widest registers that every CPU has. The stored bytes are those that the outcome reports; see the
/// module.
///
/// # Safety
/// As [`copy_bytes`], and the ranges do not overlap at all.
#[inline]
pub(crate) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    #[cfg(feature = "std")]
    // SAFETY: as in `copy_bytes`; the vector registers named are all that `copy_vector` uses.
    unsafe {
        call!(copy_vector, dst, src, len, "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7")
    }
    #[cfg(not(feature = "std"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        copy_bytes(dst, src, len)
    }
}

/// Copies as [`copy`] does: these CPUs decide themselves whether they cache a line that is stored as a whole.
///
/// # Safety
/// As [`copy`].
#[cfg(feature = "std")]
#[inline]
pub(crate) unsafe fn copy_streaming(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: forwarded from the caller.
    unsafe { copy(dst, src, len) }
}

/// Copies as [`copy`] does: these CPUs have nothing better for unpredictable sizes.
///
/// # Safety
/// As [`copy`].
#[inline]
pub(crate) unsafe fn copy_unpredictable(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: forwarded from the caller.
    unsafe { copy(dst, src, len) }
}
