//! Every copy path at every size and fault position: the count is exact, the bytes before it are done, the bytes after it
//! are unchanged, and there are no more signals than documented.
//!
//! Lower thresholds make the paths for large sizes reachable at sizes that a test can afford.
//!
//! The whole table is every copy at every size and position, with every kind of bad page: `FAULTIN_COPY_TABLE=whole`, in a
//! release build. Otherwise each size is combined with each position for one of the copies, in turn, so that each copy is
//! tested with each size and with each position.

mod pages;

use core::ffi::c_void;
use std::sync::OnceLock;

use faultin::{Access, Cause, Short, raw, testing};
use faultin_test::Random;
use pages::{Bad, CANARY, Pages, pattern, serial, thin_out};

/// Runs `test` once per vector width, with lowered thresholds: string instruction from 700 bytes, vectors again from 1100,
/// non-temporal stores from 1500.
fn each_width(test: impl Fn(&str)) {
    let _one = serial();
    faultin::install().expect("install");
    let usual = testing::thresholds();
    testing::set_thresholds([700, 1100, 1500]);
    for name in testing::vectors() {
        assert!(testing::select_vector(name));
        test(name);
    }
    testing::set_thresholds(usual);
    testing::select_widest();
}

/// All sizes up to 600, then around each threshold and page multiple.
fn sizes() -> Vec<usize> {
    let page = faultin::page_size();
    let mut sizes: Vec<usize> = (0..=600).collect();
    for around in [700, 1024, 1100, 1500, 2048, page, 2 * page] {
        sizes.extend(around - 3..=around + 3);
    }
    sizes
}

/// Fault positions for a size: all of them for small sizes; near both ends and a few others for large ones.
fn positions(size: usize) -> Vec<usize> {
    if size <= 600 {
        return (0..size).collect();
    }
    let between = (1..60).map(|at| 70 + (size - 140) * at / 60);
    (0..70).chain(between).chain(size - 70..size).collect()
}

/// The cells to test: the number of the copy, the size, the position, and the misalignment of the other side.
fn cells(bad: Bad, copies: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let whole = std::env::var("FAULTIN_COPY_TABLE").is_ok_and(|table| table == "whole");
    // Each position once; the other causes differ in the signal, not in the counting, and `fill` has only one side.
    let thin = if bad == Bad::Unmapped { 1 } else { 7 } * if copies == 1 { 5 } else { 1 };
    let step = if whole { 1 } else { thin_out() * thin };
    let positions = move |size: usize| {
        positions(size).into_iter().skip(size % step).step_by(step).map(move |position| (size, position))
    };
    let each = if whole { copies } else { 1 };
    sizes().into_iter().flat_map(positions).flat_map(move |(size, position)| {
        (0..each).map(move |copy| {
            let copy = (copy + size + position / step) % copies;
            (copy, size, position, (size * 29 + position * 13 + copy * 7) % 64)
        })
    })
}

type Copy = unsafe fn(*mut u8, *const u8, usize) -> Result<(), Short>;

/// The copies for callers in C: a short one where it is called, others by a routine, which has one width.
unsafe fn counting(dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    unsafe extern "C" fn stopped(short: &Short, caller: *mut c_void) -> usize {
        // SAFETY: the place below.
        unsafe { caller.cast::<Option<Short>>().write(Some(*short)) };
        short.done
    }
    static ROUTINE: OnceLock<raw::CountingCopy> = OnceLock::new();
    let routine = ROUTINE.get_or_init(|| raw::counting_copy(stopped));
    let mut short: Option<Short> = None;
    let caller = (&raw mut short).cast::<c_void>();
    // SAFETY: forwarded.
    let done = unsafe {
        match len {
            len if len <= raw::COUNTING_SHORT => raw::counting_copy_short(dst, src, len, caller),
            len => routine(dst, src, len, caller),
        }
    };
    assert_eq!(done, short.map_or(len, |short| short.done));
    short.map_or(Ok(()), Err)
}

