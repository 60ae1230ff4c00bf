//! `read_many` and `prefetch` of a file that is mapped: its folios are in memory that the mappings share.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use faultin::map::Rights;
use faultin::page_size;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::ReadRequest;
use faultin_cache::{Cache, CacheOptions, CachedFile};
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
