//! The copies in vector registers. Contract of each: `rdi` destination, `rsi` source, `rdx` bytes, all of which may be foreign memory.
//!
//! * Success: `rax` is 0.
//! * A fault: `rax` is the fault code, `r8` is `si_addr`, everything before `rdi` is stored and the code's progress
//!   says what is stored beyond it. Stores are ascending, so what is stored is a prefix, and nothing after it is.
//!
//! Which bytes can be *loaded* is another matter: the short paths load their tail before they store their head. The
//! caller finishes with [`copy_bytes`](super::copy_bytes), which is exact by itself, up to the page of `si_addr`.
//!
//! Small sizes are two overlapping halves, so that each size class is one path without a loop. 33 to 256 bytes use
//! 32-byte registers: later loads of the copied data forward from 32-byte stores, not from 64-byte ones.

use core::arch::naked_asm;

/// Up to 32 bytes, and on to label 25 with more.
macro_rules! copy_upto_32 {
    ($mov:literal, $x0:literal, $x1:literal) => {
        concat!(
            "xor eax, eax\n",
            "cmp rdx, 16\n",
            "jb 21f\n",
            "cmp rdx, 32\n",
            "ja 25f\n",
            // 16 to 32
            ld!(concat!($mov, " ", $x0, ", [rsi]")),
            ld!(concat!($mov, " ", $x1, ", [rsi + rdx - 16]")),
            st!(head "0", concat!($mov, " [rdi], ", $x0)),
            st!(tail "16", concat!($mov, " [rdi + rdx - 16], ", $x1)),
            "ret\n",
            // below 16
            ".p2align 4\n",
            "21: cmp edx, 8\n",
            "jae 22f\n",
            "cmp edx, 4\n",
            "jae 23f\n",
            "cmp edx, 1\n",
            "jb 24f\n",
            ld!("movzx ecx, byte ptr [rsi]"),
            "je 27f\n",
            ld!("movzx r9d, word ptr [rsi + rdx - 2]"),
            st!(head "0", "mov byte ptr [rdi], cl"),
            st!(tail "2", "mov word ptr [rdi + rdx - 2], r9w"),
            "24: ret\n",
            "27:\n",
            st!(head "0", "mov byte ptr [rdi], cl"),
            "ret\n",
            ".p2align 4\n",
            "22:\n",
            ld!("mov rcx, [rsi]"),
            ld!("mov r9, [rsi + rdx - 8]"),
            st!(head "0", "mov [rdi], rcx"),
            st!(tail "8", "mov [rdi + rdx - 8], r9"),
            "ret\n",
            "23:\n",
            ld!("mov ecx, [rsi]"),
            ld!("mov r9d, [rsi + rdx - 4]"),
            st!(head "0", "mov [rdi], ecx"),
            st!(tail "4", "mov [rdi + rdx - 4], r9d"),
            "ret\n",
        )
    };
}

/// 33 to 256 bytes in 32-byte registers.
macro_rules! copy_33_to_256 {
    ($mov:literal, [$v0:literal, $v1:literal, $v2:literal, $v3:literal, $v4:literal, $v5:literal, $v6:literal, $v7:literal], $leave:literal) => {
        concat!(
            ".p2align 4\n",
            "25: cmp rdx, 64\n",
            "ja 26f\n",
            // 33 to 64
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + rdx - 32]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(tail "32", concat!($mov, " [rdi + rdx - 32], ", $v1)),
            $leave,
            "ret\n",
            ".p2align 4\n",
            "26: cmp rdx, 128\n",
            "ja 28f\n",
            // 65 to 128
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + 32]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + rdx - 64]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + rdx - 32]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(head "32", concat!($mov, " [rdi + 32], ", $v1)),
            st!(tail "64", concat!($mov, " [rdi + rdx - 64], ", $v2)),
            st!(tail "32", concat!($mov, " [rdi + rdx - 32], ", $v3)),
            $leave,
            "ret\n",
            ".p2align 4\n",
            "28: cmp rdx, 256\n",
            "ja 30f\n",
            // 129 to 256
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + 32]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + 64]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + 96]")),
            ld!(concat!($mov, " ", $v4, ", [rsi + rdx - 128]")),
            ld!(concat!($mov, " ", $v5, ", [rsi + rdx - 96]")),
            ld!(concat!($mov, " ", $v6, ", [rsi + rdx - 64]")),
            ld!(concat!($mov, " ", $v7, ", [rsi + rdx - 32]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(head "32", concat!($mov, " [rdi + 32], ", $v1)),
            st!(head "64", concat!($mov, " [rdi + 64], ", $v2)),
            st!(head "96", concat!($mov, " [rdi + 96], ", $v3)),
            st!(tail "128", concat!($mov, " [rdi + rdx - 128], ", $v4)),
            st!(tail "96", concat!($mov, " [rdi + rdx - 96], ", $v5)),
            st!(tail "64", concat!($mov, " [rdi + rdx - 64], ", $v6)),
            st!(tail "32", concat!($mov, " [rdi + rdx - 32], ", $v7)),
            $leave,
            "ret\n",
        )
    };
}

