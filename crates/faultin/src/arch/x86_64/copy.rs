//! The copies as Rust calls them, and the one that every build has. `copy_vector` has the contract of the routines.

use core::arch::naked_asm;

#[cfg(feature = "std")]
use super::dispatch;
use crate::fault::outcome::Outcome;

/// One `rep movsb`: exact by itself, wherever it faults. The only copy of a build without `std`, because it needs neither
/// vector registers nor CPU detection.
#[unsafe(naked)]
unsafe extern "C" fn copy_rep() {
    naked_asm!(floor!("0"), "cld", "mov rcx, rdx", "xor eax, eax", step!("3", "0", "rep movsb"), "77: ret",)
}

/// Calls `routine` with the registers that its contract names.
macro_rules! call {
    ($routine:path, $dst:expr, $src:expr, $len:expr) => {{
        let (code, si_addr, reached): (u64, usize, usize);
        core::arch::asm!(
            "call {routine}",
            routine = sym $routine,
            inlateout("rdi") $dst => reached,
            inlateout("rsi") $src => _,
            inlateout("rdx") $len => _,
            lateout("rax") code,
            lateout("r8") si_addr,
            clobber_abi("sysv64"),
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
    // SAFETY: `copy_rep` touches the two ranges only, through table entries; forwarded from the caller.
    unsafe { call!(copy_rep, dst, src, len) }
}

/// Copies with the widest registers of this CPU. The stored bytes are those that the outcome reports; see the module.
///
/// # Safety
/// As [`copy_bytes`], and the ranges do not overlap at all.
#[inline]
pub(crate) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    #[cfg(feature = "std")]
    // SAFETY: jumps to one of the copies; forwarded from the caller.
    unsafe {
        call!(dispatch::copy, dst, src, len)
    }
    #[cfg(not(feature = "std"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        copy_bytes(dst, src, len)
    }
}

/// Copies as [`copy`] does, past the CPU's caches if that is worthwhile.
///
/// # Safety
/// As [`copy`].
#[cfg(feature = "std")]
pub(crate) unsafe fn copy_streaming(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    use super::copy_vector;
    if len < copy_vector::STREAMING_MIN {
        // SAFETY: forwarded from the caller.
        return unsafe { copy(dst, src, len) };
    }
    // SAFETY: long enough; it touches the two ranges only, through table entries; forwarded from the caller.
    unsafe { call!(dispatch::copy_streaming, dst, src, len) }
}

/// Copies as [`copy`] does, without a branch on the size where the CPU can.
///
/// # Safety
/// As [`copy`].
#[inline]
pub(crate) unsafe fn copy_unpredictable(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    #[cfg(feature = "std")]
    // SAFETY: jumps to one of the copies; forwarded from the caller.
    unsafe {
        call!(dispatch::copy_unpredictable, dst, src, len)
    }
    #[cfg(not(feature = "std"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        copy_bytes(dst, src, len)
    }
}
