//! `CachedFile::read_many`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use faultin_cache::store::{FileStore, MemoryStore, ReadRequest, Store};
use faultin_cache::{CachedFile, Error, Partial};

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

/// Reads these ranges at once. Returns each buffer and result.
fn read(file: &CachedFile, ranges: &[(u64, usize)]) -> Vec<(Vec<u8>, Result<usize, Partial>)> {
    let mut buffers: Vec<_> = ranges.iter().map(|&(_, len)| vec![0xe7; len]).collect();
    let mut reads: Vec<_> =
        ranges.iter().zip(&mut buffers).map(|(&(pos, _), bytes)| ReadRequest::new(pos, bytes)).collect();
    let results = file.read_many(&mut reads);
    assert_eq!(results.len(), ranges.len(), "a result for each");
    buffers.into_iter().zip(results).collect()
}

/// Checks that each range has all bytes that the file has of it.
fn assert_whole(file: &CachedFile, all: &[u8], ranges: &[(u64, usize)]) {
    for (&(pos, len), (bytes, result)) in ranges.iter().zip(read(file, ranges)) {
        let from = all.len().min(pos as usize);
        let ought = &all[from..all.len().min(from + len)];
        assert_eq!(result.as_ref().ok(), Some(&ought.len()), "{len} at {pos}: {result:?}");
        assert!(&bytes[..ought.len()] == ought, "{len} at {pos}: other bytes");
        assert!(bytes[ought.len()..].iter().all(|&byte| byte == 0xe7), "{len} at {pos}: changed after the end");
    }
}

const RANGES: [(u64, usize); 9] = [
    (block(20), 3 * BLOCK),
    (5, 100),
    (100, 10),                  // in the same block
    (block(7) - 3, 6),          // in two blocks
    (block(23), BLOCK),         // after the first one
    (block(21), 2 * BLOCK + 5), // within the first one
    (block(31) + 4000, 500),    // to the end
    (block(50), 100),           // past the end
    (block(9), 0),
];

#[test]
fn the_store_gets_what_is_missing_at_once_and_each_range_is_what_a_read_returns() {
    let all = pattern(32 * BLOCK);
    let store = Gate::new(&all);
    let file = open(&cache(256), Arc::clone(&store));
    file.read_at(&mut [0; 10], block(21)).unwrap();
    assert_whole(&file, &all, &RANGES);
    let calls = || (store.state.batches.load(SeqCst), store.state.reads.load(SeqCst));
    assert_eq!(calls(), (1, 1), "one for all; the other one was before");
    assert_whole(&file, &all, &RANGES);
    assert_eq!(calls(), (1, 1), "everything is cached");
    let stats = file.stats();
    assert_eq!((stats.reads, stats.errors), (1 + 2 * RANGES.len() as u64, 0));
    let bytes: usize = RANGES.iter().map(|&(pos, len)| all.len().saturating_sub(pos as usize).min(len)).sum();
    assert_eq!(stats.read, 10 + 2 * bytes as u64);
    assert_eq!(stats.misses, 1 + 7, "those that a store was asked for");
    assert_eq!(file.store_stats().read, 8 * BLOCK as u64, "each block once");
}

#[test]
fn ranges_that_do_not_fit_are_read_all_the_same() {
    let all = pattern(1024 * BLOCK + 9);
    let ranges: Vec<_> = (0..100).map(|at| (block(at * 37 % 1000) + at as u64, 5 * BLOCK + 3 * at)).collect();
    let long: Vec<_> = (0..10).map(|at| (block(at * 97) + 11, 50 * BLOCK + 1)).collect();
    for blocks in [2, 4, 16, 64] {
        let small = cache(blocks);
        for round in 0..3 {
            let store = Gate::new(&all);
            store.state.short.store([0, 1000, 3 * BLOCK][round], SeqCst);
            let file = open(&small, store);
            assert_whole(&file, &all, &ranges);
            assert_whole(&file, &all, &long);
            assert!(small.used() <= (blocks + 2) * BLOCK, "{} of {blocks} blocks", small.used() / BLOCK);
        }
    }
}

