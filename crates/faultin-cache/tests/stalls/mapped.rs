//! Files that are mapped, whose folios are in memory that the mappings share: `read_many`, `prefetch`, and stores that are slow.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use faultin::map::Rights;
use faultin::page_size;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::ReadRequest;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, FileOptions};
use faultin_test::Random;

use super::gate::Gate;
use super::{open, pattern};

/// Returns the position of a block, which is a page.
fn at(number: usize) -> u64 {
    (number * page_size()) as u64
}

/// Calls `check` with a mapped file of `blocks` blocks in a cache of `limit` blocks, in each mode.
fn each(blocks: usize, limit: usize, check: impl Fn(&Cache, &CachedFile, &Mapping, &Arc<Gate>, Vec<u8>)) {
    for mode in Mode::ALL {
        super::common::watchdog::start();
        let all = pattern(blocks * page_size());
        let store = Gate::new(&all);
        let cache = CacheOptions::new().block(page_size()).limit(limit * page_size()).build();
        let file = open(&cache, Arc::clone(&store));
        match file.map(0..all.len() as u64, Rights::ReadWrite, mode) {
            Ok(mapping) => check(&cache, &file, &mapping, &store, all),
            Err(error @ AttachError::Mode { .. }) => faultin_test::skipped("user-mode", error),
            Err(error) => panic!("{error}"),
        }
    }
}

fn read_many(file: &CachedFile, ranges: &[(u64, usize)]) -> Vec<Vec<u8>> {
    let mut buffers: Vec<_> = ranges.iter().map(|&(_, len)| vec![0xe7; len]).collect();
    let mut reads: Vec<_> =
        ranges.iter().zip(&mut buffers).map(|(&(pos, _), bytes)| ReadRequest::new(pos, bytes)).collect();
    for (result, &(_, len)) in file.read_many(&mut reads).into_iter().zip(ranges) {
        assert_eq!(result.unwrap(), len);
    }
    buffers
}

