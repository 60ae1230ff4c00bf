//! Threads that evict clean pages all the time: each read ends nevertheless, with its bytes or with the reason.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use std::{io, iter};

use faultin::Fault;
use faultin::iov::{IovDest, IovSource};
use faultin_cache::copy::MayWait;
use faultin_cache::pager::Mode;
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::write::{NO_PROGRESS, Observer};
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::counted::{map, pattern};

const PAGE: usize = 4096;

/// A slow store.
struct Slow(MemoryStore);

impl Store for Slow {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        thread::sleep(Duration::from_micros(200));
        self.0.read_at(buf, pos)
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

/// Runs something while two threads drop all clean folios.
fn beside<R>(cache: &Cache, file: &CachedFile, what: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for by_file in [false, true] {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if by_file {
                        file.dont_need(0..u64::MAX).unwrap();
                    } else {
                        cache.drop_clean();
                    }
                }
            });
        }
        let result = what();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Evicts all clean folios of two files whenever no lock is held, and counts the rounds.
struct Evicts<'a> {
    files: [&'a CachedFile; 2],
    filled: u32,
    faulted_in: u32,
}

impl Evicts<'_> {
    fn evict(&self) {
        assert!(self.filled + self.faulted_in < 1000, "{} fills and {} fault-ins", self.filled, self.faulted_in);
        self.files.iter().for_each(|file| file.dont_need(0..u64::MAX).unwrap());
    }
}

impl Observer for Evicts<'_> {
    fn filled(&mut self) {
        self.filled += 1;
        self.evict();
    }
    fn faulted_in(&mut self, _: usize, _: &Result<NonZeroUsize, Fault>) {
        self.faulted_in += 1;
        self.evict();
    }
}

/// One thread: everything that a read has faulted in is evicted before its next round.
#[test]
fn a_read_whose_pages_are_evicted_before_each_round() {
    watchdog::start();
    let bytes = pattern(4 * PAGE, 1);
    for mode in Mode::ALL {
        let cache = CacheOptions::new().limit(64 << 20).build();
        let file = cache.open(MemoryStore::new(bytes.clone())).unwrap();
        let other = cache.open(MemoryStore::new(pattern(2 * PAGE, 2))).unwrap();
        let Some(mapping) = map(&other, 4 * PAGE, mode) else { continue };
        // Two pages that become dirty when they are faulted in, two that do not exist, and the boundary between them.
        for (range, good) in [(0..2 * PAGE, 2 * PAGE), (2 * PAGE..4 * PAGE, 0), (PAGE..3 * PAGE, PAGE)] {
            for direct in [false, true] {
                file.dont_need(0..u64::MAX).unwrap();
                let mut to = IovDest::one(mapping.write_view().unwrap().subslice(range.clone()).unwrap());
                let mut evicts = Evicts { files: [&file, &other], filled: 0, faulted_in: 0 };
                let read = match direct {
                    false => file.read_iter_with::<_, MayWait>(&mut to, 100, &mut evicts),
                    true => file.read_direct_with::<_, MayWait>(&mut to, 100, &mut evicts),
                };
                let case = format!("{mode:?}, {range:?}, direct: {direct}");
                match read {
                    Ok(done) => assert_eq!((done, good), (range.len(), range.len()), "{case}"),
                    Err(Partial { done, error: Error::Fault(_) }) => assert_eq!(done, good, "{case}"),
                    Err(partial) => panic!("{case}: {partial}"),
                }
                let mut is = vec![0; good];
                other.read_at(&mut is, range.start as u64).unwrap();
                assert_same(&is, &bytes[100..100 + good], &case);
            }
        }
    }
}

/// One thread: the source of a write is evicted before each round, until the mapping spares the page that is faulted in
/// repeatedly.
#[test]
fn a_write_whose_source_is_evicted_before_each_round() {
    watchdog::start();
    let bytes = pattern(4 * PAGE, 1);
    for mode in Mode::ALL {
        let cache = CacheOptions::new().limit(64 << 20).build();
        let source = cache.open(MemoryStore::new(bytes.clone())).unwrap();
        let file = cache.open(MemoryStore::new(pattern(2 * PAGE, 2))).unwrap();
        let Some(mapping) = map(&source, 4 * PAGE, mode) else { continue };
        for direct in [false, true] {
            let mut from = IovSource::one(mapping.read_view().unwrap());
            let mut evicts = Evicts { files: [&file, &source], filled: 0, faulted_in: 0 };
            let written = match direct {
                false => file.write_iter_with::<_, MayWait>(&mut from, 0, &mut evicts),
                true => file.write_direct_with::<_, MayWait>(&mut from, 0, &mut evicts),
            };
            assert_eq!(written.map_err(|partial| partial.to_string()), Ok(4 * PAGE), "{mode:?}, direct: {direct}");
            let most = 4 * NO_PROGRESS;
            assert!(evicts.faulted_in <= most, "{mode:?}, direct: {direct}: {} fault-ins", evicts.faulted_in);
            let mut is = vec![0; 4 * PAGE];
            file.read_at(&mut is, 0).unwrap();
            assert_same(&is, &bytes, &format!("{mode:?}, direct: {direct}"));
        }
    }
}

/// Evicts a file at every third fault.
struct EvictsSome<'a> {
    file: &'a CachedFile,
    faulted_in: usize,
}

impl Observer for EvictsSome<'_> {
    fn faulted_in(&mut self, _: usize, _: &Result<NonZeroUsize, Fault>) {
        self.faulted_in += 1;
        if self.faulted_in.is_multiple_of(3) {
            self.file.dont_need(0..u64::MAX).unwrap();
        }
    }
}