/// Above 256 bytes, given four registers of `$w` bytes each. The thresholds are [`Limits`].
macro_rules! copy_above_256 {
    ($w:literal, $mov:literal, $nt:literal, [$v0:literal, $v1:literal, $v2:literal, $v3:literal], [$w1:literal, $w2:literal, $w3:literal, $w4:literal], $leave:literal) => {
        concat!(
            ".p2align 4\n",
            "30:\n",
            "cmp rdx, [rip + {limits}]\n",
            "jae 40f\n",
            // The vector loop. First register unaligned, then aligned stores.
            "31:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            "lea rcx, [rdi + ", $w, "]\n",
            "and rcx, -", $w, "\n",
            "sub rcx, rdi\n",
            "add rdi, rcx\n",
            "add rsi, rcx\n",
            "sub rdx, rcx\n",
            "cmp rdx, ", $w4, "\n",
            "jb 33f\n",
            ".p2align 5\n",
            "32:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + ", $w1, "]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + ", $w2, "]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + ", $w3, "]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(head $w1, concat!($mov, " [rdi + ", $w1, "], ", $v1)),
            st!(head $w2, concat!($mov, " [rdi + ", $w2, "], ", $v2)),
            st!(head $w3, concat!($mov, " [rdi + ", $w3, "], ", $v3)),
            "add rsi, ", $w4, "\n",
            "add rdi, ", $w4, "\n",
            "sub rdx, ", $w4, "\n",
            "cmp rdx, ", $w4, "\n",
            "jae 32b\n",
            // Less than four registers are left: the last four end at the end, the same bytes over again before them.
            "33:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi + rdx - ", $w4, "]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + rdx - ", $w3, "]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + rdx - ", $w2, "]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + rdx - ", $w1, "]")),
            st!(tail $w4, concat!($mov, " [rdi + rdx - ", $w4, "], ", $v0)),
            st!(tail $w3, concat!($mov, " [rdi + rdx - ", $w3, "], ", $v1)),
            st!(tail $w2, concat!($mov, " [rdi + rdx - ", $w2, "], ", $v2)),
            st!(tail $w1, concat!($mov, " [rdi + rdx - ", $w1, "], ", $v3)),
            $leave,
            "ret\n",
            // rep movsb: the CPU keeps the count itself. Aligned stores first, as above.
            ".p2align 4\n",
            "40: cmp rdx, [rip + {limits} + 8]\n",
            "jae 50f\n",
            "42:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            "lea rcx, [rdi + ", $w, "]\n",
            "and rcx, -", $w, "\n",
            "sub rcx, rdi\n",
            "add rdi, rcx\n",
            "add rsi, rcx\n",
            "sub rdx, rcx\n",
            "mov rcx, rdx\n",
            "cld\n",
            step!("3", "0", "rep movsb"),
            $leave,
            "ret\n",
            // Non-temporal stores, for what no cache will hold.
            ".p2align 4\n",
            "50: cmp rdx, [rip + {limits} + 16]\n",
            "jb 31b\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            "lea rcx, [rdi + ", $w, "]\n",
            "and rcx, -", $w, "\n",
            "sub rcx, rdi\n",
            "add rdi, rcx\n",
            "add rsi, rcx\n",
            "sub rdx, rcx\n",
            ".p2align 5\n",
            "52:\n",
            "prefetcht0 [rsi + {ahead}]\n",
            "prefetcht0 [rsi + {ahead} + 64]\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + ", $w1, "]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + ", $w2, "]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + ", $w3, "]")),
            st!(head "0", concat!($nt, " [rdi], ", $v0)),
            st!(head $w1, concat!($nt, " [rdi + ", $w1, "], ", $v1)),
            st!(head $w2, concat!($nt, " [rdi + ", $w2, "], ", $v2)),
            st!(head $w3, concat!($nt, " [rdi + ", $w3, "], ", $v3)),
            "add rsi, ", $w4, "\n",
            "add rdi, ", $w4, "\n",
            "sub rdx, ", $w4, "\n",
            "cmp rdx, ", $w4, "\n",
            "jae 52b\n",
            "sfence\n",
            "jmp 33b\n",
        )
    };
}

/// Where each way of copying more than 256 bytes begins, in bytes: the vector loop ends at `rep_min`; from there to
/// `rep_max`, `rep movsb`; the vector loop again up to `nt_min`; from there, non-temporal stores. Offsets are known to
/// the assembly above. Written once, by [`cpu`](super::cpu), before any copy reads it.
#[repr(C)]
pub(super) struct Limits {
    pub rep_min: core::sync::atomic::AtomicUsize,
    pub rep_max: core::sync::atomic::AtomicUsize,
    pub nt_min: core::sync::atomic::AtomicUsize,
}

