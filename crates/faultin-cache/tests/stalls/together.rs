//! `CachedFile::read_at` of bytes that are in several folios, or beside cached ones: the store gets what is missing at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use faultin_cache::CachedFile;
use faultin_test::Random;

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

/// Returns the number of calls of the store so far.
fn calls(store: &Gate) -> usize {
    store.state.reads.load(SeqCst) + store.state.batches.load(SeqCst)
}

/// Reads a range, and checks each byte.
fn assert_whole(file: &CachedFile, all: &[u8], pos: u64, len: usize) {
    let mut bytes = vec![0xe7; len];
    let from = all.len().min(pos as usize);
    let ought = &all[from..all.len().min(from + len)];
    assert_eq!(file.read_at(&mut bytes, pos).ok(), Some(ought.len()), "{len} at {pos}");
    assert!(&bytes[..ought.len()] == ought, "{len} at {pos}: other bytes");
    assert!(bytes[ought.len()..].iter().all(|&byte| byte == 0xe7), "{len} at {pos}: changed after the end");
}

#[test]
fn a_read_of_missing_bytes_calls_the_store_once_wherever_it_begins() {
    let all = pattern(1200 * BLOCK + 9);
    let ranges = [
        (0, 1),
        (block(1), 16 * BLOCK),
        (block(3) + 100, 16 * BLOCK),
        (block(13), 2 * BLOCK),
        (block(15) + 4095, 2),
        (block(511) + 7, 5 * BLOCK), // over the end of the longest folio
        (block(509), 600 * BLOCK),
        (block(1193) + 1, 50 * BLOCK), // past the end of the file
    ];
    for (pos, len) in ranges {
        let store = Gate::new(&all);
        let file = open(&cache(8192), Arc::clone(&store));
        assert_whole(&file, &all, pos, len);
        assert_eq!(calls(&store), 1, "{len} at {pos}");
        let end = all.len().min(pos as usize + len).next_multiple_of(BLOCK);
        let blocks = end - pos as usize / BLOCK * BLOCK;
        assert_eq!(file.store_stats().read, blocks.min(all.len() - pos as usize / BLOCK * BLOCK) as u64);
    }
}

#[test]
fn what_is_missing_around_cached_blocks_is_one_call_and_they_are_not_read_again() {
    let all = pattern(256 * BLOCK);
    for cached in [&[18][..], &[8, 9, 10, 23], &[9, 11, 13, 15, 17, 19, 21, 23]] {
        let store = Gate::new(&all);
        let file = open(&cache(1024), Arc::clone(&store));
        for &number in cached {
            assert_whole(&file, &all, block(number) + 3, 1);
        }
        let before = calls(&store);
        assert_whole(&file, &all, block(7) + 5, 17 * BLOCK);
        assert_eq!(calls(&store) - before, 1, "{cached:?}");
        assert_eq!(file.store_stats().read, block(18), "{cached:?}: each block once");
    }
}

#[test]
fn a_scan_that_begins_anywhere_reads_each_block_once_by_few_calls() {
    let all = pattern(3000 * BLOCK);
    for start in [0, BLOCK, 5 * BLOCK + 77] {
        let store = Gate::new(&all);
        let file = cache(8192).open(Arc::clone(&store)).unwrap();
        let len = 16 * BLOCK;
        for pos in (start..all.len()).step_by(len) {
            assert_whole(&file, &all, pos as u64, len);
        }
        assert_eq!(file.store_stats().read, (all.len() - start / BLOCK * BLOCK) as u64, "from {start}");
        // 512 blocks at most are read ahead at once.
        assert!(calls(&store) <= 20, "{} calls from {start}", calls(&store));
    }
}

#[test]
fn a_read_that_is_longer_than_what_may_stay_is_split() {
    let all = pattern(1024 * BLOCK + 9);
    let random = Random::new(20);
    for blocks in [2, 4, 16, 64, 300] {
        let small = cache(blocks);
        let store = Gate::new(&all);
        let file = open(&small, Arc::clone(&store));
        for _ in 0..60 {
            let (pos, len) = (random.below(all.len() as u64), random.below(90 * BLOCK as u64) as usize);
            let before = file.store_stats().read;
            assert_whole(&file, &all, pos, len);
            assert!(small.used() <= (blocks + 2) * BLOCK, "{} of {blocks} blocks", small.used() / BLOCK);
            let read = file.store_stats().read - before;
            assert!(read <= (len + 2 * BLOCK) as u64, "{read} bytes of the store for {len} in {blocks} blocks");
        }
    }
}

#[test]
fn a_store_that_fails_beside_other_bytes_ends_the_read_there_and_is_not_asked_twice() {
    let all = pattern(256 * BLOCK);
    // Within the first folio, at the start of another one, and within it.
    for bad in [42, 48, 70] {
        let store = Gate::new(&all);
        let file = open(&cache(1024), Arc::clone(&store));
        store.state.bad.store(bad * BLOCK, SeqCst);
        let mut bytes = vec![0; 60 * BLOCK];
        let partial = file.read_at(&mut bytes, block(40) + 5).unwrap_err();
        assert_eq!((partial.done, partial.error.errno()), ((bad - 40) * BLOCK - 5, Some(libc::EIO)), "{partial}");
        assert!(bytes[..partial.done] == all[40 * BLOCK + 5..bad * BLOCK]);
        assert_eq!(store.state.batches.load(SeqCst), 1, "bad from {bad}");
        assert_eq!((file.stats().reads, file.stats().errors), (1, 1));
        // It recovers, and the rest of a folio that has some of its blocks comes with the others.
        store.state.bad.store(0, SeqCst);
        let before = calls(&store);
        assert_whole(&file, &all, block(40) + 5, 60 * BLOCK);
        assert_eq!(calls(&store) - before, 1, "bad from {bad}");
        assert_eq!(file.store_stats().read, block(61), "each block once");
    }
}

/// An error of bytes that are read ahead, or past what the read wants, is no error of the read.
#[test]
fn a_failure_of_bytes_that_are_not_wanted_has_no_effect() {
    let all = pattern(256 * BLOCK);
    let store = Gate::new(&all);
    let file = cache(1024).open(Arc::clone(&store)).unwrap();
    store.state.bad.store(64 * BLOCK, SeqCst);
    for number in 30..64 {
        assert_whole(&file, &all, block(number) + 1, BLOCK - 1);
    }
    assert_eq!(file.stats().errors, 0);
    assert!(file.read_at(&mut [0], block(64)).is_err());
}
