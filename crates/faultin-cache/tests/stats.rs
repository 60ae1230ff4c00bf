//! What a cache counts: hits, misses, evictions, waits, bytes and errors, of the cache, by handle, and by store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use faultin::iov::IovDest;
use faultin::map::Rights;
use faultin::{ReadView, WriteView, page_size};
use faultin_cache::pager::Mode;
use faultin_cache::stats::{CacheStats, HandleStats};
use faultin_cache::store::{FileStore, MemoryStore, Store};
use faultin_cache::{Advice, Cache, CacheOptions, Error};

const BLOCK: usize = 4096;

fn cache(blocks: usize) -> Cache {
    CacheOptions::new().block(BLOCK).limit(blocks * BLOCK).build()
}

/// A store in memory that fails while it is told to, and takes a while.
struct Failing {
    inner: MemoryStore,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn new(bytes: usize) -> (Failing, Arc<AtomicBool>) {
        let fails = Arc::new(AtomicBool::new(false));
        (Failing { inner: MemoryStore::new(vec![7; bytes]), fails: Arc::clone(&fails) }, fails)
    }

    fn check(&self) -> io::Result<()> {
        if self.fails.load(SeqCst) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Store for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        self.check().and_then(|()| self.inner.read_at(buf, pos))
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.check().and_then(|()| self.inner.write_at(buf, pos))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check().and_then(|()| self.inner.set_len(len))
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        self.check()
    }
}

#[test]
fn hits_misses_waits_and_bytes_are_those_of_the_reads() {
    let cache = cache(64);
    let (store, _) = Failing::new(8 * BLOCK);
    let file = cache.open(store).expect("open it");
    file.advise(Advice::Random);
    let mut bytes = [0; 100];
    for _ in 0..3 {
        for block in [0, 5] {
            assert_eq!(file.read_at(&mut bytes, block * BLOCK as u64).expect("read it"), 100);
        }
    }
    let stats = file.stats();
    assert_eq!((stats.reads, stats.misses, stats.read), (6, 2, 600));
    assert_eq!((stats.waits, stats.writes, stats.errors), (2, 0, 0));
    assert!(stats.waited >= Duration::from_millis(2), "the store has slept twice: {:?}", stats.waited);
    let of_store = file.store_stats();
    assert_eq!((of_store.reads, of_store.read, of_store.errors()), (2, 2 * BLOCK as u64, 0));
    let all = cache.stats();
    assert_eq!((all.hits, all.misses, all.read, all.evictions), (4, 2, 600, 0));
    assert_eq!((all.used, all.dirty, all.store.reads), (2 * BLOCK as u64, 0, 2));
    assert_eq!(all.waited, stats.waited);
}

#[test]
fn a_read_past_the_cache_is_a_miss_each_time() {
    let cache = cache(64);
    let file = cache.open(MemoryStore::new(vec![7; 8 * BLOCK])).expect("open it");
    for _ in 0..2 {
        let mut bytes = [0; 50];
        let read = file.read_direct(&mut IovDest::<WriteView<'_>>::one(&mut bytes[..]), 10);
        assert_eq!(read.expect("read it"), 50);
    }
    let stats = file.stats();
    assert_eq!((stats.reads, stats.misses, stats.read), (2, 2, 100));
}

#[test]
fn each_handle_counts_for_itself_and_the_cache_for_all_also_for_closed_ones() {
    let cache = cache(64);
    let file = cache.open(MemoryStore::new(vec![7; 8 * BLOCK])).expect("open it");
    let other = file.clone();
    assert_eq!(other.stats(), HandleStats::default());
    file.write_at(&[1; 10], 0).expect("write it");
    other.read_at(&mut [0; 20], 0).expect("read it");
    other.append(&[2; 30]).expect("append it");
    assert_eq!((file.stats().writes, file.stats().written, file.stats().reads), (1, 10, 0));
    assert_eq!((other.stats().writes, other.stats().written, other.stats().read), (1, 30, 20));
    let before = cache.stats();
    assert_eq!((before.writes, before.written, before.read), (2, 40, 20));
    assert_eq!(before.dirty, file.dirty());
    drop((file, other));
    let after = cache.stats();
    assert_eq!((after.writes, after.written, after.read, after.dirty), (2, 40, 20, 0), "it was written back");
    assert!(after.store.written >= 40);
    let CacheStats { store, .. } = after.since(&before);
    assert_eq!((store.reads, store.errors()), (0, 0));
}

#[test]
fn evictions_are_counted() {
    let cache = cache(16);
    let file = cache.open(MemoryStore::new(vec![7; 64 * BLOCK])).expect("open it");
    file.advise(Advice::Random);
    for block in 0..64 {
        file.read_at(&mut [0; 10], block * BLOCK as u64).expect("read it");
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.store.reads), (64, 64));
    assert_eq!(stats.evicted, 64 * BLOCK as u64 - stats.used);
    assert!(stats.evictions > 0 && stats.used <= 16 * BLOCK as u64);
    // What the caller evicts is no eviction.
    file.dont_need(0..u64::MAX).expect("evict it");
    assert_eq!(cache.stats().evicted, stats.evicted);
}

#[test]
fn errors_are_counted_by_handle_and_by_store() {
    let cache = cache(64);
    let (store, fails) = Failing::new(8 * BLOCK);
    let file = cache.open(store).expect("open it");
    let other = file.clone();
    file.write_at(&[1; BLOCK], 0).expect("write it");
    fails.store(true, SeqCst);
    let error = file.read_at(&mut [0; 10], 4 * BLOCK as u64).expect_err("the store fails");
    assert!(matches!(error.error, Error::Store(_)));
    assert!(matches!(file.write_back(0..u64::MAX), Err(Error::Store(_))));
    assert!(file.set_len(5 * BLOCK as u64).is_err());
    let stats = file.stats();
    assert_eq!((stats.errors, stats.reads, stats.read, other.stats().errors), (3, 1, 0, 0));
    let of_store = file.store_stats();
    assert_eq!((of_store.read_errors, of_store.write_errors, of_store.other_errors), (1, 1, 1));
    fails.store(false, SeqCst);
    file.sync_all().expect_err("it reports the failed write once");
    file.sync_all().expect("the store works");
    assert_eq!((cache.stats().errors, cache.stats().store.errors()), (4, 3));
}

#[test]
fn reads_in_a_signal_are_reads_of_the_store() {
    let page = page_size();
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(8 * page as u64).expect("set its length");
    let cache = CacheOptions::new().block(page).build();
    let file = cache.open(FileStore::new(file).expect("a store")).expect("open it");
    let mapping = match file.map(0..8 * page as u64, Rights::Read, Mode::Mprotect) {
        Ok(mapping) => mapping,
        Err(error) => panic!("the mode that works everywhere: {error}"),
    };
    // SAFETY: a page of the mapping.
    assert_eq!(unsafe { mapping.as_ptr().cast_const().add(3 * page).read_volatile() }, 0);
    let stats = file.store_stats();
    assert!(stats.reads >= 1 && stats.read >= page as u64, "{stats:?}");
    assert_eq!(file.stats(), HandleStats::default(), "what is done through a mapping is not the handle's");
    let views: ReadView<'_> = mapping.read_view().expect("a view");
    assert_eq!(views.load::<u8>(3 * page).expect("it is resident"), 0);
}
