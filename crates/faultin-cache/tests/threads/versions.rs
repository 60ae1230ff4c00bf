//! Records that are overwritten while others read them.
//!
//! A record is one number, the version, repeated. It has one writer, which announces the version before a write, and
//! publishes it afterwards. A reader loads the published version before it reads and the announced one afterwards: the
//! record must be a single number between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use faultin::iov::{IovDest, IovSource};
use faultin::{ReadView, WriteView};
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin_test::Random;

use crate::Until;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::slow::Slow;

const RECORD: usize = 64;
const RECORDS: usize = 16;
const WRITERS: usize = 2;
const ROUNDS: u64 = 15_000;

struct Shared {
    file: CachedFile,
    store: Slow,
    begun: Vec<AtomicU64>,
    done: Vec<AtomicU64>,
}

fn record(version: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(RECORD / 8)
}

/// The version of a whole record.
fn version(bytes: &[u8]) -> u64 {
    let version = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, record(version), "torn");
    version
}

impl Shared {
    fn open(cache: &Cache, max_folio: usize, how: &WriteLoop) -> Shared {
        let store = Slow::new([0; RECORDS * RECORD]);
        let options = FileOptions::new().max_folio(max_folio).write_loop(how.clone());
        let file = cache.open_with(store.clone(), options).unwrap();
        let zeros = || (0..RECORDS).map(|_| AtomicU64::new(0)).collect();
        Shared { file, store, begun: zeros(), done: zeros() }
    }

    fn write(&self, writer: usize, random: &Random) {
        let mine = random.below((RECORDS / WRITERS) as u64) as usize * WRITERS + writer;
        let version = self.done[mine].load(Ordering::Relaxed) + 1;
        self.begun[mine].store(version, Ordering::SeqCst);
        let bytes = record(version);
        let pos = (mine * RECORD) as u64;
        let written = if random.below(6) == 0 {
            self.file.write_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[..]), pos)
        } else {
            self.file.write_at(&bytes, pos)
        };
        assert_eq!(written.unwrap(), RECORD);
        self.done[mine].store(version, Ordering::SeqCst);
    }

    fn read(&self, random: &Random) {
        let first = random.below(RECORDS as u64) as usize;
        let records = first..(first + 1 + random.below(6) as usize).min(RECORDS);
        let least: Vec<u64> = records.clone().map(|at| self.done[at].load(Ordering::SeqCst)).collect();
        let mut bytes = vec![0xff; records.len() * RECORD];
        let pos = (first * RECORD) as u64;
        let read = if random.below(6) == 0 {
            self.file.read_direct(&mut IovDest::<WriteView<'_>>::one(&mut bytes[..]), pos)
        } else {
            self.file.read_at(&mut bytes, pos)
        };
        assert_eq!(read.unwrap(), bytes.len());
        for ((at, least), bytes) in records.zip(least).zip(bytes.chunks(RECORD)) {
            let (version, most) = (version(bytes), self.begun[at].load(Ordering::SeqCst));
            assert!((least..=most).contains(&version), "record {at}: {version}, not {least} to {most}");
        }
    }

    /// Interferes with both.
    fn disturb(&self, cache: &Cache, random: &Random) {
        let range = random.below(RECORDS as u64) * RECORD as u64..(RECORDS * RECORD) as u64;
        match random.below(7) {
            0 => self.file.sync_all().unwrap(),
            1 => cache.sync().unwrap(),
            2 | 3 => cache.drop_clean(),
            4 => self.file.write_back(range).unwrap(),
            5 => self.file.dont_need(range).unwrap(),
            _ => self.file.will_need(range).unwrap(),
        }
        thread::yield_now();
    }

    fn check(&self) {
        self.file.sync_all().unwrap();
        assert_eq!(self.file.dirty(), 0);
        for (at, bytes) in self.store.memory.contents().chunks(RECORD).enumerate() {
            assert_eq!(version(bytes), self.done[at].load(Ordering::SeqCst), "record {at} in the store");
        }
    }
}

/// With this many blocks of memory, in folios of this many blocks.
fn run(block: usize, [limit, max_folio]: [usize; 2], how: &WriteLoop) {
    watchdog::start();
    let (limit, max_folio) = (limit * block, max_folio * block);
    let cache = CacheOptions::new().block(block).limit(limit).build();
    let files = [Shared::open(&cache, max_folio, how), Shared::open(&cache, max_folio, how)];
    let until = Until::new();
    thread::scope(|scope| {
        let (files, cache, until) = (&files, &cache, &until);
        for seed in 0..4 {
            scope.spawn(move || {
                let random = Random::new(100 + seed);
                until.each_time(|| files[random.below(2) as usize].read(&random));
            });
        }
        for seed in 0..2 {
            scope.spawn(move || {
                let random = Random::new(200 + seed);
                until.each_time(|| files[random.below(2) as usize].disturb(cache, &random));
            });
        }
        let _done = until.done_at_end();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    let random = Random::new(300 + writer as u64);
                    for _ in 0..ROUNDS {
                        files[random.below(2) as usize].write(writer, &random);
                    }
                });
            }
        });
    });
    for file in &files {
        file.check();
        // Each read that waited for its store may have left a block beyond the limit; the next read reclaims it.
        file.file.read_at(&mut [0; RECORDS * RECORD], 0).unwrap();
    }
    assert!(cache.used() <= limit + 2 * 2 * max_folio, "{}", cache.used());
    drop(files);
    assert_eq!(cache.used(), 0);
}

#[test]
fn blocks_of_one_record() {
    run(RECORD, [3, 1], &WriteLoop::DEFAULT);
}

#[test]
fn folios_of_several_blocks() {
    run(RECORD, [6, 4], &kernel_loops::GENERIC_PERFORM_WRITE);
}

/// A write covers a part of a block, the rest of which has to be read: if that were stale, it would stay so.
#[test]
fn blocks_of_several_records() {
    run(4 * RECORD, [1, 1], &WriteLoop::DEFAULT);
}

#[test]
fn folios_of_several_blocks_of_several_records() {
    run(2 * RECORD, [3, 2], &kernel_loops::BTRFS_BUFFERED_WRITE);
}

#[test]
fn written_through() {
    run(2 * RECORD, [2, 1], &kernel_loops::FUSE_FILL_WRITE_PAGES);
}

#[test]
fn with_room_for_everything() {
    run(RECORD, [1000, 8], &kernel_loops::BTRFS_BUFFERED_WRITE);
}