fn until_resident(file: &CachedFile, range: Range<u64>) {
    while !file.resident(range.clone()).is_ok_and(|found| found.is_whole()) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Loads bytes through the mapping.
fn load(mapping: &Mapping, pos: u64, len: usize) -> Vec<u8> {
    let (view, mut bytes) = (mapping.read_view().unwrap(), vec![0; len]);
    let mut done = 0;
    while let Some(rest) = NonZeroUsize::new(len - done) {
        view.fault_in(pos as usize + done, rest).unwrap();
        done += view.read(&mut bytes[done..], pos as usize + done).map_or_else(|short| short.done, |()| rest.get());
    }
    bytes
}

/// Stores bytes through the mapping, within a page.
fn store_to(mapping: &Mapping, pos: u64, bytes: &[u8]) {
    let view = mapping.write_view().unwrap();
    view.fault_in(pos as usize, NonZeroUsize::new(bytes.len()).unwrap()).unwrap();
    view.write(bytes, pos as usize).unwrap();
}

#[test]
fn the_store_gets_all_ranges_at_once() {
    each(64, 256, |_, file, mapping, store, mut all| {
        let page = page_size();
        // A page that is there, and dirty: it is not read again.
        store_to(mapping, at(20), &[9; 100]);
        all[20 * page..][..100].fill(9);
        let calls = || (store.state.batches.load(SeqCst), store.state.reads.load(SeqCst));
        let (_, before) = calls();
        let ranges = [(at(20) + 50, 3 * page), (5, 100), (at(7) - 3, 6), (at(40), page)];
        for _ in 0..2 {
            for (&(pos, len), bytes) in ranges.iter().zip(read_many(file, &ranges)) {
                assert!(bytes == all[pos as usize..][..len], "{len} at {pos}");
            }
            assert_eq!(calls(), (1, before), "one call for all");
        }
        // The mappings show the same memory.
        for (pos, len) in ranges {
            assert!(load(mapping, pos, len) == all[pos as usize..][..len], "{len} at {pos}");
        }
        assert_eq!(calls(), (1, before), "no page was read again");
        store_to(mapping, at(40) + 7, b"stored");
        assert_eq!(read_many(file, &[(at(40) + 7, 6)]), [b"stored"]);
    });
}

#[test]
fn prefetched_pages_are_there_without_a_read() {
    each(64, 256, |_, file, mapping, store, all| {
        assert_eq!(file.prefetch(&[at(3)..at(5), at(30)..at(34)]), at(6));
        until_resident(file, at(3)..at(5));
        until_resident(file, at(30)..at(34));
        let calls = (store.state.batches.load(SeqCst), store.state.reads.load(SeqCst));
        assert!(calls.0 >= 1 && calls.1 == 0, "{calls:?}");
        for (pos, len) in [(at(3), 2 * page_size()), (at(30), 4 * page_size())] {
            assert!(load(mapping, pos, len) == all[pos as usize..][..len]);
        }
        assert_eq!((store.state.batches.load(SeqCst), store.state.reads.load(SeqCst)), calls);
    });
}

#[test]
fn what_was_written_or_truncated_while_the_store_was_read_stays() {
    each(64, 256, |cache, file, mapping, store, mut all| {
        let page = page_size();
        // Blocks with nothing before them, so that this reads nothing. Dirty afterwards; one is written back and evicted.
        for round in 0..3 {
            store.close();
            let first = 8 * round;
            assert_eq!(file.prefetch(&[at(first)..at(first + 8)]), at(8));
            store.until_waiting(1);
            let bytes = vec![0x50 + round as u8; page];
            if round < 2 {
                assert_eq!(file.write_at(&bytes, at(first + 3)).unwrap(), page);
                all[(first + 3) * page..][..page].copy_from_slice(&bytes);
            } else {
                file.set_len(at(first + 4)).unwrap();
                all.truncate((first + 4) * page);
            }
            store.open();
            if round == 1 {
                file.write_back(0..u64::MAX).unwrap();
                cache.drop_clean();
            }
            let rest = all.len() - first * page;
            let len = rest.min(8 * page);
            assert_eq!(read_many(file, &[(at(first), len)]), [&all[first * page..][..len]], "round {round}");
            assert!(load(mapping, at(first), len) == all[first * page..][..len], "round {round}");
        }
        file.set_len(at(64)).unwrap();
        all.resize(64 * page, 0);
        assert!(read_many(file, &[(0, 64 * page)]) == [all.clone()]);
        assert!(load(mapping, 0, 64 * page) == all);
    });
}

#[test]
fn a_read_gets_all_of_its_missing_blocks_at_once_also_around_pages_that_are_mapped() {
    each(64, 1024, |_, file, mapping, store, all| {
        let calls = || store.state.reads.load(SeqCst) + store.state.batches.load(SeqCst);
        assert_eq!(load(mapping, at(10), 1), all[10 * page_size()..][..1]);
        store_to(mapping, at(20) + 5, &[1]);
        let before = calls();
        let (start, len) = (at(7) + 9, 20 * page_size());
        let mut bytes = vec![0; len];
        assert_eq!(file.read_at(&mut bytes, start).unwrap(), len);
        let mut ought = all;
        ought[20 * page_size() + 5] = 1;
        assert!(bytes == ought[start as usize..start as usize + len]);
        assert_eq!(calls() - before, 1);
        assert_eq!(file.store_stats().read, at(21), "each block once");
        assert!(load(mapping, start, len) == bytes, "the mapping shows the same");
        assert_eq!(calls() - before, 1);
    });
}

#[test]
fn a_store_that_fails_leaves_nothing() {
    each(64, 256, |_, file, mapping, store, all| {
        store.state.bad.store(10 * page_size(), SeqCst);
        let mut bytes = vec![0; 4 * page_size()];
        let results = file.read_many(&mut [ReadRequest::new(at(8), &mut bytes)]);
        let partial = results[0].as_ref().unwrap_err();
        assert_eq!((partial.done, partial.error.errno()), (2 * page_size(), Some(libc::EIO)));
        assert!(bytes[..partial.done] == all[8 * page_size()..10 * page_size()]);
        store.state.bad.store(0, SeqCst);
        assert!(load(mapping, at(8), 4 * page_size()) == all[8 * page_size()..12 * page_size()]);
    });
}

/// What writes, and the bytes that it changes.
type Change = (fn(&CachedFile), fn() -> Range<usize>);

/// A way to need a page, whose bytes it returns.
type Need = fn(&CachedFile, &Mapping, usize) -> Vec<u8>;

/// With a read, by `fault_in`, and with an instruction.
const NEEDS: [Need; 3] = [
    |file, _, number| {
        let mut bytes = vec![0; page_size()];
        assert_eq!(file.read_at(&mut bytes, at(number)).unwrap(), page_size());
        bytes
    },
    |_, mapping, number| load(mapping, at(number), page_size()),
    |_, mapping, number| {
        let start = mapping.as_ptr().wrapping_add(number * page_size());
        // SAFETY: within the mapping, which is of this file; the store does not fail.
        (0..page_size()).map(|at| unsafe { start.add(at).read_volatile() }).collect()
    },
];

#[test]
fn a_slow_store_delays_only_threads_that_need_its_bytes() {
    for need in NEEDS {
        each(64, 256, |_, file, mapping, store, all| {
            let page = |number: usize| &all[number * page_size()..][..page_size()];
            let read = |number: usize| read_many(file, &[(at(number), page_size())]).remove(0);
            assert!(NEEDS[0](file, mapping, 10) == page(10));
            store.close_at(at(20)..at(21));
            thread::scope(|scope| {
                let slow = scope.spawn(move || need(file, mapping, 20));
                store.until_waiting(1);
                // A page that is there, and pages that are not.
                assert!(NEEDS[0](file, mapping, 10) == page(10) && load(mapping, at(10), page_size()) == page(10));
                assert!(NEEDS[0](file, mapping, 30) == page(30) && load(mapping, at(31), page_size()) == page(31));
                assert!(read(32) == page(32));
                assert_eq!(file.write_at(&[7; 100], at(33)).unwrap(), 100);
                // With instructions: a page that is there and not mapped yet, and one that is not there.
                assert!(NEEDS[2](file, mapping, 32) == page(32) && NEEDS[2](file, mapping, 35) == page(35));
                store_to(mapping, at(34), b"stored");
                assert_eq!(store.state.waiting.load(SeqCst), 1);
                store.open();
                assert!(slow.join().unwrap() == page(20));
            });
            assert!(NEEDS[0](file, mapping, 33)[..100] == [7; 100] && read(34)[..6] == *b"stored");
        });
    }
}

/// More threads than the file has for its store: those that need no store do not wait, the others get their pages when it
/// works again, several of them the same page.
#[test]
fn many_instructions_that_wait_for_the_store_delay_none_that_does_not_need_it() {
    each(64, 256, |_, file, mapping, store, all| {
        let page = |number: usize| &all[number * page_size()..][..page_size()];
        assert!(NEEDS[0](file, mapping, 10) == page(10) && NEEDS[0](file, mapping, 11) == page(11));
        store.close_at(at(20)..at(40));
        thread::scope(|scope| {
            let need = |number: usize| move || NEEDS[2](file, mapping, number);
            let slow: Vec<_> = (0..24).map(|thread| (20 + thread % 16, scope.spawn(need(20 + thread % 16)))).collect();
            store.until_waiting(8);
            assert!(NEEDS[2](file, mapping, 10) == page(10));
            store_to(mapping, at(11), b"stored");
            assert!(NEEDS[2](file, mapping, 11)[..6] == *b"stored");
            store.open();
            for (number, slow) in slow {
                assert!(slow.join().unwrap() == page(number), "page {number}");
            }
        });
        let counts = mapping.fault_counts();
        assert_eq!((counts.rejected, file.dirty()), (0, at(1)), "{counts:?}");
        // Its threads have ended by now, or wait: more pages are no problem.
        thread::sleep(Duration::from_millis(150));
        assert!((40..60).all(|number| NEEDS[2](file, mapping, number) == page(number)));
    });
}

#[test]
fn a_slow_reservation_delays_only_the_store_that_needs_it() {
    for mode in Mode::ALL {
        super::common::watchdog::start();
        let all = pattern(64 * page_size());
        let store = Gate::new(&all);
        let cache = CacheOptions::new().block(page_size()).limit(256 * page_size()).build();
        let options = FileOptions::new().write_loop(WriteLoop::DEFAULT.reserve(true));
        let file = cache.open_with(Arc::clone(&store), options).expect("open it");
        file.advise(Advice::Random);
        let mapping = match file.map(0..all.len() as u64, Rights::ReadWrite, mode) {
            Ok(mapping) => mapping,
            Err(error @ AttachError::Mode { .. }) => {
                faultin_test::skipped("user-mode", error);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for number in [10, 20] {
            assert!(NEEDS[0](&file, &mapping, number) == all[number * page_size()..][..page_size()]);
        }
        store.state.is_full.store(true, SeqCst);
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                // SAFETY: within the mapping, which is of this file.
                unsafe { mapping.as_ptr().add(20 * page_size()).write_volatile(9) };
            });
            store.until_waiting(1);
            assert!(NEEDS[2](&file, &mapping, 10) == all[10 * page_size()..][..page_size()]);
            assert!(NEEDS[2](&file, &mapping, 30) == all[30 * page_size()..][..page_size()]);
            store.state.is_full.store(false, SeqCst);
            store.open();
            slow.join().unwrap();
        });
        assert_eq!((file.dirty(), store.reserved()), (at(1), at(1)), "{mode:?}");
        assert_eq!(NEEDS[0](&file, &mapping, 20)[0], 9);
    }
}

