//! One request for one block, requests for several ranges, readahead, and the limit on memory.

#![allow(clippy::single_range_in_vec_init, reason = "lists of requests, of which there is one")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use faultin::map::Rights;
use faultin_cache::pager::Mode;
use faultin_cache::store::{ReadRequest, Store as _};
use faultin_cache::{Advice, Cache, CacheOptions};
use faultin_store::object_store::path::Path;
use faultin_store::{Object, StoreOptions};
use support::{Does, PATH, Scripted, copy, pattern};

const BLOCK: usize = 64 << 10;

fn open(options: StoreOptions, backend: &Arc<Scripted>) -> Object {
    let store = options.build().unwrap();
    let object = store.open_in(Arc::clone(backend) as _, &Path::from(PATH), "test:///data").unwrap();
    backend.requests();
    object
}

#[test]
fn threads_that_want_one_block_at_the_same_time_make_one_request() {
    let bytes = pattern(40 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    backend.delay(Duration::from_millis(50));
    let object = open(StoreOptions::new().read_ahead(false), &backend);
    let start = std::sync::Barrier::new(16);
    thread::scope(|scope| {
        for thread in 0..16 {
            let (object, start, bytes) = (&object, &start, &bytes);
            scope.spawn(move || {
                start.wait();
                let pos = 7 * BLOCK + thread * 1000;
                let mut read = [0; 3000];
                assert_eq!(object.read(&mut read, pos as u64).unwrap(), 3000);
                assert_eq!(read, bytes[pos..pos + 3000]);
            });
        }
    });
    assert_eq!(backend.requests(), [7 * BLOCK as u64..8 * BLOCK as u64]);
    let stats = object.stats();
    assert_eq!((stats.reads, stats.misses, stats.memory_hits), (16, 1, 15), "{stats:?}");
}

#[test]
fn ranges_that_are_wanted_together_are_requested_together_within_the_gap_and_the_length() {
    let bytes = pattern(200 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let options = StoreOptions::new().read_ahead(false).gap(2 * BLOCK as u64).request_bytes(8 * BLOCK);
    let object = open(options, &backend);
    let blocks = [50, 20, 22, 25, 29, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109];
    let mut buffers: Vec<Vec<u8>> = blocks.iter().map(|_| vec![0; 100]).collect();
    let mut reads: Vec<_> = blocks
        .iter()
        .zip(&mut buffers)
        .map(|(&block, buffer)| ReadRequest::new((block * BLOCK + 5) as u64, buffer))
        .collect();
    let results = object.read_many(&mut reads);
    assert!(results.iter().all(|result| matches!(result, Ok(100))), "{results:?}");
    for (block, buffer) in blocks.iter().zip(&buffers) {
        assert_eq!(buffer[..], bytes[block * BLOCK + 5..][..100], "{block}");
    }
    let mut requests: Vec<_> =
        backend.requests().iter().map(|range| range.start as usize / BLOCK..range.end as usize / BLOCK).collect();
    requests.sort_by_key(|run| run.start);
    assert_eq!(requests, [20..26, 29..30, 50..51, 100..108, 108..110]);
    // What was between two of them is there.
    assert_eq!(object.read(&mut [0; 10], 23 * BLOCK as u64).unwrap(), 10);
    assert_eq!(backend.requests(), []);
}

/// A cache's blocks are smaller than the store's: a read over the end of one of these lacks a part of two.
#[test]
fn a_read_of_a_cached_file_over_missing_blocks_is_one_request() {
    let bytes = pattern(200 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new().read_ahead(false), &backend);
    let file = CacheOptions::new().limit(64 << 20).build().open(object.clone()).unwrap();
    file.advise(Advice::Random);
    let read = |pos: usize, len: usize| {
        let mut read = vec![0; len];
        assert_eq!(file.read_at(&mut read, pos as u64).unwrap(), len);
        assert!(read == bytes[pos..pos + len], "{len} at {pos}");
        let requests = backend.requests();
        requests.iter().map(|range| range.start as usize / BLOCK..range.end as usize / BLOCK).collect::<Vec<_>>()
    };
    assert_eq!(read(10 * BLOCK + 4096, BLOCK), [10..12]);
    assert_eq!(read(21 * BLOCK - 1, 2), [20..22]);
    assert_eq!(read(31 * BLOCK - 5 * 4096 - 1, 3 * BLOCK), [30..34]);
    // The middle is in memory: two requests at the same time.
    assert_eq!(read(51 * BLOCK, BLOCK), [51..52]);
    assert_eq!(backend.active().1, 1);
    backend.delay(Duration::from_millis(50));
    let mut requests = read(51 * BLOCK - 4096, 6 * 4096 + BLOCK);
    requests.sort_by_key(|run| run.start);
    assert_eq!((requests, backend.active().1), (vec![50..51, 52..53], 2));
    assert_eq!(object.stats().requests, 7, "the first one has opened it");
}

#[test]
fn an_error_of_one_range_is_its_own() {
    let bytes = pattern(200 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new().read_ahead(false).gap(0).requests(1), &backend);
    backend.next([Does::Well, Does::Fails, Does::Well]);
    let mut buffers = vec![vec![0; 2 * BLOCK]; 3];
    let mut reads: Vec<_> = buffers
        .iter_mut()
        .enumerate()
        .map(|(at, buffer)| ReadRequest::new((at * 50 * BLOCK + BLOCK) as u64, buffer))
        .collect();
    let results = object.read_many(&mut reads);
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "{results:?}");
    for (at, result) in results.iter().enumerate().filter(|(_, result)| result.is_ok()) {
        assert_eq!(*result.as_ref().unwrap(), 2 * BLOCK);
        assert_eq!(buffers[at][..], bytes[at * 50 * BLOCK + BLOCK..][..2 * BLOCK]);
    }
}

#[test]
fn a_scan_is_read_ahead_and_each_block_is_requested_once() {
    let bytes = pattern(300 * BLOCK + 777, 1);
    let backend = Scripted::new(&bytes);
    backend.delay(Duration::from_millis(5));
    let object = open(StoreOptions::new(), &backend);
    let file = CacheOptions::new().limit(8 << 20).build().open(object.clone()).unwrap();
    let mut read = vec![0; bytes.len()];
    for (at, part) in read.chunks_mut(10_000).enumerate() {
        assert_eq!(file.read_at(part, at as u64 * 10_000).unwrap(), part.len());
    }
    assert_eq!(read, bytes);
    let mut requests = backend.requests();
    requests.sort_by_key(|range| range.start);
    assert!(requests.windows(2).all(|two| two[0].end == two[1].start), "{requests:?}");
    assert_eq!(requests.last().unwrap().end, bytes.len() as u64);
    let stats = object.stats();
    assert!(stats.ahead > 200 && backend.active().1 > 1, "{stats:?} {:?}", backend.active());
    assert!(requests.len() < 150, "{} requests", requests.len());
}

#[test]
fn random_access_requests_what_it_wants_and_little_else() {
    let bytes = pattern(2000 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new(), &backend);
    let mut wanted = 0;
    for step in 1..600_usize {
        let block = step * 1_103 % 2000;
        let mut read = [0; 100];
        assert_eq!(object.read(&mut read, (block * BLOCK) as u64).unwrap(), 100);
        assert_eq!(read, bytes[block * BLOCK..][..100]);
        wanted += 1;
    }
    let requested: u64 = backend.requests().iter().map(|range| (range.end - range.start) / BLOCK as u64).sum();
    assert!(requested <= wanted + wanted / 50, "{requested} blocks for {wanted}");
}

/// Of a cache, whose reads at any position are of several folios: the store gets several ranges each time.
#[test]
fn random_reads_of_a_cached_file_request_what_they_want_and_nothing_ahead() {
    let bytes = pattern(1000 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new(), &backend);
    let file = CacheOptions::new().limit(128 << 20).build().open(object.clone()).unwrap();
    let mut read = vec![0; BLOCK];
    // Not the first block: a read of that begins a scan.
    for step in 1..83_usize {
        // Two blocks each, and two reads that are near to each other: by chance, as a third one would not be.
        for near in [0, 3] {
            let pos = (step * 1_103 % 83 * 12 + near) * BLOCK + (1 + step % 15) * 4096;
            assert_eq!(file.read_at(&mut read, pos as u64).unwrap(), BLOCK);
            assert!(read == bytes[pos..pos + BLOCK], "at {pos}");
        }
    }
    let stats = object.stats();
    assert_eq!((stats.requests, stats.ahead), (1 + 2 * 82, 0), "{stats:?}");
}

#[test]
fn the_limit_of_memory_holds_with_many_threads_and_all_of_them_get_on() {
    let bytes = pattern(512 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    backend.delay(Duration::from_millis(1));
    let object = open(StoreOptions::new().memory(16 * BLOCK).request_bytes(64 * BLOCK), &backend);
    let limit = object.store().stats().memory_limit;
    assert_eq!(limit, 16 * BLOCK as u64);
    let (most, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..12)
            .map(|thread| {
                let (object, bytes) = (&object, &bytes);
                scope.spawn(move || {
                    let mut read = vec![0; 40 * BLOCK];
                    for round in 0..4 {
                        let pos = (thread * 37 + round * 101) % 470 * BLOCK + thread;
                        assert_eq!(object.read(&mut read, pos as u64).unwrap(), read.len());
                        assert!(read == bytes[pos..][..read.len()], "{pos}");
                    }
                })
            })
            .collect();
        let (object, most, is_over) = (&object, &most, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(object.store().stats().memory, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let results: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    let most = most.into_inner();
    assert!(most > 0 && most <= limit, "{most} of {limit}");
}

#[test]
fn openings_take_turns_and_memory_as_reads_do() {
    let bytes = pattern(4 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new().requests(4).memory(8 * BLOCK).read_ahead(false), &backend);
    backend.delay(Duration::from_millis(20));
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let again = object.refresh().unwrap();
                let mut read = vec![0; BLOCK];
                assert_eq!(again.read(&mut read, 0).unwrap(), BLOCK);
                assert!(read == bytes[..BLOCK]);
            });
        }
    });
    assert!(backend.active().1 <= 4, "{:?}", backend.active());
}