const COPIES: [(&str, Copy); 5] = [
    ("copy_in", raw::copy_in),
    ("counting", counting),
    ("copy_in_streaming", raw::copy_in_streaming),
    ("copy_unpredictable", raw::copy_unpredictable),
    ("copy", raw::copy),
];

struct Case<'a> {
    width: &'a str,
    name: &'a str,
    bad: Bad,
    size: usize,
    good: usize,
    misalign: usize,
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { width, name, bad, size, good, misalign } = self;
        write!(f, "{name} ({width}): {size} bytes, {good} good before {bad:?}, other side misaligned by {misalign}")
    }
}

fn check(case: &Case<'_>, result: Result<(), Short>, access: Access, boundary: *mut u8, signals: u64) {
    match case.bad.cause(access) {
        Some(cause) if case.good < case.size => {
            let short = result.expect_err(&case.to_string());
            assert_eq!(short.done, case.good, "count: {case}");
            assert_eq!(short.fault.cause(), cause, "cause: {case}");
            assert_eq!(short.fault.access(), access, "access: {case}");
            assert_eq!(short.fault.address(), Some(boundary.addr()), "address: {case}");
            assert_eq!(signals, 1, "signals: {case}");
        }
        _ => {
            assert_eq!(result, Ok(()), "{case}");
            assert_eq!(signals, 0, "signals: {case}");
        }
    }
}

#[test]
fn short_load_side_counts_exactly_and_leaves_the_tail_untouched() {
    each_width(|width| {
        let page = faultin::page_size();
        let (mut out, canaries) = (vec![CANARY; 4 * page], vec![CANARY; 4 * page]);
        for bad in Bad::ALL {
            let mut pages = Pages::new(bad, 3 * page);
            pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
            let boundary = pages.boundary();
            let start = pages.good;
            for (copy, size, good, misalign) in cells(bad, COPIES.len()) {
                let (name, copy) = COPIES[copy];
                let case = Case { width, name, bad, size, good, misalign };
                let before = faultin::signal::counters().total();
                let src = boundary.wrapping_sub(good);
                // SAFETY: `out` is longer than any size and offset; `src` may fault, as intended.
                let result = unsafe { copy(out.as_mut_ptr().add(64 + misalign), src, size) };
                check(&case, result, Access::Read, boundary, faultin::signal::counters().total() - before);
                let done = result.map_or_else(|short| short.done, |()| size);
                let (head, rest) = out.split_at(64 + misalign);
                assert!(head == &canaries[..head.len()], "bytes before the destination: {case}");
                let source = &pages.all()[start - good..];
                if let Some(at) =
                    (0..done).step_by(64).find(|at| rest[*at..done.min(at + 64)] != source[*at..done.min(at + 64)])
                {
                    panic!("one of the bytes from {at} on is not the source's: {case}");
                }
                assert!(rest[done..done + 80] == canaries[..80], "bytes after the count: {case}");
                out[64 + misalign..64 + misalign + done].fill(CANARY);
            }
            assert!(out.iter().all(|&b| b == CANARY), "{bad:?}");
        }
    });
}

#[test]
fn short_store_side_counts_exactly_and_leaves_the_tail_untouched() {
    each_width(|width| {
        let page = faultin::page_size();
        let source: Vec<u8> = (0..4 * page).map(pattern).collect();
        let canaries = vec![CANARY; page];
        for bad in Bad::ALL {
            let mut pages = Pages::new(bad, 3 * page);
            pages.all().fill(CANARY);
            let boundary = pages.boundary();
            let start = pages.good;
            for (copy, size, good, misalign) in cells(bad, COPIES.len()) {
                let (name, copy) = COPIES[copy];
                let case = Case { width, name, bad, size, good, misalign };
                let before = faultin::signal::counters().total();
                let dst = boundary.wrapping_sub(good);
                // SAFETY: `source` is longer than any size and offset; `dst` may fault, as intended.
                let result = unsafe { copy(dst, source.as_ptr().add(misalign), size) };
                check(&case, result, Access::Write, boundary, faultin::signal::counters().total() - before);
                stored(&case, &mut pages, start, &source[misalign..], &canaries);
            }
        }
    });
}

