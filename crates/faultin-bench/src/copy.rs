//! Copies: 1 byte to 256 MiB, unpredictable sizes, and the price of masked stores.

use std::os::fd::AsFd;

use faultin_test::Random;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory};
use super::peers::guarded::{self, Mask};
use super::peers::{kernel, vm};
use super::report::Goal;
use super::sample::{hot, hot_unrolled, opaque, opaque_ptr, used};

const MEMCPY: &str = "memcpy";

/// Every size class of short copies, powers of two, and sizes in between.
#[rustfmt::skip]
const SIZES: [usize; 51] = [
    1, 2, 3, 4, 7, 8, 12, 15, 16, 24, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 200, 255, 256, 257, 384, 512, 640,
    1024, 1500, 2048, 3000, 4096, 6144, 8192, 12288, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10,
    1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20, 128 << 20, 256 << 20,
];

/// The sizes at which all peers compete.
const SELECTED: [usize; 9] = [8, 64, 256, 1024, 4096, 16 << 10, 64 << 10, 1 << 20, 16 << 20];

/// Goal: maximum ratio of short copies of random size to `memcpy`. Without AVX-512, and so without masked stores, they are
/// ordinary copies.
fn short_entry() -> f64 {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx512vl") || !std::arch::is_x86_feature_detected!("avx512bw") {
        return 0.7;
    }
    0.5
}

/// Goal: maximum ratio of copies of 384 to 640 bytes to `memcpy`.
const MIDDLE: f64 = 1.05;

/// The sizes at which a non-temporal copy competes.
const LARGE: [usize; 3] = [64 << 20, 96 << 20, 128 << 20];

/// The largest size in common rounds, and of a smoke test.
const SMALL: usize = 64 << 10;

/// Number of bytes after a copy that must not change.
const CANARY: usize = 64;
const UNTOUCHED: u8 = 0xa5;

/// Two ranges to copy between.
#[derive(Clone, Copy)]
struct Pair {
    dst: *mut u8,
    src: *mut u8,
}

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let largest = if bench.quick { LARGE[0] } else { SIZES[SIZES.len() - 1] };
    let page = faultin::page_size();
    let source = Memory::resident(Kind::Anon, largest + page)?;
    let target = Memory::resident(Kind::Anon, largest + page)?;
    fill_at_random(source.ptr(), largest + page);
    let aligned = Pair { dst: target.ptr(), src: source.ptr() };
    // Half a page apart: at the same offset in their pages, CPUs that first compare only these bits take the store of one
    // copy for the source of the next, and the benchmark would measure how often they do.
    let pair = Pair { dst: target.ptr().wrapping_add(page / 2), src: source.ptr() };

    let file = Memory::new(Kind::Memfd, SELECTED[SELECTED.len() - 1])?;
    let (small, rest): (Vec<usize>, Vec<usize>) = SIZES.into_iter().partition(|size| *size <= SMALL);
    bench.run_together(small.into_iter().map(|size| by_size(pair, size, &file)).collect());
    if !bench.quick {
        for size in rest {
            bench.run(by_size(pair, size, &file));
        }
    }
    for size in LARGE {
        if size <= largest && (!bench.quick || size == LARGE[0]) {
            large(bench, aligned, size);
        }
    }
    let (dst_shift, src_shift) = (7, 3);
    let shifted = Pair { dst: pair.dst.wrapping_add(dst_shift), src: pair.src.wrapping_add(src_shift) };
    for size in [16, 64, 200, 640, 1024, 4096, 8192, 16 << 10, 64 << 10, 1 << 20, 64 << 20] {
        if !bench.quick || size <= SMALL {
            bench.run(against_memcpy(
                format!("copy_in misaligned +{dst_shift} from +{src_shift}"),
                shifted,
                size,
                None,
            ));
        }
    }
    for most in [16, 64, 128, 256, 1 << 10, 4 << 10] {
        at_random(bench, pair, most);
    }
    for size in [8, 16, 32, 64] {
        then_load(bench, pair, size);
    }
    goals(bench);
    Ok(())
}

fn by_size<'a>(pair: Pair, size: usize, file: &'a Memory) -> Case<'a> {
    let case = against_memcpy("copy_in".to_owned(), pair, size, Some(Bound::times(1.2)));
    if SELECTED.contains(&size) { with_everybody(case, pair, size, file) } else { case }
}

fn against_memcpy<'a>(name: String, pair: Pair, size: usize, bound: Option<Bound>) -> Case<'a> {
    let Pair { dst, src } = pair;
    // SAFETY: both ranges are our own, and longer.
    let ours =
        hot_unrolled(move || unsafe { faultin::raw::copy_in(opaque_ptr(dst), opaque_ptr(src), opaque(size)).is_ok() });
    let memcpy = hot_unrolled(move || {
        // SAFETY: as above.
        unsafe { libc::memcpy(opaque_ptr(dst).cast(), opaque_ptr(src).cast(), opaque(size)) };
        true
    });
    verified(Case::new(name, size, ours).peer(MEMCPY, bound, memcpy), pair, size)
}

