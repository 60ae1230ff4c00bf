//! Files that are opened and closed, and errors that are reported, while the cache is synced.

use std::hint;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use faultin_cache::CacheOptions;
use faultin_cache::store::{MemoryStore, Store};
use faultin_test::Random;

use crate::Until;
use crate::common::watchdog;
use crate::slow::Slow;

/// Whatever other threads do, a sync of the cache includes every file that was opened before it.
#[test]
fn a_file_is_known_to_the_cache_from_the_beginning() {
    watchdog::start();
    let cache = CacheOptions::new().block(32).limit(1 << 12).build();
    let until = Until::new();
    thread::scope(|scope| {
        scope.spawn(|| until.each_time(|| cache.sync().unwrap()));
        let _done = until.done_at_end();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..4000 {
                        let file = cache.open(MemoryStore::new([])).unwrap();
                        file.write_at(&[1; 40], 0).unwrap();
                        cache.sync().unwrap();
                        assert_eq!(file.dirty(), 0, "the cache has forgotten file {}", file.number());
                    }
                });
            }
        });
    });
    assert_eq!(cache.used(), 0);
}

/// Handles of the same file that are opened and closed.
#[test]
fn the_last_handle_writes_everything() {
    watchdog::start();
    let cache = CacheOptions::new().block(32).limit(256).build();
    for round in 0..60 {
        let store = Slow::new([]);
        let file = cache.open(store.clone()).unwrap();
        thread::scope(|scope| {
            for thread in 0..3_u8 {
                let (file, cache) = (file.clone(), &cache);
                scope.spawn(move || {
                    let random = Random::new(u64::from(thread) + round);
                    for turn in 0..20_u64 {
                        let file = file.clone();
                        file.write_at(&[thread + 1; 10], (3 * turn + u64::from(thread)) * 10).unwrap();
                        if random.below(8) == 0 {
                            cache.sync().unwrap();
                        }
                    }
                });
            }
            drop(file);
        });
        // `scope` waits for the closures, which have dropped their handles by then.
        let contents = store.memory.contents();
        assert_eq!(contents.len(), 600);
        for (at, part) in contents.chunks(10).enumerate() {
            assert_eq!(part, [at as u8 % 3 + 1; 10], "part {at}");
        }
    }
    assert_eq!(cache.used(), 0);
}

/// A store whose syncs fail in one thread.
struct FailsIn {
    memory: MemoryStore,
    thread: ThreadId,
}

impl Store for FailsIn {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.memory.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        if thread::current().id() == self.thread { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

/// Waits until both threads have reached this point.
fn meet(place: &AtomicU64, turn: u64) {
    place.fetch_add(1, Ordering::AcqRel);
    while place.load(Ordering::Acquire) < 2 * turn {
        thread::yield_now();
    }
}

/// An error during the sync of another handle is reported once, by that sync or by the next one.
#[test]
fn an_error_at_the_same_time_is_reported_once() {
    const TURNS: u64 = 200_000;
    watchdog::start();
    let cache = CacheOptions::new().build();
    let store = FailsIn { memory: MemoryStore::new([]), thread: thread::current().id() };
    let first = cache.open(store).unwrap();
    let second = first.clone();
    let (begin, end) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let count = |turn| {
                meet(&begin, turn);
                // Earlier or later than the error.
                (0..turn % 128).for_each(|_| hint::spin_loop());
                let during = second.sync_all().is_err();
                meet(&end, turn);
                u8::from(during) + u8::from(second.sync_all().is_err())
            };
            (1..=TURNS).map(count).collect::<Vec<_>>()
        });
        for turn in 1..=TURNS {
            meet(&begin, turn);
            (0..(turn / 128) % 128).for_each(|_| hint::spin_loop());
            assert!(first.sync_all().is_err(), "turn {turn}");
            meet(&end, turn);
        }
        let reports = other.join().unwrap();
        let wrong: Vec<_> = reports.iter().enumerate().filter(|(_, reports)| **reports != 1).collect();
        assert!(wrong.is_empty(), "turns, and how often each was reported: {wrong:?}");
    });
}