/// A loop that requests only what it has faulted in requests more than a byte, also when much of it is evicted.
#[test]
fn a_loop_that_faults_in_first_moves_many_bytes_a_round_whatever_is_evicted() {
    watchdog::start();
    let len = 16 * PAGE;
    let bytes = pattern(len, 1);
    for mode in Mode::ALL {
        for how in [kernel_loops::GENERIC_PERFORM_WRITE_5_18, kernel_loops::FUSE_FILL_WRITE_PAGES_5_16] {
            let cache = CacheOptions::new().limit(64 << 20).build();
            let source = cache.open(MemoryStore::new(bytes.clone())).unwrap();
            let options = FileOptions::new().write_loop(how.clone());
            let file = cache.open_with(MemoryStore::new([]), options).unwrap();
            let Some(mapping) = map(&source, len, mode) else { continue };
            let mut evicts = EvictsSome { file: &source, faulted_in: 0 };
            let mut from = IovSource::one(mapping.read_view().unwrap());
            let written = file.write_iter_with::<_, MayWait>(&mut from, 0, &mut evicts);
            assert_eq!(written.map_err(|partial| partial.to_string()), Ok(len), "{mode:?}, {how:?}");
            let rounds = evicts.faulted_in;
            assert!(rounds <= len / 128, "{mode:?}, {how:?}: {rounds} times something was faulted in for {len} bytes");
            let mut is = vec![0; len];
            file.read_at(&mut is, 0).unwrap();
            assert_same(&is, &bytes, &format!("{mode:?}, {how:?}"));
        }
    }
}

/// A read to memory that is not writable ends with that error after the bytes before it.
#[test]
fn a_read_to_bad_memory_reports_it_whatever_is_evicted() {
    watchdog::start();
    let cache = CacheOptions::new().limit(64 << 20).build();
    let file = cache.open(Slow(MemoryStore::new(pattern(16 * PAGE, 1)))).unwrap();
    let other = cache.open(MemoryStore::new(pattern(PAGE, 2))).unwrap();
    for mode in Mode::ALL {
        // There is nothing past the end of the file.
        let Some(mapping) = map(&other, 4 * PAGE, mode) else { continue };
        for good in [0, PAGE / 2] {
            let view = mapping.write_view().unwrap().subslice(PAGE - good..4 * PAGE).unwrap();
            let read = |direct: bool| -> Result<usize, Partial> {
                let mut to = IovDest::one(view);
                if direct { file.read_direct(&mut to, 0) } else { file.read_iter(&mut to, 0) }
            };
            for direct in [false, true] {
                let partial = beside(&cache, &file, || read(direct)).unwrap_err();
                assert_eq!(partial.done, good, "{mode:?}, direct: {direct}: {partial}");
                assert!(matches!(partial.error, Error::Fault(_)), "{mode:?}, direct: {direct}: {partial}");
            }
        }
    }
}

/// A read to a mapping, whose pages are dirty once they are faulted in, completes.
#[test]
fn a_read_to_a_mapping_completes_whatever_is_evicted() {
    watchdog::start();
    let bytes = pattern(8 * PAGE, 1);
    for mode in Mode::ALL {
        let cache = CacheOptions::new().limit(64 << 20).build();
        let file = cache.open(Slow(MemoryStore::new(bytes.clone()))).unwrap();
        let other = cache.open(MemoryStore::new(vec![0; 8 * PAGE])).unwrap();
        let Some(mapping) = map(&other, 8 * PAGE, mode) else { continue };
        let read = beside(&cache, &file, || file.read_iter(&mut IovDest::one(mapping.write_view().unwrap()), 0));
        assert_eq!(read.map_err(|partial| partial.to_string()), Ok(8 * PAGE), "{mode:?}");
        let mut is = vec![0; 8 * PAGE];
        other.read_at(&mut is, 0).unwrap();
        assert_same(&is, &bytes, &format!("{mode:?}"));
    }
}

/// A write from a mapping of a clean file moves some or all bytes, and ends.
#[test]
fn a_write_from_a_mapping_ends_whatever_is_evicted() {
    watchdog::start();
    let bytes = pattern(8 * PAGE, 1);
    for mode in Mode::ALL {
        let cache = CacheOptions::new().limit(64 << 20).build();
        let source = cache.open(Slow(MemoryStore::new(bytes.clone()))).unwrap();
        let file = cache.open(MemoryStore::new([])).unwrap();
        let Some(mapping) = map(&source, 8 * PAGE, mode) else { continue };
        for direct in [false, true] {
            let mut from = IovSource::one(mapping.read_view().unwrap());
            let written = beside(&cache, &source, || match direct {
                false => file.write_iter(&mut from, 0),
                true => file.write_direct(&mut from, 0),
            });
            let done = written.unwrap_or_else(|partial| partial.done);
            let mut is = vec![0; done];
            assert_eq!(file.read_at(&mut is, 0).unwrap(), done);
            assert_same(&is, &bytes[..done], &format!("{mode:?}, direct: {direct}"));
        }
    }
}

/// Readahead on request goes over its range once.
#[test]
fn will_need_ends_whatever_is_evicted() {
    watchdog::start();
    let cache = CacheOptions::new().limit(64 << 20).build();
    let file = cache.open(Slow(MemoryStore::new(pattern(64 * PAGE, 1)))).unwrap();
    for range in iter::repeat_n(0..64 * PAGE as u64, 4) {
        beside(&cache, &file, || file.will_need(range)).unwrap();
    }
}