fn with_everybody<'a>(case: Case<'a>, pair: Pair, size: usize, file: &'a Memory) -> Case<'a> {
    let Pair { dst, src } = pair;
    // The file holds the same bytes, for `pread`.
    // SAFETY: both ranges are our own, and as long.
    unsafe { core::ptr::copy_nonoverlapping(src, file.ptr(), size) };
    // SAFETY: our own, and no reference into it exists.
    let slice = unsafe { vm::slice(src, size) };
    let guarded = move |mask| {
        // SAFETY: both ranges are our own, and longer.
        hot_unrolled(move || unsafe { guarded::copy(mask, opaque_ptr(dst), opaque_ptr(src), opaque(size)) })
    };
    case.peer(
        "ptr::copy_nonoverlapping",
        None,
        hot_unrolled(move || {
            // SAFETY: both ranges are our own, and longer.
            unsafe { core::ptr::copy_nonoverlapping(opaque_ptr(src), opaque_ptr(dst), opaque(size)) };
            true
        }),
    )
    // SAFETY: the range is our own, longer, and not in the slice.
    .peer("VolatileSlice", None, hot_unrolled(move || unsafe { vm::copy(&slice, opaque_ptr(dst), opaque(size)) }))
    .peer("sigsetjmp(0) + memcpy", None, guarded(Mask::NotSaved))
    .peer("sigsetjmp(1) + memcpy", None, guarded(Mask::Saved))
    .peer(
        "process_vm_readv",
        None,
        // SAFETY: both ranges are our own, and longer.
        hot_unrolled(move || unsafe { kernel::process_vm_readv(dst, src, opaque(size)) == Some(size) }),
    )
    .peer(
        "pread",
        None,
        // SAFETY: the range is our own, and longer.
        hot_unrolled(move || unsafe { kernel::pread(file.as_fd(), dst, opaque(size)) == Some(size) }),
    )
}

fn large(bench: &mut Bench, pair: Pair, size: usize) {
    let case = against_memcpy("copy_in, large".to_owned(), pair, size, None);
    #[cfg(target_arch = "x86_64")]
    {
        const LINEAR: &str = "non-temporal";
        const PAGED: &str = "non-temporal, 4 pages";
        let (linear, paged) = super::peers::streaming::copies();
        let streaming = move |copy: super::peers::streaming::Copy| {
            hot(move || {
                // SAFETY: both ranges are our own, longer and page-aligned; the sizes are multiples of 64 KiB.
                unsafe { copy(pair.dst, pair.src, opaque(size)) };
                true
            })
        };
        let case = case.peer(LINEAR, None, streaming(linear)).peer(PAGED, None, streaming(paged)).better_of(
            BEST_LARGE,
            &[MEMCPY, LINEAR, PAGED],
            Some(Bound::times(1.0)),
        );
        bench.run(case);
    }
    #[cfg(not(target_arch = "x86_64"))]
    bench.run(case.better_of(BEST_LARGE, &[MEMCPY], Some(Bound::times(1.0))));
}

const BEST_LARGE: &str = "the best of these";

/// A sequence of sizes too long for a branch predictor to learn, the same for all.
fn at_random(bench: &mut Bench, pair: Pair, most: usize) {
    const COUNT: usize = 1 << 16;
    let random = Random::new(most as u64);
    let sizes: Vec<u16> = (0..COUNT).map(|_| random.below(most + 1) as u16).collect();
    let sizes = &sizes;
    let next = || {
        let mut cursor = 0;
        move || {
            cursor = (cursor + 1) % COUNT;
            usize::from(sizes[cursor])
        }
    };
    let memcpy = || {
        let mut next = next();
        hot_unrolled(move || {
            // SAFETY: both ranges are our own, and longer.
            unsafe { libc::memcpy(opaque_ptr(pair.dst).cast(), opaque_ptr(pair.src).cast(), next()) };
            true
        })
    };
    let mut size = next();
    // SAFETY: both ranges are our own, and longer.
    let unpredictable = hot_unrolled(move || unsafe {
        faultin::raw::copy_unpredictable(opaque_ptr(pair.dst), opaque_ptr(pair.src), size()).is_ok()
    });
    let mut size = next();
    // SAFETY: both ranges are our own, and longer.
    let ours = hot_unrolled(move || unsafe {
        faultin::raw::copy_in(opaque_ptr(pair.dst), opaque_ptr(pair.src), size()).is_ok()
    });
    for (entry, sampler) in [("copy_unpredictable", unpredictable), ("copy_in", ours)] {
        let bound = (entry == "copy_unpredictable" && most <= 64).then(|| Bound::times(short_entry()));
        let case = Case::new(format!("{entry} random 0-{most}"), most, sampler).peer(MEMCPY, bound, memcpy());
        // Enough copies that the longest was among them.
        bench.run(verified_after(case, pair, most, COUNT as u64));
    }
}

