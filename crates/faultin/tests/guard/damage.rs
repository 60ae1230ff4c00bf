//! A file that is truncated, regrown or rewritten during a scan: the damaged bytes, the reason, the number of signals, and
//! the map afterwards.

use faultin::map::{Change, Reason, Repair, Watch};

use crate::fixture::{content, each, overwrite, set_len};
use crate::scan::{add, bytes, cut_to, peek, served, sum};

#[test]
fn a_scan_sees_the_file() {
    let page = faultin::page_size();
    let len = 5 * page + 77;
    let whole = content(len);
    each(|case| {
        let (path, map) = case.mapped(len);
        let before = served();
        for (start, end) in
            [(0, len), (1, len), (page, 2 * page), (page - 1, page + 1), (len - 1, len), (7, 7), (len, len)]
        {
            let (from, to) = (start as u64, end as u64);
            assert_eq!(bytes(&map, from..to).expect("nothing happened"), whole[start..end]);
        }
        assert_eq!(bytes(&map, ..).expect("nothing happened"), whole);
        assert_eq!(bytes(&map, len as u64 - 3..).expect("nothing happened"), whole[len - 3..]);
        assert_eq!(bytes(&map, ..=4).expect("nothing happened"), whole[..5]);
        // Ranges that end past the map, begin past it, or begin after their own end.
        assert_eq!(bytes(&map, 5..u64::MAX).expect("nothing happened"), whole[5..]);
        assert_eq!(bytes(&map, u64::MAX..).expect("nothing happened"), []);
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = bytes(&map, 9..3);
        assert_eq!(backwards.expect("nothing happened"), []);
        // A window that begins within a page.
        let window = case.options().offset(page as u64 + 13).length(2 * page as u64).open(&path).expect("map it");
        assert_eq!(bytes(&window, ..).expect("nothing happened"), whole[page + 13..3 * page + 13]);
        assert_eq!(bytes(&window, 10..20).expect("nothing happened"), whole[page + 23..page + 33]);
        assert_eq!(served(), before);
    });
}

#[test]
fn an_empty_file_has_an_empty_slice() {
    each(|case| {
        let (path, map) = case.mapped(0);
        assert_eq!(sum(&map, ..).expect("nothing happened"), 0);
        set_len(&path, 1);
        let damaged = sum(&map, ..).expect_err("it grew");
        assert_eq!(damaged.error.change(), Some(Change::Grown { from: 0, to: 1 }));
        assert_eq!((damaged.value, damaged.first_bad), (Some(0), None));
    });
}

/// Whole pages and further bytes to which a file is truncated.
const CUTS: [(usize, usize); 6] = [(0, 0), (0, 1), (1, 0), (3, 100), (7, 4000), (8, 0)];

#[test]
fn a_range_behind_the_map_is_empty_wherever_it_begins() {
    each(|case| {
        let map = case.options().offset(10).open(case.file("file", 100)).expect("map it");
        for start in [90, 91, 1 << 40, u64::MAX] {
            assert_eq!(bytes(&map, start..).expect("nothing"), b"");
            assert_eq!(map.find_any([1], start..).expect("nothing"), None);
            assert_eq!(map.rfind(b"ab", start..).expect("nothing"), None);
            assert_eq!(map.chunks(start..).for_each(|_| {}).expect("nothing"), 0);
        }
    });
}

#[test]
fn a_cut_file_is_damage_from_the_first_byte_it_lost() {
    let page = faultin::page_size();
    let len = 8 * page + 55;
    let whole = content(len);
    each(|case| {
        for (pages, rest) in CUTS {
            let cut = pages * page + rest;
            for first in [0, 2 * page as u64 + 3, 8 * page as u64 + 1] {
                let (path, map) = case.mapped(len);
                set_len(&path, cut);
                let before = served();
                let damaged = bytes(&map, first..).expect_err("it was cut");
                // The pages without any byte of the file.
                let faults = cut.next_multiple_of(page) < len && case.faults();
                assert_eq!(served() - before, u64::from(faults), "signals of a cut at {cut}");
                let bad = first.max(cut as u64);
                assert_eq!(damaged.first_bad, Some(bad), "cut at {cut}, scanned from {first}");
                assert_eq!(damaged.ranges, [bad..len as u64]);
                assert_eq!(cut_to(&damaged), Some(cut as u64));
                assert_eq!(damaged.error.offset(), bad);
                assert_eq!(damaged.error.done() as u64, bad - first);
                let mut expected = whole[first as usize..].to_vec();
                expected[(bad - first) as usize..].fill(0);
                assert!(damaged.value.expect("it was called") == expected, "cut at {cut}, scanned from {first}");
                // An intact part does not fault; the truncation is reported nevertheless.
                if pages > 0 {
                    let before = served();
                    let damaged = bytes(&map, ..10).expect_err("it is cut");
                    assert_eq!((damaged.first_bad, &damaged.ranges[..], served() - before), (None, &[][..], 0));
                    assert_eq!(damaged.value.as_deref(), Some(&whole[..10]));
                }
            }
        }
    });
}

