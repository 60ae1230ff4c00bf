//! The features of this CPU, and the sizes at which its ways of copying change.

use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};
use core::sync::atomic::{AtomicBool, Ordering};

use super::copy_vector::LIMITS;

/// The widest registers to copy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Vector {
    /// 16 bytes; every x86-64 has them.
    Sse2,
    /// 32 bytes, and the instructions that count and find bits (POPCNT, BMI1), which every CPU with AVX2 has.
    Avx2,
    /// 64 bytes, with the 32-byte forms (VL), byte masks (BW) and BMI2.
    Avx512,
}

/// Returns the widest that this CPU and this kernel support.
pub(crate) fn widest() -> Vector {
    use std::arch::is_x86_feature_detected as has;
    let has_wide = has!("avx2") && has!("popcnt") && has!("bmi1");
    let has = if has_wide && has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("bmi2") {
        Vector::Avx512
    } else if has_wide {
        Vector::Avx2
    } else {
        Vector::Sse2
    };
    #[cfg(faultin_widest)]
    return has.min(allowed());
    #[cfg(not(faultin_widest))]
    has
}

/// Returns the widest that `FAULTIN_WIDEST` allows: a build with `--cfg faultin_widest` runs the tests as a CPU without
/// AVX-512 or AVX2 does.
///
/// # Panics
/// For another value than `avx2` and `sse2`.
#[cfg(faultin_widest)]
fn allowed() -> Vector {
    // Not `std::env`, which allocates and takes a lock: the first copy may be in a signal handler.
    // SAFETY: the name is a C string.
    let value = unsafe { libc::getenv(c"FAULTIN_WIDEST".as_ptr()) };
    if value.is_null() {
        return Vector::Avx512;
    }
    // SAFETY: it is a C string of the environment, which tests do not change.
    match unsafe { core::ffi::CStr::from_ptr(value) }.to_bytes() {
        b"avx2" => Vector::Avx2,
        b"sse2" => Vector::Sse2,
        _ => panic!("FAULTIN_WIDEST must be avx2 or sse2"),
    }
}

/// Returns what CPUID reports of `leaf` and `index`.
// `__cpuid_count` is unsafe up to Rust 1.93, and safe in Rust 1.95.
#[allow(unused_unsafe)]
pub(super) fn cpuid(leaf: u32, index: u32) -> CpuidResult {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { __cpuid_count(leaf, index) }
}

/// Returns whether the CPU has enhanced `rep movsb` (CPUID 7: EBX bit 9), and fast short ones (EDX bit 4).
fn string_features() -> (bool, bool) {
    if cpuid(0, 0).eax < 7 {
        return (false, false);
    }
    let leaf = cpuid(7, 0);
    (leaf.ebx & (1 << 9) != 0, leaf.edx & (1 << 4) != 0)
}

/// Returns the sizes of the caches in bytes as CPUID reports them: (L2, last level). Leaf 4 on Intel, 0x8000001d on AMD.
pub(crate) fn caches() -> (usize, usize) {
    let leaf = if is_amd() { 0x8000_001d } else { 4 };
    let highest = cpuid(leaf & 0x8000_0000, 0).eax;
    let (mut second, mut last) = (0, 0);
    if highest >= leaf {
        for index in 0..8 {
            let c = cpuid(leaf, index);
            let (kind, level) = (c.eax & 31, (c.eax >> 5) & 7);
            if kind == 0 {
                break;
            }
            if kind == 2 {
                continue; // instructions
            }
            let ways = (c.ebx >> 22) as usize + 1;
            let partitions = ((c.ebx >> 12) & 0x3ff) as usize + 1;
            let line = (c.ebx & 0xfff) as usize + 1;
            let size = ways * partitions * line * (c.ecx as usize + 1);
            if level == 2 {
                second = size;
            }
            last = last.max(size);
        }
    }
    // A hypervisor may hide them all.
    let second = if second == 0 { 1 << 20 } else { second };
    (second, last.max(second))
}

/// Returns whether the CPU is AMD's or its licensee's: their string microcode and caches behave alike.
fn is_amd() -> bool {
    let id = cpuid(0, 0);
    (id.ebx, id.edx, id.ecx) == (0x6874_7541, 0x6974_6e65, 0x444d_4163)
        || (id.ebx, id.edx, id.ecx) == (0x6f67_7948, 0x6e65_476e, 0x656e_6975)
}

static FAST_STRINGS: AtomicBool = AtomicBool::new(false);

/// Returns whether `rep movsb` of a few KiB starts quickly: known once the copies are [settled](super::dispatch::settle).
#[inline]
pub(crate) fn string_copies_are_fast() -> bool {
    FAST_STRINGS.load(Ordering::Relaxed)
}

/// Sets [`LIMITS`] for this CPU; the figures behind the choice are in DESIGN.md.
pub(crate) fn tune() {
    let (erms, fsrm) = string_features();
    FAST_STRINGS.store(erms && fsrm, Ordering::Relaxed);
    let (_second, last) = caches();
    let nt = (last / 2).max(24 << 20);
    let (rep_min, rep_max) = match (erms, is_amd()) {
        (false, _) => (nt, nt),
        (true, false) => (if fsrm { 8 << 10 } else { 16 << 10 }, nt),
        (true, true) => (nt, nt),
    };
    LIMITS.rep_min.store(rep_min, Ordering::Relaxed);
    LIMITS.rep_max.store(rep_max, Ordering::Relaxed);
    LIMITS.nt_min.store(nt, Ordering::Relaxed);
}

/// Reads the time-stamp counter: a clock cheap enough to time one memory access.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 has `rdtsc`; a process for which it is forbidden (PR_SET_TSC) could not run its C library.
    unsafe { _rdtsc() }
}

/// Returns a number of ticks that a touch of a resident page takes less than, and a page fault more: about 0.4
/// microseconds, between a cache and TLB miss and the cheapest fault.
pub(crate) fn cold_ticks() -> u64 {
    1000
}