#[test]
fn a_mapping_is_scanned_by_threads_with_a_part_each() {
    const THREADS: usize = 4;
    let bytes = pattern(160 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    backend.delay(Duration::from_millis(2));
    let object = open(StoreOptions::new(), &backend);
    let file = CacheOptions::new().limit(2 << 20).build().open(object.clone()).unwrap();
    let map = file.map(0..bytes.len() as u64, Rights::Read, Mode::Mprotect).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (map, bytes) = (&map, &bytes);
            scope.spawn(move || {
                let part = bytes.len() / THREADS;
                let mut read = vec![0; part];
                assert_eq!(copy(&map.read_view().unwrap(), &mut read, thread * part).0, part, "{:?}", map.last_error());
                assert!(read == bytes[thread * part..(thread + 1) * part]);
            });
        }
    });
    assert!(object.stats().ahead > 50, "{:?}", object.stats());
}

#[test]
fn a_read_that_must_not_wait_gets_what_is_in_memory() {
    let bytes = pattern(40 * BLOCK, 1);
    let backend = Scripted::new(&bytes);
    let object = open(StoreOptions::new().read_ahead(false), &backend);
    let mut read = [0; 100];
    let error = object.try_read_at(&mut read, 5 * BLOCK as u64).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    // The first block has come with the object, and a part of another one with a read.
    assert_eq!(object.read(&mut [0; 10], 5 * BLOCK as u64).unwrap(), 10);
    for pos in [10, 5 * BLOCK + 1000] {
        assert_eq!(object.try_read_at(&mut read, pos as u64).unwrap(), 100);
        assert_eq!(read, bytes[pos..pos + 100]);
    }
    assert_eq!(object.try_read_at(&mut read, bytes.len() as u64).unwrap(), 0);
    let file = Cache::new().open(object).unwrap();
    assert!(file.try_read_at(&mut read, 20 * BLOCK as u64).is_err());
    file.read_at(&mut read, 20 * BLOCK as u64).unwrap();
    assert_eq!(file.try_read_at(&mut read, 20 * BLOCK as u64).unwrap(), 100);
}

