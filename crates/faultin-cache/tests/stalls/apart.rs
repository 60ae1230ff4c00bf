//! Reads of a store that takes its time, beside other operations of the same file.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::CachedFile;
use faultin_cache::store::ReadRequest;

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

/// An operation on another part of the file than the one that is read.
type Operation = fn(&CachedFile);

/// Changes of blocks 40 to 63, of which 41 and 45 were written, and written back.
const ELSEWHERE: [(&str, Operation); 6] = [
    ("evicts what was written", |file| file.dont_need(block(40)..block(64)).unwrap()),
    ("makes a hole", |file| file.punch_hole(block(41)..block(43)).unwrap()),
    ("truncates", |file| file.set_len(block(60) + 1).unwrap()),
    ("extends", |file| file.set_len(block(90)).unwrap()),
    ("writes past the cache", |file| {
        let mut from = IovSource::<ReadView<'_>>::one(&[9; BLOCK][..]);
        assert_eq!(file.write_direct(&mut from, block(45)).unwrap(), BLOCK);
    }),
    ("writes", |file| assert_eq!(file.write_at(&[9; 10], block(50)).unwrap(), 10)),
];

fn calls(store: &Gate) -> usize {
    store.state.reads.load(SeqCst) + store.state.batches.load(SeqCst)
}

/// Opens a file of 64 blocks, of which 41 and 45 were written, and returns its bytes.
fn written() -> (Arc<Gate>, CachedFile, Vec<u8>) {
    let mut all = pattern(64 * BLOCK);
    let store = Gate::new(&all);
    let file = open(&cache(1024), Arc::clone(&store));
    for number in [41, 45] {
        file.write_at(&[8; BLOCK], block(number)).unwrap();
        all[number * BLOCK..][..BLOCK].fill(8);
    }
    file.write_at(&[8; BLOCK], block(10)).unwrap();
    all[10 * BLOCK..][..BLOCK].fill(8);
    file.sync_all().unwrap();
    file.dont_need(block(10)..block(11)).unwrap();
    (store, file, all)
}

/// Runs `change` while the store is asked for blocks 8 to 15, by `read`. Returns the number of calls for them.
fn during<R: Send>(store: &Gate, read: impl FnOnce() -> R + Send, change: impl FnOnce()) -> (R, usize) {
    let before = calls(store);
    store.close_at(block(8)..block(16));
    thread::scope(|scope| {
        let reader = scope.spawn(read);
        store.until_waiting(1);
        let asked = calls(store);
        change();
        // What the change itself has read is no call for them.
        let own = calls(store) - asked;
        store.open();
        let result = reader.join().unwrap();
        (result, calls(store) - before - own)
    })
}

#[test]
fn a_read_under_way_is_not_in_vain_because_other_bytes_change() {
    for (name, change) in ELSEWHERE {
        let (store, file, all) = written();
        let mut bytes = vec![0; 8 * BLOCK];
        let read = || file.read_at(&mut bytes, block(8)).unwrap();
        assert_eq!(during(&store, read, || change(&file)), (8 * BLOCK, 1), "another thread {name}");
        assert!(bytes == all[8 * BLOCK..16 * BLOCK], "another thread {name}");
    }
}

#[test]
fn neither_is_a_batch() {
    for (name, change) in ELSEWHERE {
        let (store, file, all) = written();
        let mut bytes = vec![0; 8 * BLOCK];
        let read = || file.read_many(&mut [ReadRequest::new(block(8), &mut bytes)]).remove(0).unwrap();
        assert_eq!(during(&store, read, || change(&file)), (8 * BLOCK, 1), "another thread {name}");
        assert!(bytes == all[8 * BLOCK..16 * BLOCK], "another thread {name}");
    }
}

#[test]
fn neither_is_what_is_read_straight() {
    for (name, change) in ELSEWHERE {
        let all = pattern(128 * BLOCK);
        let store = Gate::new(&all);
        let file = open(&cache(64), Arc::clone(&store));
        file.read_at(&mut vec![0; 60 * BLOCK], block(64)).unwrap();
        for number in [41, 45] {
            file.write_at(&[8; BLOCK], block(number)).unwrap();
        }
        file.sync_all().unwrap();
        let mut bytes = vec![0; 32 * BLOCK];
        let read = || file.read_many(&mut [ReadRequest::new(block(8), &mut bytes)]).remove(0).unwrap();
        assert_eq!(during(&store, read, || change(&file)), (32 * BLOCK, 1), "another thread {name}");
        assert!(bytes == all[8 * BLOCK..40 * BLOCK], "another thread {name}");
        assert_eq!(file.resident(block(8)..block(40)).unwrap().bytes(), 0, "another thread {name}");
    }
}

