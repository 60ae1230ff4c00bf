//! Copies and fills: the count, the reason, and every byte, for every size, offset and position of the bad granule.

use faultin::{Access, Cause, Short};

use crate::memory::{GRANULE, GRANULES, Tagged, good_prefix, number};

const WINDOW: usize = GRANULES * GRANULE;

/// Sizes around every boundary between two size classes, and all small ones.
fn sizes() -> impl Iterator<Item = usize> {
    (0..=68)
        .chain([79, 80, 81, 95, 96, 97, 111, 112, 113])
        .chain(126..=146)
        .chain([160, 176, 191, 192, 193])
        .chain([207, 208, 209, 223, 240, 255, 256, 257, 272, 288, 300, 319, 320, 321])
}

/// Offset and size of every range to test in the window, so that it begins anywhere in the second granule.
fn ranges() -> impl Iterator<Item = (usize, usize)> {
    (GRANULE..2 * GRANULE).flat_map(|offset| sizes().map(move |len| (offset, len)))
}

/// The granules of a range, one before it and one after it.
fn granules(offset: usize, len: usize) -> impl Iterator<Item = usize> {
    (offset / GRANULE - 1..GRANULES).take_while(move |granule| granule * GRANULE < offset + len + 2 * GRANULE)
}

/// Checks a result against the expected count; `first` is the first byte of the side with the bad granule.
fn check(what: &str, result: Result<(), Short>, access: Access, first: *const u8, len: usize, done: usize) {
    match result {
        Ok(()) => assert_eq!(done, len, "{what}: succeeded"),
        Err(short) => {
            assert_eq!(short.done, done, "{what}: {short}");
            assert_eq!(short.fault.cause(), Cause::Tag, "{what}");
            assert_eq!(short.fault.access(), access, "{what}");
            assert_eq!(short.fault.address(), Some(first.addr() + done), "{what}");
        }
    }
}

#[test]
fn reading_stops_at_the_bad_granule() {
    let Some(mut source) = Tagged::new() else { return };
    source.number(1);
    let mut copy = [0xee; WINDOW + 32];
    for (offset, len) in ranges() {
        // Another alignment on the other side.
        let to = offset * 7 % 16;
        for bad in granules(offset, len) {
            for copy_in in [faultin::raw::copy_in, faultin::raw::copy_unpredictable] {
                copy.fill(0xee);
                let result = source.with_bad(bad, || {
                    // SAFETY: `copy` holds `len` bytes at `to`; the source is mapped; the handler is installed.
                    unsafe { copy_in(copy[to..to + len].as_mut_ptr(), source.at(offset), len) }
                });
                let done = good_prefix(offset, len, bad);
                let what = format!("{len} bytes from {offset} to {to}, granule {bad} bad");
                check(&what, result, Access::Read, source.at(offset), len, done);
                assert_eq!(copy[to..to + done], source.bytes()[offset..offset + done], "{what}");
                assert!(copy[..to].iter().chain(&copy[to + done..]).all(|byte| *byte == 0xee), "{what}: beyond");
            }
        }
    }
}

#[test]
fn writing_stops_at_the_bad_granule() {
    let Some(mut target) = Tagged::new() else { return };
    let source: Vec<u8> = (0..WINDOW + 32).map(|i| number(i, 2)).collect();
    let mut expected = [0; WINDOW];
    for (offset, len) in ranges() {
        let from = offset * 5 % 16;
        for bad in granules(offset, len) {
            target.bytes().fill(0xee);
            let result = target.with_bad(bad, || {
                // SAFETY: `source` has `len` bytes at `from`; the target is mapped; the handler is installed.
                unsafe { faultin::raw::copy_out(target.at(offset), source[from..].as_ptr(), len) }
            });
            let done = good_prefix(offset, len, bad);
            let what = format!("{len} bytes from {from} to {offset}, granule {bad} bad");
            check(&what, result, Access::Write, target.at(offset), len, done);
            expected.fill(0xee);
            expected[offset..offset + done].copy_from_slice(&source[from..from + done]);
            assert_eq!(target.bytes(), expected, "{what}");
        }
    }
}

#[test]
fn filling_stops_at_the_bad_granule() {
    let Some(mut target) = Tagged::new() else { return };
    let mut expected = [0; WINDOW];
    for (offset, len) in ranges() {
        for bad in granules(offset, len) {
            target.bytes().fill(0xee);
            // SAFETY: the target is mapped; the handler is installed.
            let result = target.with_bad(bad, || unsafe { faultin::raw::fill(target.at(offset), 0x5a, len) });
            let done = good_prefix(offset, len, bad);
            let what = format!("{len} bytes at {offset}, granule {bad} bad");
            check(&what, result, Access::Write, target.at(offset), len, done);
            expected.fill(0xee);
            expected[offset..offset + done].fill(0x5a);
            assert_eq!(target.bytes(), expected, "{what}");
        }
    }
}

