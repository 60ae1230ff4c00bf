//! `CachedFile::prefetch`.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use faultin_cache::CachedFile;

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

/// Waits until so many bytes are resident.
fn until_resident(file: &CachedFile, bytes: u64) {
    while file.resident(0..u64::MAX).map_or(0, |found| found.bytes()) < bytes {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_returns_at_once_and_the_blocks_are_there_later() {
    let all = pattern(64 * BLOCK + 10);
    let store = Gate::new(&all);
    let file = open(&cache(1024), Arc::clone(&store));
    file.read_at(&mut [0; 10], block(2)).unwrap();
    store.close();
    let ranges = [block(1) + 5..block(4), block(40)..u64::MAX, block(100)..block(101), 7..7];
    // Block 2 is there; the others are read from their first byte that was asked for.
    assert_eq!(file.prefetch(&ranges), block(3) - 5 - block(1) + 24 * block(1) + 10);
    store.until_waiting(1);
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), [block(2)..block(3)]);
    store.open();
    until_resident(&file, 27 * block(1) + 10);
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), [block(1)..block(4), block(40)..block(64) + 10]);
    let reads = store.state.reads.load(SeqCst);
    let mut bytes = vec![0; all.len()];
    let count = file.try_read_at(&mut bytes[..25 * BLOCK], block(40)).unwrap();
    assert!(count == 24 * BLOCK + 10 && bytes[..count] == all[40 * BLOCK..]);
    assert_eq!((store.state.reads.load(SeqCst), file.stats().waits), (reads, 1));
    assert_eq!(file.prefetch(&ranges), 0, "nothing is missing");
}

#[test]
fn what_waits_is_bounded_and_dirty_blocks_stay() {
    let store = Gate::new(&pattern(1024 * BLOCK));
    let small = cache(64);
    let file = open(&small, Arc::clone(&store));
    for number in 1000..1004 {
        file.write_at(&[1; BLOCK], block(number)).unwrap();
    }
    store.close();
    let mut accepted = 0;
    for _ in 0..10 {
        accepted += file.prefetch(&[0..block(500)]);
    }
    assert_eq!(accepted, block(64 / 8));
    store.open();
    until_resident(&file, block(4) + accepted);
    assert_eq!(file.dirty(), block(4));
    assert!(small.used() <= 64 * BLOCK);
}

#[test]
fn prefetched_blocks_are_not_evicted_for_others_that_are_prefetched() {
    let store = Gate::new(&pattern(1024 * BLOCK));
    let small = cache(64);
    let file = open(&small, Arc::clone(&store));
    // Full of what was used once.
    for number in 900..964 {
        file.read_at(&mut [0], block(number)).unwrap();
    }
    for number in 0..3 {
        assert_eq!(file.prefetch(&[block(100 * number)..block(100 * number + 8)]), block(8));
        while !file.resident(block(100 * number)..block(100 * number + 8)).is_ok_and(|found| found.is_whole()) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    for number in 0..3 {
        assert!(file.resident(block(100 * number)..block(100 * number + 8)).unwrap().is_whole(), "{number}");
    }
}

#[test]
fn a_cache_can_be_dropped_while_it_prefetches() {
    let store = Gate::new(&pattern(1024 * BLOCK));
    let small = cache(1024);
    let file = open(&small, Arc::clone(&store));
    store.close();
    for number in 0..20 {
        file.prefetch(&[block(40 * number)..block(40 * number + 3)]);
    }
    store.until_waiting(1);
    drop((file, small));
    store.open();
    // Its threads end, and then nothing has the store.
    while Arc::strong_count(&store) > 1 {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A range that begins within a block is one block more than the bound, here in one folio.
#[test]
fn as_much_as_may_wait_is_read_wherever_it_begins() {
    let file = open(&cache(256), Gate::new(&[]));
    // The folios of a file that grows are longer each time.
    for number in 0..=64 {
        file.write_at(&[1; BLOCK], block(number)).unwrap();
    }
    file.set_len(block(128)).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.prefetch(&[block(65) + 100..block(128)]), block(32));
    until_resident(&file, block(65 + 32));
}
