//! Anybody's code over the mapping: it ends, it is told what was damaged, and the map can be used again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faultin::map::{Backend, Change, Damaged, FileMap, Reason};

use crate::fixture::{Case, content, each, overwrite, set_len};

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&b| u64::from(b)).sum()
}

/// The sum of a range, by code that knows nothing of us.
fn sum_of(map: &FileMap, range: std::ops::Range<u64>) -> Result<u64, Damaged<u64>> {
    // SAFETY: a sum is right for any bytes.
    unsafe { map.with_slice(range, sum) }
}

/// Makes the file what it was, and has the map take it for that.
fn restore(path: &Path, map: &FileMap, whole: &[u8]) {
    std::fs::write(path, whole).unwrap();
    map.refresh().unwrap();
    let mut all = vec![0; whole.len()];
    map.read_exact_at(&mut all, 0).unwrap();
    assert!(all == whole, "zeros of a scan are still there");
    assert_eq!(sum_of(map, 0..u64::MAX).unwrap(), sum(whole));
}

/// How many faults of others' code were served.
fn substituted() -> u64 {
    faultin::counters().substituted
}

#[test]
fn at_peace_it_is_the_slice_of_the_range() {
    each(|case| {
        let len = 5 * faultin::page_size() + 77;
        let (_, map) = case.mapped(len);
        let whole = content(len);
        for (start, end) in [(0, len), (1, len - 1), (3, 3), (len, len), (4000, 5000)] {
            // SAFETY: a copy is right for any bytes.
            let copy = unsafe { map.with_slice(start as u64..end as u64, <[u8]>::to_vec) }.unwrap();
            assert!(copy == whole[start..end]);
        }
        // SAFETY: as above.
        unsafe {
            assert_eq!(map.with_slice(.., <[u8]>::len).unwrap(), len);
            assert_eq!(map.with_slice(len as u64 + 9.., <[u8]>::len).unwrap(), 0);
            assert_eq!(map.with_slice(10.., |bytes| bytes.len()).unwrap(), len - 10);
        }
    });
}

#[test]
fn a_file_that_is_cut_costs_one_signal_and_is_told() {
    each(|case| {
        let page = faultin::page_size();
        let len = 200 * page + 5;
        let whole = content(len);
        let (path, map) = case.mapped(len);
        for cut in [0, 1, 100, page, page + 1, 7 * page - 1, 100 * page + 50] {
            let before = substituted();
            // SAFETY: sums are right for any bytes.
            let damaged = unsafe {
                map.with_slice(.., |bytes| {
                    let first = sum(&bytes[..50]);
                    set_len(&path, cut);
                    (first, sum(&bytes[50..]))
                })
            }
            .expect_err("it was cut");
            assert_eq!(damaged.error().change(), Some(Change::Shrunk { from: len as u64, to: cut as u64 }));
            assert_eq!(damaged.error().path(), Some(&*path));
            let &(first, rest) = damaged.value().expect("it ran");
            assert_eq!(first, sum(&whole[..50]));
            if case.faults() {
                // The last page of the file reads as zeros, without a fault.
                assert_eq!(rest, sum(&whole[50.min(cut)..cut.max(50).min(cut)]), "zeros behind {cut}");
                assert_eq!(damaged.ranges(), core::slice::from_ref(&(cut as u64..len as u64)), "cut at {cut}");
                assert_eq!(damaged.first_bad(), Some(cut as u64));
                assert_eq!(damaged.error().offset(), cut as u64);
                assert_eq!(substituted() - before, 1, "signals of a file cut at {cut}");
            } else {
                // It had a copy.
                assert_eq!(rest, sum(&whole[50..]));
                assert_eq!(damaged.first_bad(), None);
            }
            restore(&path, &map, &whole);
        }
    });
}

#[test]
fn what_is_cut_before_is_an_error_with_zeros() {
    each(|case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(8 * page);
        set_len(&path, 2 * page + 100);
        let damaged = sum_of(&map, 0..u64::MAX).unwrap_err();
        assert_eq!(damaged.value(), Some(&sum(&content(2 * page + 100))));
        assert_eq!(damaged.first_bad(), Some(2 * page as u64 + 100));
        assert!(matches!(damaged.error().reason(), Reason::Changed(_)), "{damaged}");
        // A part that is there is no safer: the file has changed.
        let damaged = sum_of(&map, 0..page as u64).unwrap_err();
        assert_eq!((damaged.first_bad(), damaged.value()), (None, Some(&sum(&content(page)))));
        map.refresh().unwrap();
        assert_eq!(sum_of(&map, 0..u64::MAX).unwrap(), sum(&content(2 * page + 100)));
    });
}

#[test]
fn changes_without_a_fault_are_told_too() {
    each(|case| {
        let len = 3 * faultin::page_size();
        let (path, map) = case.mapped(len);
        // SAFETY: a length.
        let damaged = unsafe {
            map.with_slice(.., |bytes| {
                overwrite(&path, 10, b"other");
                bytes.len()
            })
        }
        .unwrap_err();
        assert_eq!(damaged.error().change(), Some(Change::Rewritten));
        assert!(damaged.ranges().is_empty());
        assert_eq!(damaged.into_value(), Some(len));
    });
}

