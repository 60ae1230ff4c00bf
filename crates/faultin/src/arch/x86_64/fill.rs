//! Filling memory. Contract: `rdi` destination, `rsi` the byte in all eight bytes of the register, `rdx` bytes.
//! Results as in [`copy`](super::copy).

use core::arch::naked_asm;

use crate::fault::outcome::Outcome;

/// Two overlapping stores up to 16 bytes, 16-byte stores up to 512, `rep stosb` above: SSE2 is in every x86-64, and one
/// width suffices because nothing is loaded.
#[cfg(feature = "std")]
#[unsafe(naked)]
unsafe extern "C" fn fill_sse2() {
    naked_asm!(
        floor!("0"),
        "xor eax, eax",
        "cmp rdx, 16",
        "ja 22f",
        "cmp edx, 8",
        "jae 21f",
        "cmp edx, 4",
        "jae 20f",
        "test edx, edx",
        "je 25f",
        st!(head "0", "mov byte ptr [rdi], sil"),
        "cmp edx, 1",
        "je 25f",
        floor!("1"),
        st!(tail "2", "mov word ptr [rdi + rdx - 2], si"),
        "25: ret",
        "20:",
        floor!("0"),
        st!(head "0", "mov [rdi], esi"),
        floor!("4"),
        st!(tail "4", "mov [rdi + rdx - 4], esi"),
        "ret",
        "21:",
        floor!("0"),
        st!(head "0", "mov [rdi], rsi"),
        floor!("8"),
        st!(tail "8", "mov [rdi + rdx - 8], rsi"),
        "ret",
        "22:",
        floor!("0"),
        "movq xmm0, rsi",
        "punpcklqdq xmm0, xmm0",
        st!(head "0", "movups [rdi], xmm0"),
        floor!("16"),
        "lea rcx, [rdi + 16]",
        "and rcx, -16",
        "sub rcx, rdi",
        "add rdi, rcx",
        "sub rdx, rcx",
        "cmp rdx, 512",
        "jae 24f",
        "cmp rdx, 64",
        "jb 26f",
        "23:",
        st!(head "0", "movaps [rdi], xmm0"),
        st!(head "16", "movaps [rdi + 16], xmm0"),
        st!(head "32", "movaps [rdi + 32], xmm0"),
        st!(head "48", "movaps [rdi + 48], xmm0"),
        "add rdi, 64",
        "sub rdx, 64",
        "cmp rdx, 64",
        "jae 23b",
        // Fewer than 64 bytes are left, after at least 16 that are done.
        "26:",
        "cmp rdx, 16",
        "jb 27f",
        st!(head "0", "movaps [rdi], xmm0"),
        "add rdi, 16",
        "sub rdx, 16",
        "jmp 26b",
        "27:",
        st!(tail "16", "movups [rdi + rdx - 16], xmm0"),
        "ret",
        "24:",
        "mov eax, esi",
        "mov rcx, rdx",
        "cld",
        step!("2", "0", "rep stosb"),
        "xor eax, eax",
        "77: ret",
    )
}

/// One `rep stosb`, exact by itself, without vector registers.
#[unsafe(naked)]
unsafe extern "C" fn fill_rep() {
    naked_asm!(
        floor!("0"),
        "cld",
        "mov eax, esi",
        "mov rcx, rdx",
        step!("2", "0", "rep stosb"),
        "xor eax, eax",
        "77: ret",
    )
}

macro_rules! call {
    ($routine:path, $dst:expr, $byte:expr, $len:expr) => {{
        let (code, si_addr, reached): (u64, usize, usize);
        core::arch::asm!(
            "call {routine}",
            routine = sym $routine,
            inlateout("rdi") $dst => reached,
            inlateout("rsi") u64::from_ne_bytes([$byte; 8]) => _,
            inlateout("rdx") $len => _,
            lateout("rax") code,
            lateout("r8") si_addr,
            clobber_abi("sysv64"),
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
    // SAFETY: `fill_rep` touches the range only, through its table entry; forwarded from the caller.
    unsafe { call!(fill_rep, dst, byte, len) }
}

/// Fills fast. The stored bytes are those that the outcome reports.
///
/// # Safety
/// As [`fill_bytes`].
pub(crate) unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Outcome {
    #[cfg(feature = "std")]
    // SAFETY: `fill_sse2` touches the range only, through table entries; forwarded from the caller.
    unsafe {
        call!(fill_sse2, dst, byte, len)
    }
    #[cfg(not(feature = "std"))]
    // SAFETY: forwarded from the caller.
    unsafe {
        fill_bytes(dst, byte, len)
    }
}
