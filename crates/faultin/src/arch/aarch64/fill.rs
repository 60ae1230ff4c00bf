//! Filling memory. Contract: `x0` destination, `x1` the byte in all eight bytes of the register, `x2` bytes.
//! Results as in [`copy`](super::copy).

use core::arch::naked_asm;

use crate::fault::outcome::Outcome;

/// Two overlapping stores below 16 bytes, then registers of 16 bytes. `x6` is the end.
#[cfg(feature = "std")]
#[unsafe(naked)]
unsafe extern "C" fn fill_vector() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        "add x6, x0, x2",
        "cmp x2, #16",
        "b.hs 22f",
        "tbz x2, #3, 20f",
        st!(head "0", "str x1, [x0]"),
        floor!("8"),
        st!(tail "8", "stur x1, [x6, #-8]"),
        "ret",
        floor!("0"),
        "20: tbz x2, #2, 21f",
        st!(head "0", "str w1, [x0]"),
        floor!("4"),
        st!(tail "4", "stur w1, [x6, #-4]"),
        "ret",
        floor!("0"),
        "21: cbz x2, 25f",
        st!(head "0", "strb w1, [x0]"),
        "tbz x2, #1, 25f",
        floor!("1"),
        st!(tail "2", "sturh w1, [x6, #-2]"),
        "25: ret",
        floor!("0"),
        "22: dup v0.2d, x1",
        "cmp x2, #64",
        "b.lo 29f",
        // Two registers unaligned, then aligned pairs, none of which spans two pages.
        floor!("0"),
        st!(head "0", "stp q0, q0, [x0]"),
        floor!("32"),
        "add x5, x0, #32",
        "and x5, x5, #-32",
        "sub x5, x5, x0",
        "add x0, x0, x5",
        "sub x2, x2, x5",
        "cmp x2, #64",
        "b.lo 26f",
        ".p2align 4",
        "23:",
        st!(head "0", "stp q0, q0, [x0]"),
        st!(head "32", "stp q0, q0, [x0, #32]"),
        "add x0, x0, #64",
        "sub x2, x2, #64",
        "cmp x2, #64",
        "b.hs 23b",
        // Fewer than 64 bytes are left, after at least 16 that are done.
        floor!("16"),
        "26: cmp x2, #16",
        "b.lo 27f",
        st!(head "0", "str q0, [x0]"),
        "add x0, x0, #16",
        "sub x2, x2, #16",
        "b 26b",
        "27: cbz x2, 28f",
        st!(tail "16", "stur q0, [x6, #-16]"),
        "28: ret",
        "29:",
        floor!("0"),
        st!(head "0", "str q0, [x0]"),
        floor!("16"),
        "add x5, x0, #16",
        "and x5, x5, #-16",
        "sub x5, x5, x0",
        "add x0, x0, x5",
        "sub x2, x2, x5",
        "b 26b",
        "77: ret",
    )
}

/// Fills byte by byte, sixteen at a time where they are one granule: exact by itself, without vector registers.
#[unsafe(naked)]
unsafe extern "C" fn fill_general() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        "20: cbz x2, 44f",
        "tst x0, #15",
        "b.eq 30f",
        st!(head "0", "strb w1, [x0]"),
        "add x0, x0, #1",
        "sub x2, x2, #1",
        "b 20b",
        "30: cmp x2, #16",
        "b.lo 40f",
        ".p2align 4",
        "31:",
        st!(head "0", "stp x1, x1, [x0]"),
        "add x0, x0, #16",
        "sub x2, x2, #16",
        "cmp x2, #16",
        "b.hs 31b",
        "40: cbz x2, 44f",
        "41:",
        st!(head "0", "strb w1, [x0]"),
        "add x0, x0, #1",
        "subs x2, x2, #1",
        "b.ne 41b",
        "44: ret",
        "77: ret",
    )
}

/// Calls `$routine` with the registers that its contract names, and its own `$clobbered` ones.
macro_rules! call {
    ($routine:path, $dst:expr, $byte:expr, $len:expr $(, $clobbered:tt)*) => {{
        let (code, si_addr, reached): (u64, usize, usize);
        core::arch::asm!(
            "bl {routine}",
            routine = sym $routine,
            inlateout("x0") $dst => reached,
            inlateout("x1") u64::from_ne_bytes([$byte; 8]) => _,
            inlateout("x2") $len => _,
            lateout("x3") code,
            lateout("x4") si_addr,
            // Scratch registers, the linker's, and the return address.
            lateout("x5") _,
            lateout("x6") _,
            lateout("x16") _,
            lateout("x17") _,
            lateout("x30") _,
            $(lateout($clobbered) _,)*
        );
        Outcome { code, si_addr, reached }
    }};
}

/// Fills, exact by itself at every byte, in any build.
///
/// # Safety
/// The range is plain memory valid for writes, or foreign memory that its owner lets us write; the handler of this
/// object's table is reached.
pub(crate) unsafe fn fill_bytes(dst: *mut u8, byte: u8, len: usize) -> Outcome {
    // SAFETY: `fill_general` touches the range only, through table entries; forwarded from the caller.
    unsafe { call!(fill_general, dst, byte, len) }
}

/// Fills fast. The stored bytes are those that the outcome reports.
///
/// # Safety
/// As [`fill_bytes`].
pub(crate) unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Outcome {
    #[cfg(feature = "std")]
    // SAFETY: `fill_vector` touches the range only, through table entries; forwarded from the caller.
    unsafe {
        call!(fill_vector, dst, byte, len, "v0")
    }
    #[cfg(not(feature = "std"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        fill_bytes(dst, byte, len)
    }
}