/// A system call waits for a page that the store does not deliver, while mapping, file and cache are dropped.
#[test]
fn nothing_waits_for_a_pager_thread_that_is_in_the_store() {
    super::common::watchdog::start();
    let all = pattern(64 * page_size());
    let store = Gate::new(&all);
    let cache = CacheOptions::new().block(page_size()).limit(256 * page_size()).build();
    let file = open(&cache, Arc::clone(&store));
    let mapping = match file.map(0..all.len() as u64, Rights::Read, Mode::Thread) {
        Ok(mapping) => mapping,
        Err(error @ AttachError::Mode { .. }) => return faultin_test::skipped("user-mode", error),
        Err(error) => panic!("{error}"),
    };
    store.close_at(at(20)..at(21));
    let (_reads, writes) = std::io::pipe().expect("a pipe");
    let address = mapping.as_ptr().expose_provenance() + at(20) as usize;
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            // SAFETY: the kernel checks the address, which may be unmapped by the time it is read.
            unsafe { libc::write(writes.as_raw_fd(), std::ptr::with_exposed_provenance(address), 1) }
        });
        store.until_waiting(1);
        drop((mapping, file, cache));
        store.open();
        // The page was there, or is unmapped by now.
        assert!(matches!(slow.join().unwrap(), 1 | -1));
    });
    // The threads end, and then nothing has the store.
    while Arc::strong_count(&store) > 1 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The blocks at the ends of what is written or made a hole come from the store, which is read without the lock.