pub(super) static LIMITS: Limits = {
    use core::sync::atomic::AtomicUsize;
    Limits {
        rep_min: AtomicUsize::new(usize::MAX),
        rep_max: AtomicUsize::new(usize::MAX),
        nt_min: AtomicUsize::new(usize::MAX),
    }
};

/// How far ahead the non-temporal loop fetches, in bytes: far enough to cover memory latency across a page boundary,
/// where the hardware prefetcher stops.
const AHEAD: usize = 1024;

/// AVX-512VL: registers 16 to 31, whose use needs no `vzeroupper`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_avx512() {
    naked_asm!(
        copy_upto_32!("vmovdqu64", "xmm16", "xmm17"),
        copy_33_to_256!(
            "vmovdqu64",
            ["ymm16", "ymm17", "ymm18", "ymm19", "ymm20", "ymm21", "ymm22", "ymm23"],
            ""
        ),
        copy_above_256!(
            "64", "vmovdqu64", "vmovntdq",
            ["zmm16", "zmm17", "zmm18", "zmm19"],
            ["64", "128", "192", "256"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const AHEAD,
    )
}

/// AVX2.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_avx2() {
    naked_asm!(
        copy_upto_32!("vmovdqu", "xmm0", "xmm1"),
        copy_33_to_256!(
            "vmovdqu",
            ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7"],
            "vzeroupper\n"
        ),
        copy_above_256!(
            "32", "vmovdqu", "vmovntdq",
            ["ymm0", "ymm1", "ymm2", "ymm3"],
            ["32", "64", "96", "128"],
            "vzeroupper\n"
        ),
        "77: vzeroupper",
        "sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const AHEAD,
    )
}

/// SSE2, which every x86-64 has.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_sse2() {
    naked_asm!(
        copy_upto_32!("movups", "xmm0", "xmm1"),
        ".p2align 4",
        "25: cmp rdx, 64",
        "ja 26f",
        ld!("movups xmm0, [rsi]"),
        ld!("movups xmm1, [rsi + 16]"),
        ld!("movups xmm2, [rsi + rdx - 32]"),
        ld!("movups xmm3, [rsi + rdx - 16]"),
        st!(head "0", "movups [rdi], xmm0"),
        st!(head "16", "movups [rdi + 16], xmm1"),
        st!(tail "32", "movups [rdi + rdx - 32], xmm2"),
        st!(tail "16", "movups [rdi + rdx - 16], xmm3"),
        "ret",
        ".p2align 4",
        "26: cmp rdx, 128",
        "ja 30f",
        ld!("movups xmm0, [rsi]"),
        ld!("movups xmm1, [rsi + 16]"),
        ld!("movups xmm2, [rsi + 32]"),
        ld!("movups xmm3, [rsi + 48]"),
        ld!("movups xmm4, [rsi + rdx - 64]"),
        ld!("movups xmm5, [rsi + rdx - 48]"),
        ld!("movups xmm6, [rsi + rdx - 32]"),
        ld!("movups xmm7, [rsi + rdx - 16]"),
        st!(head "0", "movups [rdi], xmm0"),
        st!(head "16", "movups [rdi + 16], xmm1"),
        st!(head "32", "movups [rdi + 32], xmm2"),
        st!(head "48", "movups [rdi + 48], xmm3"),
        st!(tail "64", "movups [rdi + rdx - 64], xmm4"),
        st!(tail "48", "movups [rdi + rdx - 48], xmm5"),
        st!(tail "32", "movups [rdi + rdx - 32], xmm6"),
        st!(tail "16", "movups [rdi + rdx - 16], xmm7"),
        "ret",
        copy_above_256!(
            "16", "movups", "movntps",
            ["xmm0", "xmm1", "xmm2", "xmm3"],
            ["16", "32", "48", "64"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const AHEAD,
    )
}

/// Up to 64 bytes without a branch on the size: one masked register. Needs AVX-512BW and BMI2.
///
/// Masked-out lanes that lie on a page that is not accessible cost a microcode assist (about 100 ns), so within 64
/// bytes of a page's end, and above 64 bytes, [`copy_avx512`] takes over.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_unpredictable_avx512() {
    naked_asm!(
        "cmp rdx, 64",
        "ja {branchy}",
        "mov ecx, edi",
        "mov r9d, esi",
        "and ecx, {page} - 1",
        "and r9d, {page} - 1",
        "cmp ecx, r9d",
        "cmovb ecx, r9d",
        "cmp ecx, {page} - 64",
        "ja {branchy}",
        "xor eax, eax",
        "mov rcx, -1",
        "bzhi rcx, rcx, rdx",
        "kmovq k1, rcx",
        ld!("vmovdqu8 zmm16{{k1}}{{z}}, [rsi]"),
        st!(head "0", "vmovdqu8 [rdi]{{k1}}, zmm16"),
        "ret",
        "77: ret",
        branchy = sym copy_avx512,
        page = const super::MIN_PAGE,
    )
}