/// Faults of a mapping are resolved one after the other, so each thread waits for the others' blocks, too.
#[test]
fn the_windows_of_four_scans_of_a_mapping_grow_while_they_wait_for_each_other() {
    const THREADS: usize = 4;
    // Parts that do not begin with a block.
    let bytes = pattern(20_000_000, 1);
    let backend = Scripted::new(&bytes);
    backend.delay(Duration::from_millis(50));
    let object = open(StoreOptions::new(), &backend);
    let file = CacheOptions::new().limit(64 << 20).build().open(object.clone()).unwrap();
    let map = file.map(0..bytes.len() as u64, Rights::Read, Mode::Mprotect).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (map, bytes) = (&map, &bytes);
            scope.spawn(move || {
                let (part, view) = (bytes.len() / THREADS, map.read_view().unwrap());
                let mut read = vec![0; BLOCK];
                for at in (0..part).step_by(BLOCK) {
                    let (at, len) = (thread * part + at, BLOCK.min(part - at));
                    assert_eq!(copy(&view, &mut read[..len], at).0, len, "{:?}", map.last_error());
                    assert!(read[..len] == bytes[at..at + len], "{at}");
                }
            });
        }
    });
    let (requests, blocks) = (backend.requests().len(), bytes.len() / BLOCK);
    assert!(requests < blocks * 3 / 4, "{requests} requests for {blocks} blocks: {:?}", object.stats());
}

/// At the moment of the fork another thread may hold any lock, such as one of the connections.
#[test]
fn a_child_that_drops_a_store_and_its_objects_waits_for_no_lock() {
    let backend = Scripted::new(&pattern(4 * BLOCK, 1));
    let object = open(StoreOptions::new(), &backend);
    let store = object.store().clone();
    let dropping = backend.dropping();
    drop(backend);
    let held = dropping.lock().unwrap();
    // SAFETY: the child only drops these, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends this process if it waits.
        unsafe { libc::alarm(5) };
        drop((object, store));
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child waits for a lock");
    drop(held);
}