/// The store gives the old bytes, and the file has others by then.
#[test]
fn a_read_under_way_is_repeated_if_its_own_bytes_have_changed() {
    let changes: [(&str, Operation, u8); 3] = [
        (
            "writes, and it is evicted",
            |file| {
                file.write_at(&[5; BLOCK], block(12)).unwrap();
                file.sync_all().unwrap();
                file.dont_need(0..u64::MAX).unwrap();
            },
            5,
        ),
        ("makes a hole", |file| file.punch_hole(block(12)..block(13)).unwrap(), 0),
        (
            "truncates and extends",
            |file| {
                file.set_len(block(12)).unwrap();
                file.set_len(block(64)).unwrap();
            },
            0,
        ),
    ];
    for (name, change, byte) in changes {
        for many in [false, true] {
            let (store, file, _) = written();
            store.state.reads_early.store(true, SeqCst);
            let mut bytes = vec![0; 8 * BLOCK];
            let read = || match many {
                false => file.read_at(&mut bytes, block(8)).unwrap(),
                true => file.read_many(&mut [ReadRequest::new(block(8), &mut bytes)]).remove(0).unwrap(),
            };
            during(&store, read, || change(&file));
            assert_eq!(bytes[4 * BLOCK + 100], byte, "another thread {name}");
        }
    }
}

/// However many threads wait for a store, the rest of the memory is there for others, apart from a block for each.
#[test]
fn threads_that_wait_have_half_of_the_memory_together_and_the_cache_still_works() {
    let all = pattern(512 * BLOCK);
    let (store, small) = (Gate::new(&all), cache(64));
    let file = open(&small, Arc::clone(&store));
    store.close();
    thread::scope(|scope| {
        for thread in 0..16 {
            let (file, all) = (&file, &all);
            scope.spawn(move || {
                let (mut bytes, pos) = (vec![0; 16 * BLOCK], thread * 16 * BLOCK);
                assert_eq!(file.read_at(&mut bytes, pos as u64).unwrap(), bytes.len());
                assert!(bytes == all[pos..][..bytes.len()]);
            });
            store.until_waiting(thread + 1);
        }
        assert!(small.used() <= (32 + 16) * BLOCK, "{} blocks", small.used() / BLOCK);
        let other = open(&small, Gate::new(&all));
        assert_eq!(other.read_at(&mut vec![0; 16 * BLOCK], 0).unwrap(), 16 * BLOCK);
        store.open();
    });
    assert!(small.used() <= 64 * BLOCK);
}

#[test]
fn what_was_read_beside_a_first_part_that_fails_is_kept() {
    let all = pattern(64 * BLOCK);
    let store = Gate::new(&all);
    let file = open(&cache(1024), Arc::clone(&store));
    store.state.bad.store(7 * BLOCK, SeqCst);
    store.state.good_from.store(8 * BLOCK, SeqCst);
    assert!(file.read_at(&mut vec![0; 9 * BLOCK], block(7)).is_err());
    let before = calls(&store);
    let mut bytes = vec![0; 8 * BLOCK];
    assert_eq!(file.read_at(&mut bytes, block(8)).unwrap(), bytes.len());
    assert!(bytes == all[8 * BLOCK..16 * BLOCK]);
    assert_eq!(calls(&store), before);
}

/// In a full cache, the oldest blocks are those that the read already has.
#[test]
fn a_read_does_not_evict_what_is_cached_of_its_own_range() {
    let all = pattern(256 * BLOCK);
    for first in 0..8 {
        let store = Gate::new(&all);
        let file = open(&cache(64), Arc::clone(&store));
        for number in [first, 7 - first] {
            file.read_at(&mut [0; 9], block(number)).unwrap();
        }
        for number in 100..162 {
            file.read_at(&mut [0; 9], block(number)).unwrap();
        }
        let before = file.store_stats().read;
        let cached = file.resident(0..block(8)).unwrap().bytes();
        let mut bytes = vec![0; 8 * BLOCK];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        assert!(bytes == all[..8 * BLOCK]);
        assert_eq!(file.store_stats().read - before, block(8) - cached, "{first}");
    }
}