#[test]
fn a_slow_store_delays_only_the_write_that_needs_its_bytes() {
    let operations: [Change; 4] = [
        (
            |file| assert_eq!(file.write_at(&[0; 10], at(20) + 7).unwrap(), 10),
            || at(20) as usize + 7..at(20) as usize + 17,
        ),
        (|file| assert_eq!(file.write_at(&[0; 10], at(20)).unwrap(), 10), || at(20) as usize..at(20) as usize + 10),
        (
            |file| {
                let bytes = vec![0; 6 * page_size() + 3];
                assert_eq!(file.write_at(&bytes, at(14)).unwrap(), bytes.len());
            },
            || at(14) as usize..at(20) as usize + 3,
        ),
        (|file| file.punch_hole(at(20) + 5..at(23)).unwrap(), || at(20) as usize + 5..at(23) as usize),
    ];
    for (operation, changed) in operations {
        each(64, 256, |_, file, mapping, store, mut all| {
            let page = |number: usize| all[number * page_size()..][..page_size()].to_vec();
            assert!(NEEDS[0](file, mapping, 10) == page(10));
            store.close_at(at(20)..at(22));
            thread::scope(|scope| {
                let slow = scope.spawn(move || operation(file));
                store.until_waiting(1);
                assert!(NEEDS[0](file, mapping, 10) == page(10) && NEEDS[0](file, mapping, 30) == page(30));
                assert!(NEEDS[2](file, mapping, 10) == page(10) && NEEDS[2](file, mapping, 31) == page(31));
                store.open();
                slow.join().unwrap();
            });
            all[changed()].fill(0);
            assert!(load(mapping, 0, all.len()) == all);
        });
    }
}