#[test]
fn the_hundredth_fault_is_as_the_first() {
    each(|case| {
        let page = faultin::page_size();
        let len = 20 * page;
        let whole = content(len);
        let (path, map) = case.mapped(len);
        let before = substituted();
        for _ in 0..100 {
            // SAFETY: as above.
            let damaged = unsafe {
                map.with_slice(.., |bytes| {
                    set_len(&path, page);
                    sum(bytes)
                })
            }
            .unwrap_err();
            assert!(damaged.error().change().is_some());
            restore(&path, &map, &whole);
        }
        if case.faults() {
            assert_eq!(substituted() - before, 100);
        }
        // And within one: cut and restored again and again, by whoever writes while it is read.
        // SAFETY: as above.
        let damaged = unsafe {
            map.with_slice(.., |bytes| {
                (0..100).for_each(|i| {
                    set_len(&path, page * (i % 10));
                    sum(bytes);
                    std::fs::write(&path, &whole).unwrap();
                });
            })
        }
        .unwrap_err();
        if case.faults() {
            assert_eq!(damaged.first_bad(), Some(0));
        }
        restore(&path, &map, &whole);
    });
}

#[test]
fn scans_nest_and_overlap_and_each_is_told_of_its_own() {
    each(|case| {
        let page = faultin::page_size() as u64;
        let len = 10 * page as usize;
        let whole = content(len);
        let (path, map) = case.mapped(len);
        let other = case.options().open(case.file("other", len)).unwrap();
        let twin = case.options().open(&path).unwrap();
        // SAFETY: sums are right for any bytes.
        unsafe {
            let outer = map.with_slice(0..8 * page, |outer| {
                let before = map.with_slice(0..2 * page, sum).expect("still whole");
                set_len(&path, 4 * page as usize);
                let low = map.with_slice(0..3 * page, sum).expect_err("changed");
                let high = map.with_slice(2 * page..9 * page, sum).expect_err("cut");
                let double = twin.with_slice(.., sum).expect_err("mapped twice");
                let elsewhere = other.with_slice(.., sum).expect("another file");
                assert_eq!(elsewhere, sum(&whole));
                assert_eq!((low.first_bad(), low.value().copied()), (None, Some(sum(&whole[..3 * page as usize]))));
                assert_eq!(high.value().copied(), Some(sum(&whole[2 * page as usize..4 * page as usize])));
                assert_eq!(double.first_bad(), Some(4 * page));
                if case.backend == Backend::Mapped {
                    assert_eq!(high.ranges(), core::slice::from_ref(&(4 * page..9 * page)));
                }
                (before, sum(outer))
            });
            let outer = outer.expect_err("cut meanwhile");
            if case.faults() {
                assert_eq!(outer.ranges(), core::slice::from_ref(&(4 * page..8 * page)));
                let half = sum(&whole[..4 * page as usize]);
                assert_eq!(outer.value(), Some(&(sum(&whole[..2 * page as usize]), half)));
            }
        }
        restore(&path, &map, &whole);
        restore(&path, &twin, &whole);
        assert_eq!(sum_of(&other, 0..u64::MAX).unwrap(), sum(&whole));
    });
}

#[test]
fn a_panic_in_the_closure_ends_the_scan() {
    each(|case| {
        let page = faultin::page_size();
        let whole = content(6 * page);
        let (path, map) = case.mapped(6 * page);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: as above.
            unsafe {
                map.with_slice(.., |bytes| {
                    set_len(&path, 10);
                    assert_eq!(sum(bytes), 1, "never");
                })
            }
        }));
        std::panic::set_hook(hook);
        assert!(panicked.is_err());
        restore(&path, &map, &whole);
    });
}

#[test]
fn others_that_read_the_map_meanwhile_never_get_the_zeros() {
    each(|case| {
        let page = faultin::page_size();
        let len = 40 * page;
        let whole = content(len);
        let (path, map) = case.mapped(len);
        // SAFETY: as above.
        let damaged = unsafe {
            map.with_slice(.., |bytes| {
                set_len(&path, page);
                sum(bytes);
                // Whole again, and yet there are zeros in the mapping.
                std::fs::write(&path, &whole).unwrap();
                map.refresh().unwrap();
                let mut all = vec![0; len];
                map.read_exact_at(&mut all, 0).unwrap();
                assert!(all == whole);
                assert_eq!(map.load::<u8>(len as u64 - 1).unwrap(), whole[len - 1]);
                assert_eq!(map.find_any([0], ..).unwrap(), None);
                assert_eq!(map.rfind(&whole[len - 9..], ..).unwrap(), Some(len as u64 - 9));
                let mut total = 0;
                map.chunks(..).for_each(|chunk| total += sum(chunk)).unwrap();
                assert_eq!(total, sum(&whole));
            })
        };
        assert!(damaged.is_err(), "what it read itself was damaged");
        restore(&path, &map, &whole);
    });
}

