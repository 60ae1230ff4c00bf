//! Many threads that scan while the file is truncated, extended and rewritten.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use faultin::{
    FileMap,
    map::{Repair, Watch},
};

use crate::fixture::{content, each, pattern, set_len};
use crate::missing;
use crate::scan::{add, bytes, peek, served, sum};

fn rounds(many: u64) -> u64 {
    if cfg!(target_arch = "x86_64") { many } else { many / 10 }
}

/// Ends the other threads when the changing thread ends or panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn many_threads_scan_while_the_file_is_cut_and_written_again() {
    let page = faultin::page_size();
    let len = 64 * page + 9;
    let whole = content(len);
    let right = add(&whole);
    each(|case| {
        let (path, map) = case.mapped(len);
        let (stop, good, bad) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (before, cuts) = (served(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for thread in 0..6u64 {
                let (map, stop, good, bad) = (&map, &stop, &good, &bad);
                scope.spawn(move || {
                    let from = thread % 3 * page as u64;
                    while !stop.load(Ordering::Relaxed) {
                        match sum(map, from..) {
                            Ok(sum) => {
                                assert_eq!(sum, right - add(&content(from as usize)), "reported as whole");
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(damaged) => {
                                assert!(damaged.error.change().is_some(), "{damaged:?}");
                                assert!(damaged.value.is_some());
                                bad.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            for round in 0..rounds(150) {
                let so_far = bad.load(Ordering::Relaxed);
                set_len(&path, (round as usize * 7919) % len);
                cuts.fetch_add(1, Ordering::Relaxed);
                while bad.load(Ordering::Relaxed) < so_far + 6 {
                    std::thread::yield_now();
                }
                std::fs::write(&path, &whole).expect("write it again");
                map.refresh().expect("it can be asked");
                let so_far = good.load(Ordering::Relaxed);
                while good.load(Ordering::Relaxed) < so_far + 3 {
                    // (Scans that began before the change are told of it.)
                    std::thread::yield_now();
                }
            }
        });
        let (good, bad, signals) = (good.into_inner(), bad.into_inner(), served() - before);
        println!("{good} good, {bad} damaged, {signals} signals");
        assert!(good > 0 && bad > 0);
        // Every scan of a truncated file, and one that `fs::write` truncates a second time.
        assert!(signals <= 2 * bad + 6, "{signals} signals for {bad} scans");
        assert_eq!(map.repair().expect("nothing to do"), Repair::Whole);
        assert!(bytes(&map, ..).expect("nothing happened since") == whole);
    });
}

/// Faults in several threads of one scan: damage belongs to the scan, whichever thread finds it.
#[test]
fn threads_of_one_scan_find_damage_for_it() {
    let page = faultin::page_size();
    let len = 64 * page;
    each(|case| {
        if !case.faults() {
            return;
        }
        for _ in 0..rounds(100) {
            let (path, map) = case.mapped(len);
            let before = served();
            let ready = AtomicUsize::new(0);
            let scan = |all: &[u8]| {
                std::thread::scope(|scope| {
                    for thread in 0..4 {
                        let ready = &ready;
                        scope.spawn(move || {
                            ready.fetch_add(1, Ordering::SeqCst);
                            while ready.load(Ordering::SeqCst) < 5 {
                                std::hint::spin_loop();
                            }
                            assert_eq!(peek(all, (20 + thread) * page), 0);
                        });
                    }
                    set_len(&path, 10 * page);
                    while ready.load(Ordering::SeqCst) < 4 {
                        std::thread::yield_now();
                    }
                    ready.fetch_add(1, Ordering::SeqCst);
                });
            };
            // SAFETY: relies on no byte, stores nothing, keeps nothing.
            let damaged = unsafe { map.with_slice(.., scan) }.expect_err("it was cut");
            assert_eq!(damaged.first_bad, Some(10 * page as u64));
            // Simultaneous faults are a signal each.
            assert!((1..=4).contains(&(served() - before)));
        }
    });
}

#[test]
fn maps_come_and_go_beside_those_that_fault() {
    let page = faultin::page_size();
    let len = 32 * page;
    each(|case| {
        let stop = AtomicBool::new(false);
        let faults = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for thread in 0..3 {
                let (stop, faults, path) = (&stop, &faults, case.file(&format!("cut-{thread}"), len));
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::fs::write(&path, content(len)).expect("write it again");
                        let map = case.options().open(&path).expect("map it");
                        set_len(&path, 3 * page);
                        sum(&map, ..).expect_err("it was cut");
                        faults.fetch_add(1, Ordering::Relaxed);
                        // The next map has this map's addresses, in any thread.
                    }
                });
            }
            let path = case.file("whole", len);
            let whole = content(len);
            let mut round = 0;
            while faults.load(Ordering::Relaxed) < rounds(600) {
                let map = case.options().open(&path).expect("map it");
                assert!(bytes(&map, ..).expect("nobody touches it") == whole, "round {round}");
                // Another mapping at a former map's address: it is not replaced by zeros.
                drop(map);
                let mut memory = vec![1u8; 64 * page];
                memory.fill(pattern(round));
                assert!(memory.iter().all(|&byte| byte == pattern(round)));
                round += 1;
            }
        });
    });
}

/// A scan finds damage and ends, repeatedly, while others copy intact pages that are replaced with the damaged block. This
/// tests the moments between: zeros that appear during a copy, and the file's pages that are restored during one.
#[test]
fn zeros_that_come_and_go_within_a_copy_are_not_handed_on() {
    let (page, pages) = (faultin::page_size(), 64);
    let whole = content(page);
    missing::with_failing_pages(|map, path| {
        // Pages 3, 11, 19 ... are holes; the others have the file's bytes throughout.
        missing::sparse(path, pages, (0..pages).filter(|at| at % 8 != 3));
        let map = map();
        let (stop, good) = (AtomicBool::new(false), AtomicU64::new(0));
        let before = served();
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for thread in 0..2 {
                let (map, stop, good, whole) = (&map, &stop, &good, &whole);
                scope.spawn(move || {
                    let mut bytes = vec![0; page];
                    for round in thread.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let at = round * 5 % 8 + 8 * (round % 8);
                        if at % 8 != 3 {
                            map.read_exact_at(&mut bytes, (at * page) as u64).expect("it is there");
                            assert!(bytes == *whole, "zeros of page {at}, and no word of it");
                            let value = map.load::<u64>((at * page) as u64).expect("it is there");
                            assert_eq!(value.to_ne_bytes(), whole[..8], "page {at}");
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for _ in 0..rounds(400) {
                let scan = |all: &[u8]| {
                    let uffd = missing::fail(all);
                    for at in 0..pages {
                        peek(all, at * page);
                    }
                    uffd
                };
                // SAFETY: relies on no byte, stores nothing, keeps nothing.
                let damaged = unsafe { map.with_slice(.., scan) }.expect_err("pages failed");
                assert_eq!(damaged.first_bad, Some(3 * page as u64));
            }
        });
        println!("{} copies beside {} signals", good.load(Ordering::Relaxed), served() - before);
        assert!(good.into_inner() > 0);
    });
}

/// A thread that blocks SIGBUS would die of it, so it gets a copy.
#[test]
fn a_thread_that_blocks_the_signal_scans_a_copy() {
    let page = faultin::page_size();
    let len = 8 * page;
    each(|case| {
        let (path, map) = case.mapped(len);
        let in_a_thread = |test: &(dyn Fn(&FileMap) + Sync)| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // SAFETY: this thread's mask, and this thread ends.
                    unsafe {
                        let mut all = std::mem::zeroed();
                        libc::sigfillset(&mut all);
                        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
                    }
                    test(&map);
                });
            });
        };
        let before = served();
        in_a_thread(&|map| assert!(bytes(map, 3..).expect("nothing happened") == content(len)[3..]));
        set_len(&path, 3 * page + 1);
        in_a_thread(&|map| {
            let damaged = bytes(map, ..).expect_err("it was cut");
            assert_eq!(damaged.first_bad, Some(3 * page as u64 + 1));
            assert_eq!(damaged.ranges, [3 * page as u64 + 1..len as u64]);
            let mut expected = content(len);
            expected[3 * page + 1..].fill(0);
            assert_eq!(damaged.value, Some(expected));
        });
        assert_eq!(served(), before);
    });
}

/// Many simultaneous scans need many nodes, which are reused.
#[test]
fn a_thousand_scans_at_once_and_one_after_the_other() {
    let len = 4 * faultin::page_size();
    each(|case| {
        let path = case.file("file", len);
        let map = case.options().watch(Watch::Nothing).open(&path).expect("map it");
        fn deeper(map: &FileMap, left: u64) -> u64 {
            if left == 0 {
                return 0;
            }
            // SAFETY: relies on no byte, stores nothing, keeps nothing.
            unsafe { map.with_slice(left..left + 1, |byte| add(byte) + deeper(map, left - 1)) }
                .expect("nothing happened")
        }
        let expected = add(&content(1001)[1..]);
        assert_eq!(deeper(&map, rounds(1000)), add(&content(rounds(1000) as usize + 1)[1..]));
        for _ in 0..10 * rounds(1000) {
            assert_eq!(sum(&map, 1..1001).expect("nothing happened"), expected);
        }
        set_len(&path, 0);
        sum(&map, ..).expect_err("it was cut");
    });
}
