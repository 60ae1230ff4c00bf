//! The copies in vector registers. Contract of each: `rdi` destination, `rsi` source, `rdx` bytes, both of which may be
//! foreign memory.
//!
//! * Success: `rax` is 0.
//! * A fault: `rax` is the fault code, `r8` is `si_addr`, everything before `rdi` is stored, and the code's progress tells
//!   what is stored after it (of overlapping registers, also the part that a count by `rdi` would omit). Stores are
//!   ascending, so the stored bytes are a prefix, and nothing after them is stored.
//!
//! Loads are not ascending: the short paths load their tail before they store their head. The caller finishes with
//! [`copy_bytes`](super::copy_bytes), which is exact by itself, up to the page of `si_addr`.
//!
//! For up to eight registers, a size class is one path without a loop: the same number of registers from the start and from
//! the end, overlapping.

use core::arch::naked_asm;

use crate::copy::finish_counting;

/// Below 32 bytes, at label 20: halves that overlap, down to one byte.
macro_rules! copy_below_32 {
    ($mov:literal, $x0:literal, $x1:literal) => {
        concat!(
            floor!("0"),
            ".p2align 4\n",
            "20: cmp edx, 16\n",
            "jae 24f\n",
            "cmp edx, 8\n",
            "jae 23f\n",
            "cmp edx, 4\n",
            "jae 22f\n",
            "cmp edx, 1\n",
            "jb 21f\n",
            ld!("movzx ecx, byte ptr [rsi]"),
            "je 26f\n",
            ld!("movzx r9d, word ptr [rsi + rdx - 2]"),
            st!(head "0", "mov byte ptr [rdi], cl"),
            floor!("1"),
            st!(tail "2", "mov word ptr [rdi + rdx - 2], r9w"),
            "21: ret\n",
            "26:\n",
            floor!("0"),
            st!(head "0", "mov byte ptr [rdi], cl"),
            "ret\n",
            ".p2align 4\n",
            "22:\n",
            floor!("0"),
            ld!("mov ecx, [rsi]"),
            ld!("mov r9d, [rsi + rdx - 4]"),
            st!(head "0", "mov [rdi], ecx"),
            floor!("4"),
            st!(tail "4", "mov [rdi + rdx - 4], r9d"),
            "ret\n",
            ".p2align 4\n",
            "23:\n",
            floor!("0"),
            ld!("mov rcx, [rsi]"),
            ld!("mov r9, [rsi + rdx - 8]"),
            st!(head "0", "mov [rdi], rcx"),
            floor!("8"),
            st!(tail "8", "mov [rdi + rdx - 8], r9"),
            "ret\n",
            ".p2align 4\n",
            "24:\n",
            floor!("0"),
            ld!(concat!($mov, " ", $x0, ", [rsi]")),
            ld!(concat!($mov, " ", $x1, ", [rsi + rdx - 16]")),
            st!(head "0", concat!($mov, " [rdi], ", $x0)),
            floor!("16"),
            st!(tail "16", concat!($mov, " [rdi + rdx - 16], ", $x1)),
            "ret\n",
        )
    };
}

/// The beginning of a copy that returns a code: 0 is success.
macro_rules! coded {
    () => {
        "xor eax, eax\n"
    };
}

/// The beginning of a [`CountingCopy`](crate::copy::CountingCopy): the result is the number of bytes. The last argument is kept in
/// a register that these routines do not use; the others stay where they are up to eight vector registers.
macro_rules! counting {
    () => {
        concat!("mov rax, rdx\n", "mov r10, rcx\n")
    };
}

/// The same, before the other arguments change: they are kept in the red zone, which neither these routines nor signals write.
macro_rules! counting_large {
    () => {
        concat!("mov [rsp - 8], rdi\n", "mov [rsp - 16], rsi\n", "mov [rsp - 24], rdx\n")
    };
}

/// The exit of a [`CountingCopy`](crate::copy::CountingCopy) after a fault: `$arguments` brings back the first three. `rsp` is that of
/// the call.
macro_rules! counting_exit {
    ($arguments:literal) => {
        concat!("mov r9, rdi\n", $arguments, "mov rcx, r10\n", "push rax\n", "call {finish}\n", "pop rcx\n", "ret\n",)
    };
}

