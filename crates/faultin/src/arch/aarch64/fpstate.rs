//! The floating-point and SIMD registers to and from foreign memory: q0 to q31, FPSR and FPCR, with guarded pair loads
//! and stores.
//!
//! No compiled code sees the foreign state: a piece of assembly saves the thread's own state, loads the foreign one, and
//! restores its own, also after a fault, when some registers have been loaded. It is a function with the C calling
//! convention, which preserves no more of a vector register than is restored: wider (SVE) registers lose their upper part
//! in any load of a q register.

use core::arch::naked_asm;

use crate::fault::Fault;
use crate::fault::outcome::fault_of;

/// Alignment of an image, in bytes.
pub const ALIGN: usize = 16;

/// Size of an image in bytes: the 32 registers, then FPSR and FPCR, in the order of the kernel's `struct
/// user_fpsimd_state`.
const SIZE: usize = 528;

/// Size of the registers in bytes.
const REGISTERS: usize = 512;

/// Returns a component mask, of which this architecture has only one, and the size of an image in bytes.
pub fn layout() -> Option<(u64, usize)> {
    Some((1, SIZE))
}

/// The result registers of a routine.
#[repr(C)]
struct Raw {
    code: u64,
    si_addr: usize,
}

/// `stp` or `ldp` (`$insn`) of all registers at `$base`, each emitted by `$make`.
macro_rules! registers {
    ($make:ident, $insn:literal, $base:literal) => {
        concat!(
            $make!($insn, "q0", "q1", $base, "0"),
            $make!($insn, "q2", "q3", $base, "32"),
            $make!($insn, "q4", "q5", $base, "64"),
            $make!($insn, "q6", "q7", $base, "96"),
            $make!($insn, "q8", "q9", $base, "128"),
            $make!($insn, "q10", "q11", $base, "160"),
            $make!($insn, "q12", "q13", $base, "192"),
            $make!($insn, "q14", "q15", $base, "224"),
            $make!($insn, "q16", "q17", $base, "256"),
            $make!($insn, "q18", "q19", $base, "288"),
            $make!($insn, "q20", "q21", $base, "320"),
            $make!($insn, "q22", "q23", $base, "352"),
            $make!($insn, "q24", "q25", $base, "384"),
            $make!($insn, "q26", "q27", $base, "416"),
            $make!($insn, "q28", "q29", $base, "448"),
            $make!($insn, "q30", "q31", $base, "480"),
        )
    };
}

/// A pair at an offset.
macro_rules! pair {
    ($insn:literal, $first:literal, $second:literal, $base:literal, $offset:literal) => {
        concat!($insn, " ", $first, ", ", $second, ", [", $base, ", #", $offset, "]\n")
    };
}

/// The same, from foreign memory.
macro_rules! foreign_load {
    ($insn:literal, $first:literal, $second:literal, $base:literal, $offset:literal) => {
        ld!(pair!($insn, $first, $second, $base, $offset))
    };
}

/// The same, to foreign memory.
macro_rules! foreign_store {
    ($insn:literal, $first:literal, $second:literal, $base:literal, $offset:literal) => {
        st!(head "0", pair!($insn, $first, $second, $base, $offset))
    };
}

/// All registers to plain memory at `$base`; x9 to x11 are scratch.
macro_rules! save_plain {
    ($base:literal) => {
        concat!(
            registers!(pair, "stp", $base),
            "mrs x9, fpsr\n",
            "mrs x10, fpcr\n",
            "add x11, ",
            $base,
            ", #512\n",
            "stp w9, w10, [x11]\n",
        )
    };
}

/// All registers from plain memory at `$base`; x9 to x11 are scratch.
macro_rules! restore_plain {
    ($base:literal) => {
        concat!(
            registers!(pair, "ldp", $base),
            "add x11, ",
            $base,
            ", #512\n",
            "ldp w9, w10, [x11]\n",
            "msr fpsr, x9\n",
            "msr fpcr, x10\n",
        )
    };
}