/// A copy whose result is used at once, and determines where the next copy reads: the latency of store and load.
fn then_load(bench: &mut Bench, pair: Pair, size: usize) {
    let Pair { dst, src } = pair;
    fn chain<'a>(copy: impl Fn(usize) + 'a, dst: *mut u8) -> super::sample::Sampler<'a> {
        let mut last = 0_u64;
        hot(move || {
            // Zero, which the compiler does not know.
            copy(last as usize & opaque(0));
            // SAFETY: our own, aligned, and at least 8 bytes long.
            last = unsafe { opaque_ptr(dst).cast::<u64>().read_volatile() };
            true
        })
    }
    let memcpy = || {
        let copy = move |at: usize| {
            // SAFETY: both ranges are our own, and longer.
            unsafe { libc::memcpy(opaque_ptr(dst).cast(), opaque_ptr(src).wrapping_add(at).cast(), opaque(size)) };
        };
        chain(copy, dst)
    };
    let unpredictable = move |at: usize| {
        // SAFETY: both ranges are our own, and longer.
        let done = unsafe {
            faultin::raw::copy_unpredictable(opaque_ptr(dst), opaque_ptr(src).wrapping_add(at), opaque(size))
        };
        used(u64::from(done.is_ok()));
    };
    let ours = move |at: usize| {
        // SAFETY: both ranges are our own, and longer.
        let done = unsafe { faultin::raw::copy_in(opaque_ptr(dst), opaque_ptr(src).wrapping_add(at), opaque(size)) };
        used(u64::from(done.is_ok()));
    };
    for (entry, sampler) in [("copy_unpredictable", chain(unpredictable, dst)), ("copy_in", chain(ours, dst))] {
        let case = Case::new(format!("{entry}, then load"), size, sampler).peer(MEMCPY, None, memcpy());
        bench.run(verified(case, pair, size));
    }
}

fn verified<'a>(case: Case<'a>, pair: Pair, size: usize) -> Case<'a> {
    verified_after(case, pair, size, 1)
}

/// Verifies that every byte is copied and none after them changed.
fn verified_after<'a>(case: Case<'a>, pair: Pair, size: usize, iterations: u64) -> Case<'a> {
    let prepare = move || {
        // SAFETY: our own, and longer than any copy by a page.
        unsafe { core::ptr::write_bytes(pair.dst, UNTOUCHED, size + CANARY) };
    };
    let verify = move || {
        // SAFETY: our own, initialised, and not written to meanwhile.
        let (src, dst) = unsafe {
            (core::slice::from_raw_parts(pair.src, size), core::slice::from_raw_parts(pair.dst, size + CANARY))
        };
        if dst[..size] != *src {
            return Err("the copy differs from the original".to_owned());
        }
        match dst[size..].iter().all(|byte| *byte == UNTOUCHED) {
            true => Ok(()),
            false => Err("bytes after the copy changed".to_owned()),
        }
    };
    case.verified(iterations, prepare, verify)
}

fn fill_at_random(ptr: *mut u8, len: usize) {
    let random = Random::new(1);
    for offset in (0..len).step_by(8) {
        // SAFETY: our own, and whole pages long.
        unsafe { ptr.add(offset).cast::<u64>().write(random.next()) };
    }
}

fn goals(bench: &mut Bench) {
    let rows = &bench.rows;
    let sizes = |row: &super::report::Row| row.name == "copy copy_in" && row.peer == MEMCPY;
    let goals = [
        Goal::mean("copies, all sizes, against memcpy (stretch: 0.90)", 0.98, rows, sizes),
        Goal::worst("copies, each size, against memcpy (stretch: 1.10)", 1.2, rows, sizes),
        Goal::worst("copies of 64-128 MiB, against the better of memcpy and a non-temporal copy", 1.0, rows, |row| {
            row.peer == BEST_LARGE
        }),
        Goal::worst("copies of 384 to 640 B, against memcpy", MIDDLE, rows, |row| {
            sizes(row) && (384..=640).contains(&row.size)
        }),
        Goal::worst("short-copy entry, random sizes 0-64, against memcpy", short_entry(), rows, |row| {
            row.name == "copy copy_unpredictable random 0-64"
        }),
    ];
    bench.goals.extend(goals.into_iter().flatten());
}