#[test]
fn a_cut_in_the_midst_of_a_scan_costs_one_signal_and_so_does_the_next() {
    let page = faultin::page_size();
    let len = 300 * page;
    each(|case| {
        if !case.faults() {
            return;
        }
        let (path, map) = case.mapped(len);
        let before = served();
        let scan = |all: &[u8]| {
            let good = add(&all[..50 * page]);
            set_len(&path, 100 * page + 9);
            // Repeatedly and backwards: one signal.
            for at in (0..300).rev().chain(0..300) {
                peek(all, at * page);
            }
            assert_eq!(served() - before, 1);
            set_len(&path, 7 * page);
            for at in 0..300 {
                peek(all, at * page);
            }
            assert_eq!(served() - before, 2);
            good
        };
        // SAFETY: relies on no byte, stores nothing, keeps nothing.
        let damaged = unsafe { map.with_slice(.., scan) }.expect_err("it was cut");
        assert_eq!(damaged.value, Some(add(&content(len)[..50 * page])));
        assert_eq!(damaged.first_bad, Some(7 * page as u64));
        assert_eq!(damaged.ranges, [7 * page as u64..len as u64]);
        assert_eq!(cut_to(&damaged), Some(7 * page as u64));
    });
}

#[test]
fn what_was_cut_and_has_grown_again_within_a_scan_is_damage() {
    let page = faultin::page_size();
    let len = 20 * page;
    each(|case| {
        for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
            let path = case.file("file", len);
            let map = case.options().watch(watch).open(&path).expect("map it");
            let scan = |all: &[u8]| {
                set_len(&path, 5 * page + 10);
                let lost = peek(all, 12 * page);
                set_len(&path, len);
                lost
            };
            // SAFETY: as above.
            let result = unsafe { map.with_slice(.., scan) };
            if !case.faults() {
                // The copy was made before; only later changes are visible.
                assert!(result.is_ok(), "{watch:?}");
                continue;
            }
            let damaged = result.expect_err("zeros were read");
            assert_eq!(damaged.value, Some(0));
            assert_eq!(damaged.first_bad, Some(5 * page as u64 + 10), "{watch:?}");
            assert_eq!(cut_to(&damaged), Some(5 * page as u64 + 10), "{watch:?}");
        }
    });
}

#[test]
fn what_nothing_faults_of_is_a_change_all_the_same() {
    let len = 3 * faultin::page_size();
    each(|case| {
        let (path, map) = case.mapped(len);
        overwrite(&path, 5, b"other");
        let damaged = sum(&map, ..).expect_err("it was rewritten");
        assert_eq!(damaged.error.change(), Some(Change::Rewritten));
        assert_eq!((damaged.first_bad, damaged.ranges.len()), (None, 0));
        assert!(damaged.value.is_some());
        map.refresh().expect("it can be asked");
        sum(&map, ..).expect("nothing happened since");

        // In the last page: nothing faults, and the bytes are zeros.
        set_len(&path, len - 20);
        let damaged = bytes(&map, ..).expect_err("it was cut");
        assert_eq!(damaged.first_bad, Some(len as u64 - 20));
        assert_eq!(damaged.ranges, [len as u64 - 20..len as u64]);
        std::fs::remove_file(&path).expect("remove");
        map.refresh().expect("it can be asked");
    });
}

#[test]
fn the_map_is_as_good_as_new_a_hundred_times() {
    let page = faultin::page_size();
    let len = 40 * page + 5;
    let whole = content(len);
    each(|case| {
        let (path, map) = case.mapped(len);
        for round in 0..100 {
            let cut = (round * 1237) % len;
            set_len(&path, cut);
            let before = served();
            let damaged = bytes(&map, ..).expect_err("it was cut");
            assert_eq!(damaged.first_bad, Some(cut as u64), "round {round}");
            assert!(served() - before <= 1, "round {round}: the hundredth fault is handled as the first");
            std::fs::write(&path, &whole).expect("write it again");
            map.refresh().expect("it can be asked");
            assert!(bytes(&map, ..).expect("nothing happened since") == whole, "round {round}");
            // The copying operations use the mapping again, and stores by others are visible in it.
            overwrite(&path, 3 * page, &[round as u8]);
            map.refresh().expect("it can be asked");
            assert_eq!(map.load::<u8>(3 * page as u64).expect("nothing happened since"), round as u8);
            assert_eq!(bytes(&map, 3 * page as u64..=3 * page as u64).expect("nothing happened"), [round as u8]);
            std::fs::write(&path, &whole).expect("write it again");
            map.refresh().expect("it can be asked");
            assert_eq!(map.repair().expect("nothing to do"), Repair::Whole);
        }
    });
}

#[test]
fn what_cannot_be_read_into_memory_is_an_error_before_the_closure_runs() {
    let len = 1 << 50;
    each(|case| {
        if case.faults() {
            return;
        }
        let path = case.file("file", 0);
        if std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(len)).is_err() {
            return faultin_test::skipped("large-files", format_args!("{}: no pebibyte", path.display()));
        }
        let map = case.options().open(&path).expect("map it");
        let damaged = sum(&map, ..).expect_err("no memory has so much");
        assert_eq!((damaged.value, damaged.first_bad), (None, None));
        assert!(matches!(damaged.error.reason(), Reason::Io(error) if error.raw_os_error() == Some(libc::ENOMEM)));
    });
}