#[test]
fn the_nearer_of_two_bad_granules_counts_whichever_side_it_is_on() {
    let (Some(mut source), Some(mut target)) = (Tagged::new(), Tagged::new()) else { return };
    source.number(3);
    let mut expected = [0; WINDOW];
    for len in [1, 15, 16, 17, 33, 64, 65, 100, 128, 129, 200, 300] {
        for (from, to) in [(16, 16), (16, 17), (19, 24), (31, 16), (24, 25)] {
            for bad in granules(from, len) {
                for other in granules(to, len) {
                    target.bytes().fill(0xee);
                    let result = source.with_bad(bad, || {
                        // SAFETY: both are mapped; the handler is installed.
                        target.with_bad(other, || unsafe { faultin::raw::copy(target.at(to), source.at(from), len) })
                    });
                    let (readable, writable) = (good_prefix(from, len, bad), good_prefix(to, len, other));
                    let done = readable.min(writable);
                    let what = format!("{len} bytes from {from} to {to}, granules {bad} and {other} bad");
                    // At the same byte, the load comes first.
                    if readable <= writable {
                        check(&what, result, Access::Read, source.at(from), len, done);
                    } else {
                        check(&what, result, Access::Write, target.at(to), len, done);
                    }
                    expected.fill(0xee);
                    expected[to..to + done].copy_from_slice(&source.bytes()[from..from + done]);
                    assert_eq!(target.bytes(), expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn moving_down_stops_at_the_bad_granule() {
    let Some(mut memory) = Tagged::new() else { return };
    for distance in [1, 2, 7, 8, 15, 16, 17, 24, 64] {
        for len in [1, 2, 8, 9, 16, 17, 31, 32, 33, 47, 48, 64, 100, 200] {
            for to in [16, 17, 24, 31] {
                for bad in 0..GRANULES {
                    memory.number(4);
                    let mut expected = memory.bytes().to_vec();
                    let from = to + distance;
                    let done = good_prefix(from, len, bad).min(good_prefix(to, len, bad));
                    expected.copy_within(from..from + done, to);
                    let result =
                        // SAFETY: mapped; the handler is installed.
                        memory.with_bad(bad, || unsafe { faultin::raw::copy(memory.at(to), memory.at(from), len) });
                    let what = format!("{len} bytes from {from} to {to}, granule {bad} bad");
                    assert_eq!(result.map_or_else(|short| short.done, |()| len), done, "{what}");
                    assert_eq!(memory.bytes(), expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_loop_that_restarts_at_the_first_uncopied_byte_ends() {
    let Some(mut source) = Tagged::new() else { return };
    source.number(5);
    let mut copy = [0; WINDOW];
    for start in 0..3 * GRANULE {
        let bad = 2;
        let mut at = start;
        let mut attempts = 0;
        source.with_bad(bad, || {
            while at < WINDOW {
                attempts += 1;
                // SAFETY: `copy` has that many bytes; mapped; the handler is installed.
                match unsafe { faultin::raw::copy_in(copy[at..].as_mut_ptr(), source.at(at), WINDOW - at) } {
                    Ok(()) => at = WINDOW,
                    Err(Short { done: 0, .. }) => break,
                    Err(short) => at += short.done,
                }
            }
        });
        assert_eq!(at, start.max(bad * GRANULE), "from {start}");
        assert!(attempts <= 2, "{attempts} attempts from {start}");
    }
}

#[test]
fn one_bad_granule_is_one_signal() {
    let Some(source) = Tagged::new() else { return };
    let mut copy = [0; WINDOW];
    for (offset, len) in [(16, 300), (17, 300), (16, 64), (17, 64), (30, 100), (16, 16), (20, 8)] {
        for bad in granules(offset, len) {
            let expected = u64::from(good_prefix(offset, len, bad) < len);
            // Other tests count as well: the minimum of several attempts is the number of one copy. On a busy machine it takes
            // many until one is alone.
            let mut least = u64::MAX;
            for _ in 0..2000 {
                let before = faultin::signal::counters().recovered(Cause::Tag);
                // SAFETY: as above.
                let result = source
                    .with_bad(bad, || unsafe { faultin::raw::copy_in(copy.as_mut_ptr(), source.at(offset), len) });
                let signals = faultin::signal::counters().recovered(Cause::Tag) - before;
                assert_eq!(result.is_ok(), good_prefix(offset, len, bad) == len);
                least = least.min(signals);
                if least <= expected {
                    break;
                }
            }
            assert_eq!(least, expected, "{len} bytes from {offset}, granule {bad} bad");
        }
    }
}