#[test]
fn what_is_written_meanwhile_reaches_the_file() {
    each(|case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(10 * page);
        drop(map);
        let map = case.options().open_mut(&path).unwrap();
        // SAFETY: as above.
        let damaged = unsafe {
            map.as_map().with_slice(.., |bytes| {
                set_len(&path, page);
                sum(bytes);
                set_len(&path, 10 * page);
                map.as_map().refresh().unwrap();
                map.write_at(b"written", 5 * page as u64 - 3).unwrap();
                map.store(9 * page as u64, 7_u32).unwrap();
            })
        };
        // A copy was whole, and the size is what it was.
        assert_eq!(damaged.is_err(), case.faults());
        let now = std::fs::read(&path).unwrap();
        assert_eq!(&now[5 * page - 3..5 * page + 4], b"written");
        assert_eq!(now[9 * page..9 * page + 4], 7_u32.to_ne_bytes());
        let mut copy = [0; 7];
        map.as_map().refresh().unwrap();
        map.as_map().read_exact_at(&mut copy, 5 * page as u64 - 3).unwrap();
        assert_eq!(&copy, b"written");
    });
}

#[test]
fn damage_found_by_another_thread_is_told_to_all() {
    each(|case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(30 * page);
        // SAFETY: as above.
        let damaged = unsafe {
            map.with_slice(.., |bytes| {
                set_len(&path, 3 * page);
                std::thread::scope(|scope| scope.spawn(|| sum(&bytes[5 * page..])).join().unwrap())
            })
        }
        .unwrap_err();
        if case.faults() {
            assert_eq!(damaged.value(), Some(&0));
            assert_eq!(damaged.first_bad(), Some(3 * page as u64));
        }
    });
}

#[test]
fn many_threads_scan_while_the_file_is_cut_and_restored() {
    each(|case| {
        let page = faultin::page_size();
        let len = 64 * page;
        let whole = content(len);
        let (path, map) = case.mapped(len);
        let total = sum(&whole);
        let (stop, start) = (AtomicBool::new(false), Barrier::new(5));
        let (good, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for i in 0..4 {
                let (map, path, stop, start, good, bad) = (&map, &path, &stop, &start, &good, &bad);
                scope.spawn(move || {
                    start.wait();
                    while !stop.load(Ordering::Relaxed) {
                        // Sometimes a map of its own, which is dropped while others fault.
                        let own = (i == 3).then(|| case.options().open(path).unwrap());
                        let map = own.as_ref().unwrap_or(map);
                        if map.mapped_len() < len as u64 {
                            std::thread::yield_now();
                            continue;
                        }
                        match sum_of(map, 0..u64::MAX) {
                            Ok(sum) => {
                                assert_eq!(sum, total, "Ok, but not the file's");
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(damaged) => {
                                assert!(damaged.error().change().is_some(), "{damaged}");
                                bad.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            start.wait();
            for round in 0..60 {
                set_len(&path, (round * 7 % 64) * page);
                std::thread::yield_now();
                std::fs::write(&path, &whole).unwrap();
                // Nobody can tell that it is the old one again; only after a refresh it is.
                map.refresh().unwrap();
                let enough = good.load(Ordering::Relaxed);
                for _ in 0..1000 {
                    if good.load(Ordering::Relaxed) > enough {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!("{good:?} whole, {bad:?} damaged");
        assert!(good.into_inner() > 0);
        restore(&path, &map, &whole);
    });
}

#[test]
fn a_map_that_grows_meanwhile_keeps_what_is_read() {
    each(|case: &Case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(4 * page);
        // SAFETY: as above.
        let result = unsafe {
            map.with_slice(.., |bytes| {
                let before = sum(bytes);
                set_len(&path, 1000 * page);
                map.refresh().unwrap();
                assert_eq!(map.mapped_len(), 1000 * page as u64);
                assert_eq!(sum_of(&map, 500 * page as u64..u64::MAX).unwrap(), 0);
                (before, sum(bytes))
            })
        };
        // It was another file when it began.
        let &(before, after) = result.expect_err("grown").value().unwrap();
        assert_eq!((before, after), (sum(&content(4 * page)), sum(&content(4 * page))));
    });
}

#[test]
fn a_child_of_a_scanning_process_can_scan() {
    each(|case| {
        let page = faultin::page_size();
        let (path, map) = case.mapped(4 * page);
        // SAFETY: the closure is right for any bytes.
        let _ = unsafe {
            map.with_slice(.., |bytes| {
                set_len(&path, page);
                // SAFETY: the child does arithmetic, system calls of ours, and ends.
                match libc::fork() {
                    0 => {
                        let sum = sum(bytes);
                        let whole = !case.faults() || sum == self::sum(&content(page));
                        libc::_exit(i32::from(!whole));
                    }
                    child => {
                        let mut status = 0;
                        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                        assert_eq!(status, 0, "the child's sum");
                    }
                }
            })
        };
    });
}
