//! Nested scans, parallel scans, scans of the same file twice, and scans that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use faultin::{FileMap, map::Repair};

use crate::fixture::{content, each, set_len};
use crate::scan::{bytes, cut_to, peek, served, sum};

/// # Safety
/// As `with_slice`.
unsafe fn scan<T>(map: &FileMap, f: impl FnOnce(&[u8]) -> T) -> (Option<T>, Option<u64>) {
    // SAFETY: forwarded.
    match unsafe { map.with_slice(.., f) } {
        Ok(value) => (Some(value), None),
        Err(damaged) => (damaged.value, damaged.first_bad),
    }
}

#[test]
fn a_scan_inside_of_a_scan_serves_both() {
    let page = faultin::page_size();
    let len = 16 * page;
    each(|case| {
        if !case.faults() {
            return;
        }
        let (path, map) = case.mapped(len);
        // SAFETY: the closures rely on no byte, store nothing and keep nothing; so for all of this file.
        let (inner, bad) = unsafe {
            scan(&map, |outer| {
                let inner = scan(&map, |inner| {
                    set_len(&path, 4 * page);
                    (peek(inner, 5 * page), peek(outer, 6 * page))
                });
                // The inner scan has ended; faults of the outer one are still handled.
                let before = served();
                set_len(&path, page);
                assert_eq!(peek(outer, 2 * page), 0);
                assert_eq!(served() - before, 1);
                inner
            })
        };
        assert_eq!(inner, Some((Some((0, 0)), Some(4 * page as u64))));
        assert_eq!(bad, Some(page as u64));
        assert_eq!(map.repair().expect("nothing to do"), Repair::Whole, "the last one has put the file back");
    });
}

#[test]
fn a_scan_that_begins_after_damage_of_another_reads_the_file() {
    let page = faultin::page_size();
    let len = 16 * page;
    let whole = content(len);
    each(|case| {
        let (path, map) = case.mapped(len);
        // SAFETY: see above.
        let (_, bad) = unsafe {
            scan(&map, |outer| {
                set_len(&path, 4 * page);
                peek(outer, 5 * page);
                if case.faults() {
                    assert_eq!(map.repair().expect("it is not tried"), Repair::InUse, "a scan is under way");
                }
                std::fs::write(&path, &whole).expect("write it again");
                map.refresh().expect("it can be asked");
                // Not the outer scan's zeros.
                assert!(bytes(&map, ..).expect("nothing happened since") == whole);
                assert!(bytes(&map, ..4 * page as u64).expect("nothing happened since") == whole[..4 * page]);
            })
        };
        if case.faults() {
            assert_eq!(bad, Some(4 * page as u64));
        }
        let before = served();
        assert!(bytes(&map, ..).expect("nothing happened since") == whole);
        assert_eq!(served(), before);
    });
}

#[test]
fn ranges_that_overlap_each_hear_of_their_own_part() {
    let page = faultin::page_size() as u64;
    each(|case| {
        if !case.faults() {
            return;
        }
        let (path, map) = case.mapped(16 * page as usize);
        // SAFETY: see above.
        unsafe {
            let outer = map.with_slice(page..12 * page, |outer| {
                let inner = map.with_slice(2 * page..9 * page, |inner| {
                    set_len(&path, 8 * page as usize + 1);
                    peek(inner, 0);
                    peek(outer, 10 * page as usize);
                });
                let inner = inner.expect_err("it was cut");
                assert_eq!(inner.ranges, [8 * page + 1..9 * page]);
            });
            let outer = outer.expect_err("it was cut");
            assert_eq!(outer.ranges, [8 * page + 1..12 * page]);
        }
    });
}

#[test]
fn two_maps_of_a_file_and_one_of_another_are_told_apart() {
    let page = faultin::page_size();
    let len = 16 * page;
    each(|case| {
        if !case.faults() {
            return;
        }
        let (path, map) = case.mapped(len);
        let twin = case.options().open(&path).expect("map it");
        let other_path = case.file("other", len);
        let other = case.options().open(&other_path).expect("map it");
        // SAFETY: see above.
        let ((_, bad), before) = unsafe {
            let before = served();
            let result = scan(&map, |first| {
                let (_, bad) = scan(&twin, |second| {
                    let (_, bad) = scan(&other, |third| {
                        set_len(&path, 3 * page);
                        set_len(&other_path, 5 * page);
                        peek(third, 6 * page);
                        peek(second, 6 * page);
                        // Each map has its own pages: one signal each.
                        assert_eq!(served() - before, 2);
                    });
                    assert_eq!(bad, Some(5 * page as u64));
                });
                assert_eq!(bad, Some(3 * page as u64));
                // The twin's file is whole again and read elsewhere; this one has not faulted yet.
                peek(first, 6 * page);
                assert_eq!(served() - before, 3);
                // Maps are opened and dropped while others are scanned.
                drop(case.options().open(&other_path).expect("map it"));
            });
            (result, before)
        };
        assert_eq!(bad, Some(3 * page as u64));
        drop(twin);
        assert_eq!(served() - before, 3);
        assert_eq!(cut_to(&sum(&other, ..).expect_err("it is cut")), Some(5 * page as u64));
    });
}

#[test]
fn a_closure_that_panics_ends_its_scan() {
    let page = faultin::page_size();
    let len = 16 * page;
    let whole = content(len);
    each(|case| {
        let (path, map) = case.mapped(len);
        for _ in 0..20 {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: see above.
                let _ = unsafe {
                    map.with_slice(.., |all| {
                        set_len(&path, 2 * page);
                        peek(all, 3 * page);
                        std::panic::resume_unwind(Box::new("as planned"));
                    })
                };
            }));
            assert_eq!(panicked.expect_err("it panicked").downcast_ref(), Some(&"as planned"));
            assert_eq!(map.repair().expect("nothing to do"), Repair::Whole, "the scan has ended");
            std::fs::write(&path, &whole).expect("write it again");
            map.refresh().expect("it can be asked");
            assert!(bytes(&map, ..).expect("nothing happened since") == whole);
        }
    });
}

#[test]
fn a_map_that_grows_within_a_scan_keeps_what_the_scan_has() {
    let page = faultin::page_size();
    let len = 16 * page;
    each(|case| {
        let (path, map) = case.mapped(len);
        let long = 4 * len;
        // SAFETY: see above.
        let (_, bad) = unsafe {
            scan(&map, |old| {
                std::fs::write(&path, content(long)).expect("write more");
                // A mapping of its own.
                map.refresh().expect("it can be asked");
                assert!(bytes(&map, ..).expect("nothing happened since") == content(long));
                set_len(&path, 3 * page);
                let (_, bad) = scan(&map, |new| (peek(new, 5 * page), peek(old, 6 * page)));
                assert_eq!(bad, Some(3 * page as u64));
            })
        };
        if case.faults() {
            assert_eq!(bad, Some(3 * page as u64));
        }
        std::fs::write(&path, content(long)).expect("write it again");
        map.refresh().expect("it can be asked");
        assert_eq!(map.repair().expect("nothing to do"), Repair::Whole, "both mappings");
        assert!(bytes(&map, ..).expect("nothing happened since") == content(long));
    });
}