/// The bytes before the bad page are the source's, from the case's position on; all others are unchanged.
fn stored(case: &Case<'_>, pages: &mut Pages, start: usize, source: &[u8], canaries: &[u8]) {
    let (seen, at) = (pages.all(), start - case.good);
    let head = &seen[at.saturating_sub(64)..at];
    assert!(head == &canaries[..head.len()], "before: {case}");
    // The copies end at the bad page: the good pages after it are unchanged.
    assert!(seen[at..start] == source[..case.good], "prefix: {case}");
    let tail = &seen[start..seen.len().min(start + canaries.len())];
    assert!(tail == &canaries[..tail.len()], "after the count: {case}");
    seen[at..start].fill(CANARY);
}

#[test]
fn fill_counts_exactly_and_leaves_the_tail_untouched() {
    each_width(|width| {
        let page = faultin::page_size();
        let (canaries, source) = (vec![CANARY; page], vec![0x5a; 3 * page]);
        for bad in Bad::ALL {
            let mut pages = Pages::new(bad, 3 * page);
            pages.all().fill(CANARY);
            let (boundary, start) = (pages.boundary(), pages.good);
            for (_, size, good, _) in cells(bad, 1) {
                let case = Case { width, name: "fill", bad, size, good, misalign: 0 };
                let before = faultin::signal::counters().total();
                // SAFETY: may fault, as intended.
                let result = unsafe { faultin::raw::fill(boundary.wrapping_sub(good), 0x5a, size) };
                check(&case, result, Access::Write, boundary, faultin::signal::counters().total() - before);
                stored(&case, &mut pages, start, &source, &canaries);
            }
        }
    });
}

#[test]
fn a_complete_copy_touches_exactly_its_range_at_every_size_and_alignment() {
    each_width(|width| {
        let source: Vec<u8> = (0..8192).map(pattern).collect();
        let mut out = vec![CANARY; 8192];
        let random = Random::new(77);
        for size in (0..=600).chain([700, 1023, 1100, 1101, 1499, 1500, 1501, 2047, 4096, 5000]) {
            for (name, copy) in COPIES {
                for _ in 0..8 {
                    let (from, to) = (random.below(64), 64 + random.below(64));
                    // SAFETY: both in bounds.
                    let result = unsafe { copy(out.as_mut_ptr().add(to), source.as_ptr().add(from), size) };
                    assert_eq!(result, Ok(()), "{name} {width} {size}");
                    assert_eq!(out[to..to + size], source[from..from + size], "{name} {width} {size} {from} {to}");
                    assert!(out[..to].iter().all(|&b| b == CANARY), "{name} {width} {size} {from} {to}");
                    assert!(out[to + size..].iter().all(|&b| b == CANARY), "{name} {width} {size} {from} {to}");
                    out[to..to + size].fill(CANARY);
                }
            }
        }
    });
}

