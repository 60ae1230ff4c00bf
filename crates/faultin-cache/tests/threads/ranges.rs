//! Threads that overwrite parts of one file whose blocks are all in memory, so that disjoint writes need not wait for each
//! other: what each has written is there, and of two that overlap one is there as a whole.

use std::thread;
use std::time::Duration;

use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CachedFile};
use faultin_test::Random;

use super::Until;

const THREADS: u64 = 4;
const TURNS: u64 = if cfg!(miri) { 20 } else { 20_000 };
/// Each write is a number of whole records.
const RECORD: usize = 512;
const RECORDS: usize = 512;

/// Returns records that consist of one number.
fn records(number: u64, count: usize) -> Vec<u8> {
    number.to_ne_bytes().repeat(count * RECORD / 8)
}

/// Returns the number that a record consists of.
fn number(record: &[u8]) -> u64 {
    let words = record.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
    let mut words = words.collect::<Vec<_>>();
    words.dedup();
    assert_eq!(words.len(), 1, "a mixture: {words:x?}");
    words[0]
}

fn file(cache: &Cache) -> CachedFile {
    let file = cache.open(MemoryStore::new([])).unwrap();
    file.write_at(&records(0, RECORDS), 0).unwrap();
    file
}

/// What the cache has is what the store gets.
fn check_store(cache: &Cache, file: &CachedFile) {
    let mut cached = vec![1; RECORD * RECORDS];
    assert_eq!(file.read_at(&mut cached, 0).unwrap(), cached.len());
    file.sync_all().unwrap();
    assert_eq!(file.dirty(), 0);
    cache.drop_clean();
    let mut stored = vec![2; cached.len()];
    file.read_at(&mut stored, 0).unwrap();
    assert!(stored == cached);
}

/// Runs writers in threads of their own, each with its number and random numbers, while another thread does `other` now and
/// then, which needs the file otherwise. Returns what the writers return.
fn write_in_threads<T: Send>(
    file: &CachedFile,
    other: impl Fn() + Sync,
    writer: impl Fn(&CachedFile, u64, &Random) -> T + Sync,
) -> Vec<T> {
    let until = Until::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            until.each_time(|| {
                other();
                thread::sleep(Duration::from_millis(1));
            });
        });
        let _done = until.done_at_end();
        let start = |thread| {
            let (file, writer) = (file.clone(), &writer);
            scope.spawn(move || writer(&file, thread, &Random::new(thread)))
        };
        let writers: Vec<_> = (0..THREADS).map(start).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn disjoint_writes_are_all_there() {
    let cache = Cache::new();
    let file = file(&cache);
    let write_back = || file.write_back(0..u64::MAX).unwrap();
    let expected = write_in_threads(&file, write_back, |file, thread, random| {
        let mut expected = vec![0; RECORDS];
        for turn in 1..=TURNS {
            // Every fourth record, so that threads share blocks, folios and regions.
            let at = (random.below(RECORDS as u64 / THREADS) * THREADS + thread) as usize;
            expected[at] = turn << 8 | thread;
            file.write_at(&records(expected[at], 1), (at * RECORD) as u64).unwrap();
        }
        expected
    });
    let mut all = vec![0; RECORD * RECORDS];
    assert_eq!(file.read_at(&mut all, 0).unwrap(), all.len());
    for (at, record) in all.chunks_exact(RECORD).enumerate() {
        assert_eq!(number(record), expected[at % THREADS as usize][at], "record {at}");
    }
    check_store(&cache, &file);
}

#[test]
fn overlapping_writes_are_never_mixed() {
    let cache = Cache::new();
    let file = file(&cache);
    let cut = || {
        // What is cut off is zeros, which is also a number.
        file.set_len((RECORD * RECORDS / 2) as u64).unwrap();
        file.set_len((RECORD * RECORDS) as u64).unwrap();
    };
    write_in_threads(&file, cut, |file, thread, random| {
        let mut record = vec![0; RECORD];
        for turn in 1..=TURNS {
            let count = 1 + random.below(100) as usize;
            let at = random.below((RECORDS - count) as u64 + 1) as usize;
            file.write_at(&records(turn << 8 | thread, count), (at * RECORD) as u64).unwrap();
            if turn % 100 == 0 {
                let at = random.below(RECORDS as u64) * RECORD as u64;
                assert_eq!(file.read_at(&mut record, at).unwrap_or(0) % RECORD, 0);
                number(&record);
            }
        }
    });
    file.set_len((RECORD * RECORDS) as u64).unwrap();
    check_store(&cache, &file);
}