/// Two, four and eight overlapping registers of `$w` bytes: the classes `$w..=2w`, up to `4w` and up to `8w`, then on to
/// label 30. Smaller sizes go to `$below`.
macro_rules! copy_classes {
    (
        $begin:expr, $w:literal, [$w1:literal, $w2:literal, $w3:literal, $w4:literal, $w8:literal], $mov:literal,
        [$v0:literal, $v1:literal, $v2:literal, $v3:literal, $v4:literal, $v5:literal, $v6:literal, $v7:literal],
        $below:literal, $leave:literal
    ) => {
        concat!(
            floor!("0"),
            $begin,
            "cmp rdx, ", $w, "\n",
            "jb ", $below, "\n",
            "cmp rdx, ", $w2, "\n",
            "ja 28f\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + rdx - ", $w1, "]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            floor!($w1),
            st!(tail $w1, concat!($mov, " [rdi + rdx - ", $w1, "], ", $v1)),
            $leave,
            "ret\n",
            ".p2align 4\n",
            floor!("0"),
            "28: cmp rdx, ", $w4, "\n",
            "ja 29f\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + ", $w1, "]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + rdx - ", $w2, "]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + rdx - ", $w1, "]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(head $w1, concat!($mov, " [rdi + ", $w1, "], ", $v1)),
            floor!($w2),
            st!(tail $w2, concat!($mov, " [rdi + rdx - ", $w2, "], ", $v2)),
            st!(tail $w1, concat!($mov, " [rdi + rdx - ", $w1, "], ", $v3)),
            $leave,
            "ret\n",
            ".p2align 4\n",
            floor!("0"),
            "29: cmp rdx, ", $w8, "\n",
            "ja 30f\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            ld!(concat!($mov, " ", $v1, ", [rsi + ", $w1, "]")),
            ld!(concat!($mov, " ", $v2, ", [rsi + ", $w2, "]")),
            ld!(concat!($mov, " ", $v3, ", [rsi + ", $w3, "]")),
            ld!(concat!($mov, " ", $v4, ", [rsi + rdx - ", $w4, "]")),
            ld!(concat!($mov, " ", $v5, ", [rsi + rdx - ", $w3, "]")),
            ld!(concat!($mov, " ", $v6, ", [rsi + rdx - ", $w2, "]")),
            ld!(concat!($mov, " ", $v7, ", [rsi + rdx - ", $w1, "]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            st!(head $w1, concat!($mov, " [rdi + ", $w1, "], ", $v1)),
            st!(head $w2, concat!($mov, " [rdi + ", $w2, "], ", $v2)),
            st!(head $w3, concat!($mov, " [rdi + ", $w3, "], ", $v3)),
            floor!($w4),
            st!(tail $w4, concat!($mov, " [rdi + rdx - ", $w4, "], ", $v4)),
            st!(tail $w3, concat!($mov, " [rdi + rdx - ", $w3, "], ", $v5)),
            st!(tail $w2, concat!($mov, " [rdi + rdx - ", $w2, "], ", $v6)),
            st!(tail $w1, concat!($mov, " [rdi + rdx - ", $w1, "], ", $v7)),
            $leave,
            "ret\n",
        )
    };
}

/// More than eight registers, at label 30, given four of `$w` bytes each. [`Limits`] has the thresholds.
macro_rules! copy_large {
    ($begin:expr, $w:literal, $mov:literal, $nt:literal, [$v0:literal, $v1:literal, $v2:literal, $v3:literal], [$w1:literal, $w2:literal, $w3:literal, $w4:literal], [$($line:literal),*], $leave:literal) => {
        concat!(
            ".p2align 4\n",
            floor!("0"),
            "30:\n",
            $begin,
            "cmp rdx, [rip + {limits}]\n",
            "jae 40f\n",
            // The vector loop. First register unaligned, then aligned stores.
            "31:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            floor!($w),
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
            // Fewer than four registers are left: the last four end at the end, and repeat bytes that were copied already.
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
            floor!("0"),
            "42:\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            floor!($w),
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
            // Non-temporal stores, for sizes that no cache holds.
            ".p2align 4\n",
            floor!("0"),
            "50: cmp rdx, [rip + {limits} + 16]\n",
            "jb 31b\n",
            ld!(concat!($mov, " ", $v0, ", [rsi]")),
            st!(head "0", concat!($mov, " [rdi], ", $v0)),
            floor!($w),
            "lea rcx, [rdi + ", $w, "]\n",
            "and rcx, -", $w, "\n",
            "sub rcx, rdi\n",
            "add rdi, rcx\n",
            "add rsi, rcx\n",
            "sub rdx, rcx\n",
            ".p2align 5\n",
            "52:\n",
            $("prefetcht0 [rsi + {ahead} + ", $line, "]\n",)*
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

/// The sizes in bytes at which each way of copying more than 256 bytes begins: the vector loop ends at `rep_min`; from
/// there to `rep_max`, `rep movsb`; the vector loop again up to `nt_min`; from there, non-temporal stores. The assembly
/// above knows the offsets. Written once, by [`cpu`](super::cpu), before any copy reads it.
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

/// For [`copy_streaming_avx512`] and [`copy_streaming_sse2`]: every size takes the non-temporal way.
static STREAMING: Limits = {
    use core::sync::atomic::AtomicUsize;
    Limits { rep_min: AtomicUsize::new(0), rep_max: AtomicUsize::new(0), nt_min: AtomicUsize::new(0) }
};

/// The minimum size for these: their alignment and one turn of its loop, whatever the registers.
pub(super) const STREAMING_MIN: usize = 640;

/// The distance in bytes by which the non-temporal loop prefetches: enough to cover memory latency across a page boundary,
/// where the hardware prefetcher stops.
const AHEAD: usize = 1024;

/// The same with 64-byte registers, which CPUs have that wait for memory longer: measured on Ice Lake, where 1024 takes 1.10 of this.
const FAR_AHEAD: usize = 8192;

/// AVX-512VL: registers 16 to 31, whose use needs no `vzeroupper`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_avx512() {
    naked_asm!(
        copy_classes!(
            coded!(), "64", ["64", "128", "192", "256", "512"], "vmovdqu64",
            ["zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23"],
            "19f", ""
        ),
        ".p2align 4",
        floor!("0"),
        "19: cmp edx, 32",
        "jb 20f",
        ld!("vmovdqu64 ymm16, [rsi]"),
        ld!("vmovdqu64 ymm17, [rsi + rdx - 32]"),
        st!(head "0", "vmovdqu64 [rdi], ymm16"),
        floor!("32"),
        st!(tail "32", "vmovdqu64 [rdi + rdx - 32], ymm17"),
        "ret",
        copy_below_32!("vmovdqu64", "xmm16", "xmm17"),
        copy_large!(
            "",
            "64", "vmovdqu64", "vmovntdq",
            ["zmm16", "zmm17", "zmm18", "zmm19"],
            ["64", "128", "192", "256"],
            ["0", "64", "128", "192"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const FAR_AHEAD,
    )
}

/// As [`copy_avx512`], a [`CountingCopy`](crate::copy::CountingCopy).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn counting_copy_avx512() {
    naked_asm!(
        copy_classes!(
            counting!(), "64", ["64", "128", "192", "256", "512"], "vmovdqu64",
            ["zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23"],
            "19f", ""
        ),
        ".p2align 4",
        floor!("0"),
        "19: cmp edx, 32",
        "jb 20f",
        ld!("vmovdqu64 ymm16, [rsi]"),
        ld!("vmovdqu64 ymm17, [rsi + rdx - 32]"),
        st!(head "0", "vmovdqu64 [rdi], ymm16"),
        floor!("32"),
        st!(tail "32", "vmovdqu64 [rdi + rdx - 32], ymm17"),
        "ret",
        copy_below_32!("vmovdqu64", "xmm16", "xmm17"),
        "77:",
        counting_exit!(""),
        copy_large!(
            counting_large!(),
            "64", "vmovdqu64", "vmovntdq",
            ["zmm16", "zmm17", "zmm18", "zmm19"],
            ["64", "128", "192", "256"],
            ["0", "64", "128", "192"],
            ""
        ),
        "77: sfence",
        counting_exit!("mov rdi, [rsp - 8]\nmov rsi, [rsp - 16]\nmov rdx, [rsp - 24]\n"),
        limits = sym LIMITS,
        ahead = const FAR_AHEAD,
        finish = sym finish_counting,
    )
}

/// AVX2.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_avx2() {
    naked_asm!(
        copy_classes!(
            coded!(), "32", ["32", "64", "96", "128", "256"], "vmovdqu",
            ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7"],
            "20f", "vzeroupper\n"
        ),
        copy_below_32!("vmovdqu", "xmm0", "xmm1"),
        copy_large!(
            "",
            "32", "vmovdqu", "vmovntdq",
            ["ymm0", "ymm1", "ymm2", "ymm3"],
            ["32", "64", "96", "128"],
            ["0", "64"],
            "vzeroupper\n"
        ),
        "77: vzeroupper",
        "sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const AHEAD,
    )
}

/// As [`copy_avx2`], a [`CountingCopy`](crate::copy::CountingCopy).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn counting_copy_avx2() {
    naked_asm!(
        copy_classes!(
            counting!(), "32", ["32", "64", "96", "128", "256"], "vmovdqu",
            ["ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7"],
            "20f", "vzeroupper\n"
        ),
        copy_below_32!("vmovdqu", "xmm0", "xmm1"),
        "77:",
        "vzeroupper",
        counting_exit!(""),
        copy_large!(
            counting_large!(),
            "32", "vmovdqu", "vmovntdq",
            ["ymm0", "ymm1", "ymm2", "ymm3"],
            ["32", "64", "96", "128"],
            ["0", "64"],
            "vzeroupper\n"
        ),
        "77: vzeroupper",
        "sfence",
        counting_exit!("mov rdi, [rsp - 8]\nmov rsi, [rsp - 16]\nmov rdx, [rsp - 24]\n"),
        limits = sym LIMITS,
        ahead = const AHEAD,
        finish = sym finish_counting,
    )
}

/// SSE2, which every x86-64 has.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_sse2() {
    naked_asm!(
        copy_classes!(
            coded!(), "16", ["16", "32", "48", "64", "128"], "movups",
            ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"],
            "20f", ""
        ),
        copy_below_32!("movups", "xmm0", "xmm1"),
        copy_large!(
            "",
            "16", "movups", "movntps",
            ["xmm0", "xmm1", "xmm2", "xmm3"],
            ["16", "32", "48", "64"],
            ["0", "64"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym LIMITS,
        ahead = const AHEAD,
    )
}

/// As [`copy_sse2`], a [`CountingCopy`](crate::copy::CountingCopy).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn counting_copy_sse2() {
    naked_asm!(
        copy_classes!(
            counting!(), "16", ["16", "32", "48", "64", "128"], "movups",
            ["xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7"],
            "20f", ""
        ),
        copy_below_32!("movups", "xmm0", "xmm1"),
        "77:",
        counting_exit!(""),
        copy_large!(
            counting_large!(),
            "16", "movups", "movntps",
            ["xmm0", "xmm1", "xmm2", "xmm3"],
            ["16", "32", "48", "64"],
            ["0", "64"],
            ""
        ),
        "77: sfence",
        counting_exit!("mov rdi, [rsp - 8]\nmov rsi, [rsp - 16]\nmov rdx, [rsp - 24]\n"),
        limits = sym LIMITS,
        ahead = const AHEAD,
        finish = sym finish_counting,
    )
}

/// Non-temporal stores, for at least [`STREAMING_MIN`] bytes.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_streaming_avx512() {
    naked_asm!(
        floor!("0"),
        "xor eax, eax",
        copy_large!(
            "",
            "64", "vmovdqu64", "vmovntdq",
            ["zmm16", "zmm17", "zmm18", "zmm19"],
            ["64", "128", "192", "256"],
            ["0", "64", "128", "192"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym STREAMING,
        ahead = const FAR_AHEAD,
    )
}

/// As [`copy_streaming_avx512`], for CPUs without. SSE2: the width of the registers makes no difference to stores that go to memory by
/// the line.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_streaming_sse2() {
    naked_asm!(
        floor!("0"),
        "xor eax, eax",
        copy_large!(
            "",
            "16", "movups", "movntps",
            ["xmm0", "xmm1", "xmm2", "xmm3"],
            ["16", "32", "48", "64"],
            ["0", "64"],
            ""
        ),
        "77: sfence",
        "ret",
        limits = sym STREAMING,
        ahead = const AHEAD,
    )
}

/// Up to 64 bytes without a branch on the size: one masked register. Needs AVX-512BW and BMI2.
///
/// Masked-out lanes on an inaccessible page cost a microcode assist (about 100 ns), so within 64 bytes of a page's end, and
/// above 64 bytes, [`copy_avx512`] is used.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_unpredictable_avx512() {
    naked_asm!(
        floor!("0"),
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

/// Up to 64 bytes with two branches: four registers that overlap, at positions that are limited to the last register's. Larger
/// sizes go to [`copy`](super::dispatch::copy). For CPUs without AVX-512; masked moves of AVX2 are slower than `memcpy`.
///
/// The counts of the entries may exceed the size: then every byte was stored, and the register that faults repeats some.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_unpredictable_sse2() {
    naked_asm!(
        floor!("0"),
        "cmp rdx, 64",
        "ja {branchy}",
        "cmp edx, 16",
        "jb 20f",
        "lea ecx, [rdx - 16]",
        "mov r9d, 16",
        "mov r10d, 32",
        "cmp ecx, r9d",
        "cmovb r9d, ecx",
        "cmp ecx, r10d",
        "cmovb r10d, ecx",
        "xor eax, eax",
        ld!("movups xmm0, [rsi]"),
        ld!("movups xmm1, [rsi + r9]"),
        ld!("movups xmm2, [rsi + r10]"),
        ld!("movups xmm3, [rsi + rcx]"),
        st!(head "0", "movups [rdi], xmm0"),
        st!(head "16", "movups [rdi + r9], xmm1"),
        st!(head "32", "movups [rdi + r10], xmm2"),
        st!(head "48", "movups [rdi + rcx], xmm3"),
        "ret",
        ".p2align 4",
        "20: cmp edx, 4",
        "jb 21f",
        "lea ecx, [rdx - 4]",
        "mov r9d, 4",
        "mov r10d, 8",
        "cmp ecx, r9d",
        "cmovb r9d, ecx",
        "cmp ecx, r10d",
        "cmovb r10d, ecx",
        ld!("mov r11d, [rsi]"),
        ld!("mov r8d, [rsi + r9]"),
        ld!("mov edx, [rsi + r10]"),
        ld!("mov eax, [rsi + rcx]"),
        st!(head "0", "mov [rdi], r11d"),
        st!(head "4", "mov [rdi + r9], r8d"),
        st!(head "8", "mov [rdi + r10], edx"),
        st!(head "12", "mov [rdi + rcx], eax"),
        "22: xor eax, eax",
        "ret",
        // Up to three bytes: the first, the middle and the last one.
        ".p2align 4",
        "21: test edx, edx",
        "jz 22b",
        "mov r9d, edx",
        "shr r9d",
        "lea r10d, [rdx - 1]",
        ld!("movzx ecx, byte ptr [rsi]"),
        ld!("movzx r8d, byte ptr [rsi + r9]"),
        ld!("movzx eax, byte ptr [rsi + r10]"),
        st!(head "0", "mov [rdi], cl"),
        st!(head "1", "mov [rdi + r9], r8b"),
        st!(head "2", "mov [rdi + r10], al"),
        "xor eax, eax",
        "ret",
        "77: ret",
        branchy = sym super::dispatch::copy,
    )
}