#[test]
fn with_both_sides_bad_the_nearer_one_decides() {
    each_width(|width| {
        let page = faultin::page_size();
        let (mut from, mut to) = (Pages::new(Bad::Unmapped, 3 * page), Pages::new(Bad::NoAccess, 3 * page));
        from.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
        to.all().fill(CANARY);
        let random = Random::new(0x55aa_1234);
        for size in sizes().into_iter().filter(|&s| s > 1) {
            for _ in 0..(40 / thin_out()).max(2) {
                let (load, store) = (random.below(size), random.below(size));
                let (src, dst) = (from.boundary().wrapping_sub(load), to.boundary().wrapping_sub(store));
                let before = faultin::signal::counters().total();
                // SAFETY: may fault, as intended.
                let short = unsafe { faultin::raw::copy(dst, src, size) }.expect_err("both sides are bad");
                let what = format!("{width}: {size} bytes, {load} can be loaded, {store} can be stored");
                assert_eq!(short.done, load.min(store), "{what}");
                let (cannot_load, cannot_store) = ((Access::Read, Cause::Unmapped), (Access::Write, Cause::Protection));
                let possible = match load.cmp(&store) {
                    std::cmp::Ordering::Less => &[cannot_load][..],
                    std::cmp::Ordering::Greater => &[cannot_store],
                    // Both fail at the same byte: which one is reported is unspecified.
                    std::cmp::Ordering::Equal => &[cannot_load, cannot_store],
                };
                assert!(possible.contains(&(short.fault.access(), short.fault.cause())), "{what}: {short:?}");
                assert!(faultin::signal::counters().total() - before <= 2, "signals: {what}");
                let good = to.good;
                let seen = to.all();
                assert!(seen[good - store + short.done..].iter().all(|&b| b == CANARY), "after the count: {what}");
                seen.fill(CANARY);
            }
        }
    });
}

#[test]
fn a_bad_page_in_the_middle_ends_the_copy_although_its_tail_is_good() {
    each_width(|width| {
        let page = faultin::page_size();
        for bad in [Bad::Unmapped, Bad::NoAccess] {
            let mut pages = Pages::new(bad, 3 * page);
            pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
            let (boundary, start) = (pages.boundary(), pages.good);
            let mut out = vec![CANARY; 8 * page];
            for good in [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300, 699, 1000, page - 1, page, page + 1] {
                for size in [good + page + 1, good + page + 64, good + page + 700, good + 2 * page] {
                    let before = faultin::signal::counters().total();
                    // SAFETY: may fault, as intended.
                    let result = unsafe { faultin::raw::copy_in(out.as_mut_ptr(), boundary.wrapping_sub(good), size) };
                    let short = result.expect_err("a page in the middle is bad");
                    assert_eq!(short.done, good, "{width} {bad:?} {size}");
                    assert_eq!(short.fault.address(), Some(boundary.addr()));
                    assert_eq!(faultin::signal::counters().total() - before, 1, "{width} {bad:?} {good} of {size}");
                    assert!(out[..good].iter().enumerate().all(|(i, &b)| b == pattern(start - good + i)));
                    assert!(out[good..].iter().all(|&b| b == CANARY), "{width} {bad:?} {good} of {size}");
                    out.fill(CANARY);
                }
            }
        }
    });
}

#[test]
fn overlapping_ranges_move_down_and_are_refused_upwards() {
    each_width(|width| {
        for size in [1usize, 2, 15, 64, 100, 257, 600, 800, 1200, 3000] {
            for distance in [1usize, 3, 16, 63, 64, 200, 599] {
                let mut memory: Vec<u8> = (0..8192).map(pattern).collect();
                let mut expected = memory.clone();
                expected.copy_within(1000..1000 + size, 1000 - distance);
                let base = memory.as_mut_ptr();
                // SAFETY: in bounds; overlaps with the destination below the source.
                let down = unsafe { faultin::raw::copy(base.add(1000 - distance), base.add(1000), size) };
                assert_eq!(down, Ok(()), "{width} {size} {distance}");
                assert!(memory == expected, "{width} {size} {distance}");
                let base = memory.as_mut_ptr();
                // SAFETY: in bounds.
                let up = unsafe { faultin::raw::copy(base.add(1000), base.add(1000 - distance), size) };
                if distance < size {
                    let short = up.expect_err("overlaps upwards");
                    assert_eq!((short.done, short.fault.cause()), (0, Cause::Overlap));
                    assert!(memory == expected, "refused, yet changed: {width} {size} {distance}");
                } else {
                    assert_eq!(up, Ok(()));
                }
            }
        }
    });
}