#[test]
fn a_long_part_is_read_straight_and_enters_the_cache_the_second_time() {
    let all = pattern(2048 * BLOCK);
    let small = cache(512);
    let store = Gate::new(&all);
    let file = open(&small, Arc::clone(&store));
    let resident = |number: usize| file.resident(block(number)..block(number + 32)).unwrap().bytes();
    // Nothing has to be evicted yet.
    assert_whole(&file, &all, &[(block(1900), 32 * BLOCK)]);
    assert_eq!(resident(1900), block(32));
    file.read_at(&mut vec![0; 500 * BLOCK], 0).unwrap();
    let range = [(block(1000) + 3, 32 * BLOCK)];
    assert_whole(&file, &all, &range);
    assert_eq!(resident(1000), 0);
    assert_whole(&file, &all, &range);
    assert!(resident(1000) > 0, "it was read again at once");
    // A part that was not read for a while is not. (There is no room again.)
    file.read_at(&mut vec![0; 500 * BLOCK], block(500)).unwrap();
    assert_whole(&file, &all, &[(block(1200), 32 * BLOCK)]);
    for number in 0..10 {
        assert_whole(&file, &all, &[(block(1300 + 32 * number), 32 * BLOCK)]);
    }
    assert_whole(&file, &all, &[(block(1200), 32 * BLOCK)]);
    assert_eq!(resident(1200), 0);
}

#[test]
fn a_range_that_is_read_straight_has_what_is_dirty_in_the_cache() {
    let mut all = pattern(512 * BLOCK);
    let small = cache(32);
    let store = Gate::new(&all);
    let file = open(&small, Arc::clone(&store));
    file.read_at(&mut vec![0; 32 * BLOCK], block(450)).unwrap();
    for number in [100, 110, 111, 131] {
        file.write_at(&[number as u8; 700], block(number) + 9).unwrap();
        all[number * BLOCK + 9..][..700].fill(number as u8);
    }
    assert_whole(&file, &all, &[(block(100) - 100, 40 * BLOCK)]);
    file.set_len(block(120)).unwrap();
    all.truncate(120 * BLOCK);
    assert_whole(&file, &all, &[(block(100) - 100, 40 * BLOCK)]);
    file.set_len(block(512)).unwrap();
    all.resize(512 * BLOCK, 0);
    assert_whole(&file, &all, &[(block(100), 40 * BLOCK), (block(90), 100 * BLOCK)]);
}

#[test]
fn a_store_that_fails_ends_each_range_where_a_read_would_end() {
    let all = pattern(512 * BLOCK);
    for blocks in [256, 16] {
        let store = Gate::new(&all);
        let small = cache(blocks);
        let file = open(&small, Arc::clone(&store));
        file.read_at(&mut vec![0; 16 * BLOCK], block(100)).unwrap();
        store.state.bad.store(40 * BLOCK, SeqCst);
        let ranges = [(block(20), 10 * BLOCK), (block(38) + 7, 40 * BLOCK), (block(41), 10), (block(39), BLOCK)];
        let results = read(&file, &ranges);
        assert!(matches!(results[0].1, Ok(n) if n == 10 * BLOCK), "{:?}", results[0].1);
        assert!(results[0].0 == all[20 * BLOCK..30 * BLOCK]);
        for (index, done) in [(1, 2 * BLOCK - 7), (2, 0)] {
            let (bytes, result) = &results[index];
            let partial = result.as_ref().unwrap_err();
            let pos = ranges[index].0 as usize;
            assert!(partial.done == done && partial.error.errno() == Some(libc::EIO), "{partial}");
            assert!(bytes[..done] == all[pos..pos + done]);
        }
        assert!(matches!(results[3].1, Ok(BLOCK)), "{:?}", results[3].1);
        assert_eq!(file.stats().errors, 2);
        // It recovers.
        store.state.bad.store(0, SeqCst);
        assert_whole(&file, &all, &ranges);
    }
}

#[test]
fn a_range_that_no_file_has_is_an_error_of_its_own() {
    let all = pattern(4 * BLOCK);
    let file = open(&cache(64), MemoryStore::new(all.as_slice()));
    let results = read(&file, &[(u64::MAX - 3, 10), (0, 10), (i64::MAX as u64 - 5, 10)]);
    assert!(matches!(results[0].1, Err(Partial { done: 0, error: Error::TooLarge { .. } })), "{:?}", results[0].1);
    assert!(matches!(results[2].1, Err(Partial { done: 0, error: Error::TooLarge { .. } })), "{:?}", results[2].1);
    assert!(matches!(results[1].1, Ok(10)));
    assert_eq!(read(&file, &[]).len(), 0);
}

