//! XSAVE and XRSTOR on foreign memory.
//!
//! Each routine is one piece of assembly, in which no compiled code sees the foreign state: it saves the thread's own
//! state, loads the foreign one, and restores its own, also after a fault, when the CPU may have restored a part of what it
//! read. PKRU (which would change access rights) and AMX (8 KiB that XRSTOR would also load) are not among the components.
//!
//! There are no counts here: on a bad page XRSTOR reports the byte that it touched first, which for some CPUs is the last
//! one.

use core::arch::x86_64::_xgetbv;

use super::cpu::cpuid;
use crate::fault::outcome::fault_of;
use crate::fault::{Cause, Fault};

/// Alignment of an image, in bytes.
pub const ALIGN: usize = 64;

/// x87, SSE, AVX and the three AVX-512 components.
const WANTED: u64 = 0xe7;

/// Byte offsets in an image.
pub const MXCSR: usize = 24;
/// Offset of the sixteen low vector registers, 16 bytes each.
pub const VECTOR: usize = 160;
/// The header: which components the image contains.
pub const HEADER: usize = 512;

/// Returns the components of this machine, as XSAVE's mask, and the size of an image of them in bytes. `None` without
/// XSAVE.
pub fn layout() -> Option<(u64, usize)> {
    // AVX is only reported where the kernel has enabled XSAVE.
    if !std::arch::is_x86_feature_detected!("xsave") {
        return None;
    }
    // SAFETY: XSAVE is enabled, so XCR0 can be read.
    let mask = unsafe { xcr0() } & WANTED;
    // Components 0 and 1 and the header are 576 bytes; CPUID reports the position of each further one.
    let size = (2..64)
        .filter(|component| mask & (1 << component) != 0)
        .map(|component| {
            let leaf = cpuid(0xd, component);
            (leaf.eax + leaf.ebx) as usize
        })
        .fold(576, usize::max);
    Some((mask, size))
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: XSAVE is enabled.
    unsafe { _xgetbv(0) }
}

/// Loads `state` into the registers and saves them to `dst`.
///
/// # Safety
/// All three are `ALIGN`-aligned and of the size of [`layout`], whose mask is `mask`; `state` and `scratch` are plain
/// memory with valid headers; `dst` is foreign memory that its owner lets us write; the handler is reached.
pub unsafe fn save(dst: *mut u8, state: *const u8, scratch: *mut u8, mask: u64) -> Result<(), Fault> {
    let (code, si_addr): (u64, usize);
    // SAFETY: one guarded XSAVE; see the module for the rest.
    unsafe {
        core::arch::asm!(
            "xsave64 [{scratch}]",
            "xrstor64 [{state}]",
            "xor r8d, r8d",
            "2: xsave64 [{dst}]",
            "3: xrstor64 [{scratch}]",
            __faultin_object!(),
            entry_at!("2b", "3b", "2 | (8 << 2) | (9 << 7)"),
            scratch = in(reg) scratch,
            state = in(reg) state,
            dst = in(reg) dst,
            in("eax") mask as u32,
            in("edx") (mask >> 32) as u32,
            out("r8") code,
            out("r9") si_addr,
            options(nostack),
        );
    }
    if code == 0 { Ok(()) } else { Err(named(fault_of(code, si_addr))) }
}

/// Loads the registers from `src` and stores them as an image in `arrived`.
///
/// # Safety
/// As [`save`]: `scratch` and `arrived` are plain memory, `src` is foreign memory that we may read.
pub unsafe fn restore(src: *const u8, arrived: *mut u8, scratch: *mut u8, mask: u64) -> Result<(), Fault> {
    let (code, si_addr): (u64, usize);
    // SAFETY: one guarded XRSTOR; see the module for the rest.
    unsafe {
        core::arch::asm!(
            "xsave64 [{scratch}]",
            "xor r8d, r8d",
            "2: xrstor64 [{src}]",
            "xsave64 [{arrived}]",
            "3: xrstor64 [{scratch}]",
            __faultin_object!(),
            entry_at!("2b", "3b", "1 | (8 << 2) | (9 << 7)"),
            scratch = in(reg) scratch,
            arrived = in(reg) arrived,
            src = in(reg) src,
            in("eax") mask as u32,
            in("edx") (mask >> 32) as u32,
            out("r8") code,
            out("r9") si_addr,
            options(nostack),
        );
    }
    if code == 0 { Ok(()) } else { Err(named(fault_of(code, si_addr))) }
}

/// XRSTOR raises a general protection fault for an image that it rejects (a reserved bit in the header or in MXCSR). The
/// address is aligned and checked, so the usual meaning of that fault does not apply.
fn named(fault: Fault) -> Fault {
    if fault.cause() == Cause::NonCanonical { fault.with_cause(Cause::Other) } else { fault }
}

/// Fills the sixteen low vector registers of a zero image and marks them as present, with the default MXCSR and x87
/// control word.
pub fn pattern(image: &mut [u8], seed: u8) {
    if image.len() < 576 {
        return;
    }
    image[..2].copy_from_slice(&0x037f_u16.to_le_bytes());
    image[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
    for (i, byte) in image[VECTOR..VECTOR + 256].iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(7).wrapping_add(seed);
    }
    image[HEADER..HEADER + 8].copy_from_slice(&3_u64.to_le_bytes());
}

/// Returns the sixteen low vector registers of an image.
pub fn registers(image: &[u8]) -> &[u8] {
    image.get(VECTOR..VECTOR + 256).unwrap_or(&[])
}
