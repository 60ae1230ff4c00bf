//! [`Register`]: the counters of the handles and stores of a cache, and what those had counted that are closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use slab::Slab;

use super::calls::Calls;
use super::handle::Counters;
use super::{CacheStats, HandleStats, StoreStats};
use crate::signals::without_signals;

/// All counters of a cache, in lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Register {
    evictions: AtomicU64,
    evicted: AtomicU64,
    entries: Mutex<Entries>,
    /// The process that has made the cache. In a child of `fork`, another thread may have had the lock.
    process: u32,
}

#[derive(Debug, Default)]
struct Entries {
    handles: Slab<Arc<Counters>>,
    closed: HandleStats,
    stores: Slab<Arc<Calls>>,
    closed_stores: StoreStats,
}

impl Register {
    pub(crate) fn new() -> Register {
        let zero = || AtomicU64::new(0);
        Register { evictions: zero(), evicted: zero(), entries: Mutex::default(), process: faultin::process() }
    }

    /// A pager thread that drops the last reference to a file needs the entries.
    fn with_entries<T>(&self, with: impl FnOnce(&mut Entries) -> T) -> T {
        without_signals(|| with(&mut self.entries.lock()))
    }

    fn is_ours(&self) -> bool {
        self.process == faultin::process()
    }

    /// Enters a handle. Returns its key, which it needs to leave.
    pub(crate) fn enter(&self, counters: &Arc<Counters>) -> Option<usize> {
        self.is_ours().then(|| self.with_entries(|entries| entries.handles.insert(Arc::clone(counters))))
    }

    /// Keeps what a handle has counted, which counts no more.
    pub(crate) fn leave(&self, key: Option<usize>, counters: &Counters) {
        if let Some(key) = key.filter(|_| self.is_ours()) {
            let entered = self.with_entries(|entries| {
                entries.closed += counters.stats();
                entries.handles.try_remove(key)
            });
            drop(entered);
        }
    }

    pub(super) fn enter_store(&self, calls: &Arc<Calls>) -> Option<usize> {
        self.is_ours().then(|| self.with_entries(|entries| entries.stores.insert(Arc::clone(calls))))
    }

    pub(super) fn leave_store(&self, key: Option<usize>, calls: &Calls) {
        if let Some(key) = key.filter(|_| self.is_ours()) {
            let entered = self.with_entries(|entries| {
                entries.closed_stores += calls.stats();
                entries.stores.try_remove(key)
            });
            drop(entered);
        }
    }

    /// Counts an eviction of this many bytes.
    pub(crate) fn evicted(&self, bytes: usize) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.evicted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the sums; `dirty` and `used` are the caller's to set.
    pub(crate) fn stats(&self) -> CacheStats {
        let (all, store) = self.with_entries(|entries| {
            let (mut all, mut store) = (entries.closed, entries.closed_stores);
            entries.handles.iter().for_each(|(_, counters)| all += counters.stats());
            entries.stores.iter().for_each(|(_, calls)| store += calls.stats());
            (all, store)
        });
        CacheStats {
            // A read may have been counted in between as one that waited, and not yet as a read.
            hits: all.reads.saturating_sub(all.misses),
            misses: all.misses,
            writes: all.writes,
            read: all.read,
            written: all.written,
            waits: all.waits,
            waited: all.waited,
            errors: all.errors,
            evictions: self.evictions.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            dirty: 0,
            used: 0,
            store,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Cache;
    use crate::signals::tests::assert_waits_without_signals;
    use crate::store::MemoryStore;

    #[test]
    fn who_waits_for_the_entries_has_its_signals_blocked() {
        let cache = Cache::new();
        let file = cache.open(MemoryStore::new([7; 100])).unwrap();
        let register = &file.inode().cache().register;
        let again = file.clone();
        assert_waits_without_signals(register.entries.lock(), || _ = cache.stats());
        assert_waits_without_signals(register.entries.lock(), || drop(cache.open(MemoryStore::new([])).unwrap()));
        assert_waits_without_signals(register.entries.lock(), || drop(again));
    }
}