/// Stores that return fewer results than they should, or wrong ones.
#[test]
fn a_store_that_violates_its_contract_is_found_out() {
    /// The answers to a number of reads.
    type Lie = fn(usize) -> Vec<io::Result<usize>>;
    struct Liar(MemoryStore, Lie);
    impl Store for Liar {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
            self.0.read_at(buf, pos)
        }
        fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
            (self.1)(reads.len())
        }
        fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
            self.0.write_at(buf, pos)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn sync(&self, data_only: bool) -> io::Result<()> {
            self.0.sync(data_only)
        }
    }
    let all = pattern(64 * BLOCK);
    let ranges = [(5, 100), (block(10), 20 * BLOCK), (block(40), 100)];
    let lies: [Lie; 4] = [
        |_| Vec::new(),
        |n| (0..n + 3).map(|_| Ok(usize::MAX)).collect(),
        |n| (0..n).map(|_| Ok(0)).collect(),
        |n| (0..n).map(|_| Err(io::ErrorKind::Interrupted.into())).collect(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        for blocks in [256, 8] {
            let small = cache(blocks);
            let file = open(&small, Liar(MemoryStore::new(all.as_slice()), lie));
            // One folio, which is one read.
            file.read_at(&mut vec![0; 8 * BLOCK], block(48)).unwrap();
            for (&(pos, len), (bytes, result)) in ranges.iter().zip(read(&file, &ranges)) {
                if number == 1
                    && let Err(Partial { error: Error::Store(error), .. }) = &result
                {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    continue;
                }
                assert_eq!(result.ok(), Some(len), "lie {number}");
                assert!(bytes == all[pos as usize..pos as usize + len], "lie {number}");
            }
        }
    }
}

/// Files of the kernel: past its page cache and through it, cold and cached, neighbours and others.
#[test]
fn files_of_the_kernel_are_read_by_ring_or_call() {
    let folders =
        [tempfile::tempdir().expect("a folder"), tempfile::tempdir_in("/dev/shm").expect("a folder on tmpfs")];
    for folder in &folders {
        let all = pattern(700 * BLOCK + 123);
        let path = folder.path().join("data");
        let disk = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        disk.write_all_at(&all, 0).expect("write it");
        disk.sync_all().expect("sync it");
        let stores: [fn(File) -> io::Result<FileStore>; 2] = [FileStore::new, FileStore::direct];
        for (direct, make) in stores.into_iter().enumerate() {
            for blocks in [1024, 64] {
                rustix::fs::fadvise(&disk, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
                let store = match make(disk.try_clone().unwrap()) {
                    Ok(store) => store,
                    Err(error) if direct == 1 => {
                        faultin_test::skipped("o-direct", error);
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let small = cache(blocks);
                let file = open(&small, store);
                file.read_at(&mut vec![0; 64 * BLOCK], block(600)).unwrap();
                let mut ranges: Vec<_> =
                    (0..100).map(|at| (block(at * 331 % 690) + 7, (1 + at % 40) * BLOCK)).collect();
                // Neighbours.
                ranges.extend((0..30).map(|at| (block(300 + at), BLOCK)));
                ranges.extend([(block(700), 500), (block(690), 20 * BLOCK)]);
                for _ in 0..2 {
                    assert_whole(&file, &all, &ranges);
                }
            }
        }
        // Other code truncates it.
        let file = open(&cache(64), FileStore::new(disk.try_clone().unwrap()).expect("a store"));
        disk.set_len(block(10) + 5).unwrap();
        let results = read(&file, &[(block(8), BLOCK), (block(9), 3 * BLOCK), (block(50), 30 * BLOCK)]);
        assert!(matches!(results[0].1, Ok(BLOCK)), "{:?}", results[0].1);
        for (_, result) in &results[1..] {
            assert!(matches!(result, Err(Partial { error: Error::Store(_), .. })), "{result:?}");
        }
    }
}