/// Stores all registers to foreign memory at `x0`, without a count. Code to x3, address to x4; x9 to x11 are scratch.
#[unsafe(naked)]
unsafe extern "C" fn store_registers() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        registers!(foreign_store, "stp", "x0"),
        "mrs x9, fpsr",
        "mrs x10, fpcr",
        "add x11, x0, #512",
        st!(head "0", "stp w9, w10, [x11]"),
        "77: ret",
    )
}

/// Loads all registers from foreign memory at `x0`. As [`store_registers`]; after a fault, some are loaded.
#[unsafe(naked)]
unsafe extern "C" fn load_registers() {
    naked_asm!(
        floor!("0"),
        "mov x3, #0",
        registers!(foreign_load, "ldp", "x0"),
        "add x11, x0, #512",
        ld!("ldp w9, w10, [x11]"),
        "msr fpsr, x9",
        "msr fpcr, x10",
        "77: ret",
    )
}

/// `x0` foreign destination, `x1` state to load, `x2` scratch; x12 keeps the return address.
#[unsafe(naked)]
unsafe extern "C" fn save_state(dst: *mut u8, state: *const u8, scratch: *mut u8) -> Raw {
    naked_asm!(
        "mov x12, x30",
        save_plain!("x2"),
        restore_plain!("x1"),
        "bl {store}",
        restore_plain!("x2"),
        "mov x0, x3",
        "mov x1, x4",
        "ret x12",
        store = sym store_registers,
    )
}

/// `x0` foreign source, `x1` destination of the loaded registers, `x2` scratch; x12 keeps the return address.
#[unsafe(naked)]
unsafe extern "C" fn restore_state(src: *const u8, arrived: *mut u8, scratch: *mut u8) -> Raw {
    naked_asm!(
        "mov x12, x30",
        save_plain!("x2"),
        "bl {load}",
        "cbnz x3, 20f",
        save_plain!("x1"),
        "20:",
        restore_plain!("x2"),
        "mov x0, x3",
        "mov x1, x4",
        "ret x12",
        load = sym load_registers,
    )
}

/// Loads `state` into the registers and saves them to `dst`.
///
/// # Safety
/// All three are `ALIGN`-aligned and of the size of [`layout`]; `state` and `scratch` are plain memory; `dst` is
/// foreign memory that its owner lets us write; the handler is reached.
pub unsafe fn save(dst: *mut u8, state: *const u8, scratch: *mut u8, _mask: u64) -> Result<(), Fault> {
    // SAFETY: the routine stores to `dst` through table entries and otherwise touches the two plain images only.
    let raw = unsafe { save_state(dst, state, scratch) };
    if raw.code == 0 { Ok(()) } else { Err(fault_of(raw.code, raw.si_addr)) }
}

/// Loads the registers from `src` and stores them as an image in `arrived`.
///
/// # Safety
/// As [`save`]: `scratch` and `arrived` are plain memory, `src` is foreign memory that we may read.
pub unsafe fn restore(src: *const u8, arrived: *mut u8, scratch: *mut u8, _mask: u64) -> Result<(), Fault> {
    // SAFETY: as in `save`.
    let raw = unsafe { restore_state(src, arrived, scratch) };
    if raw.code == 0 { Ok(()) } else { Err(fault_of(raw.code, raw.si_addr)) }
}

/// Fills the registers of a zero image; FPSR and FPCR stay at their defaults, which are zero.
pub fn pattern(image: &mut [u8], seed: u8) {
    for (i, byte) in image.iter_mut().take(REGISTERS).enumerate() {
        *byte = (i as u8).wrapping_mul(7).wrapping_add(seed);
    }
}

/// Returns the registers of an image.
pub fn registers(image: &[u8]) -> &[u8] {
    image.get(..REGISTERS).unwrap_or(&[])
}