/// A folio of which the store could read a part: the rest is read later, into a folio that other threads use.
#[test]
fn a_slow_store_delays_no_thread_that_needs_another_block_of_the_folio() {
    let check = |file: &CachedFile, store: &Arc<Gate>, mut all: Vec<u8>, need: &(dyn Fn(usize) -> Vec<u8> + Sync)| {
        let page = page_size();
        let mut bytes = vec![0; 8 * page];
        store.state.bad.store(18 * page, SeqCst);
        assert_eq!(file.read_at(&mut bytes, at(16)).unwrap_err().done, 2 * page);
        store.state.bad.store(0, SeqCst);
        let before = store.state.reads.load(SeqCst);
        for is_written in [false, true] {
            let number = if is_written { 20 } else { 18 };
            store.close_at(at(number)..at(number + 1));
            thread::scope(|scope| {
                let slow = scope.spawn(|| need(number));
                store.until_waiting(1);
                assert!(need(16) == all[16 * page..][..page]);
                assert_eq!(file.read_at(&mut bytes[..page], at(40)).unwrap(), page);
                if is_written {
                    assert_eq!(file.write_at(&bytes[..page], at(number)).unwrap(), page);
                    all.copy_within(40 * page..41 * page, number * page);
                }
                store.open();
                assert!(slow.join().unwrap() == all[number * page..][..page], "what was written is newer");
            });
        }
        assert_eq!(file.read_at(&mut bytes, at(16)).unwrap(), bytes.len());
        assert!(bytes == all[16 * page..][..bytes.len()]);
        assert!(store.state.reads.load(SeqCst) > before);
    };
    let read = |file: &CachedFile, number| {
        let mut bytes = vec![0; page_size()];
        assert_eq!(file.read_at(&mut bytes, at(number)).unwrap(), page_size());
        bytes
    };
    for need in &NEEDS[..2] {
        each(64, 256, |_, file, mapping, store, all| check(file, store, all, &|number| need(file, mapping, number)));
    }
    let all = pattern(64 * page_size());
    let store = Gate::new(&all);
    let file = open(&CacheOptions::new().block(page_size()).limit(256 * page_size()).build(), Arc::clone(&store));
    check(&file, &store, all, &|number| read(&file, number));
}

/// Threads read, prefetch and touch pages while one writes blocks, in caches that are too small.
#[test]
fn every_block_is_as_it_is_before_or_after_a_write() {
    const BLOCKS: usize = 48;
    for limit in [4, 32, 100] {
        each(BLOCKS, limit, |cache, file, mapping, _, _| {
            let len = BLOCKS * page_size();
            for number in 0..BLOCKS {
                file.write_at(&vec![0; page_size()], at(number)).unwrap();
            }
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                for thread in 0..3 {
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let random = Random::new(limit as u64 * 10 + thread);
                        let below = |end: usize| random.below(end as u64) as usize;
                        while !is_over.load(SeqCst) {
                            let start = below(BLOCKS);
                            match (thread, below(4)) {
                                (0, _) => {
                                    file.prefetch(&[at(start)..at(start + below(10))]);
                                    cache.drop_clean();
                                }
                                (1, _) => {
                                    let (view, len) = (mapping.write_view().unwrap(), NonZeroUsize::new(page_size()));
                                    view.fault_in(start * page_size(), len.unwrap()).unwrap();
                                }
                                _ => {
                                    let ranges: Vec<_> = (0..1 + below(6))
                                        .map(|_| below(BLOCKS))
                                        .map(|first| (at(first), page_size() * (1 + below(BLOCKS - first))))
                                        .collect();
                                    for bytes in read_many(file, &ranges) {
                                        for block in bytes.chunks(page_size()) {
                                            assert!(block.iter().all(|byte| *byte == block[0]), "two versions");
                                        }
                                    }
                                }
                            }
                        }
                    });
                }
                let random = Random::new(limit as u64);
                for _ in 0..400 {
                    let number = random.below(BLOCKS as u64) as usize;
                    let version = random.below(256) as u8;
                    assert_eq!(file.write_at(&vec![version; page_size()], at(number)).unwrap(), page_size());
                }
                is_over.store(true, SeqCst);
            });
            let [bytes] = &read_many(file, &[(0, len)])[..] else { panic!("one range") };
            assert!(load_all(mapping) == *bytes);
        });
    }
}

/// Loads the whole mapping, of which not all fits into the cache.
fn load_all(mapping: &Mapping) -> Vec<u8> {
    (0..mapping.len() / page_size()).flat_map(|number| load(mapping, at(number), page_size())).collect()
}
