//! [`Register`]: the counters of the handles and stores of a cache, and what those had counted that are closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use slab::Slab;

use super::calls::Calls;
use super::handle::Counters;
use super::{CacheStats, HandleStats, StoreStats};

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

    fn is_ours(&self) -> bool {
        self.process == faultin::process()
    }

    /// Enters a handle. Returns its key, which it needs to leave.
    pub(crate) fn enter(&self, counters: &Arc<Counters>) -> Option<usize> {
        self.is_ours().then(|| self.entries.lock().handles.insert(Arc::clone(counters)))
    }

    /// Keeps what a handle has counted, which counts no more.
    pub(crate) fn leave(&self, key: Option<usize>, counters: &Counters) {
        if let Some(key) = key.filter(|_| self.is_ours()) {
            let mut entries = self.entries.lock();
            entries.handles.try_remove(key);
            entries.closed += counters.stats();
        }
    }

    pub(super) fn enter_store(&self, calls: &Arc<Calls>) -> Option<usize> {
        self.is_ours().then(|| self.entries.lock().stores.insert(Arc::clone(calls)))
    }

    pub(super) fn leave_store(&self, key: Option<usize>, calls: &Calls) {
        if let Some(key) = key.filter(|_| self.is_ours()) {
            let mut entries = self.entries.lock();
            entries.stores.try_remove(key);
            entries.closed_stores += calls.stats();
        }
    }

    /// Counts an eviction of this many bytes.
    pub(crate) fn evicted(&self, bytes: usize) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.evicted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the sums; `dirty` and `used` are the caller's to set.
    pub(crate) fn stats(&self) -> CacheStats {
        let (mut all, mut store);
        {
            let entries = self.entries.lock();
            (all, store) = (entries.closed, entries.closed_stores);
            entries.handles.iter().for_each(|(_, counters)| all += counters.stats());
            entries.stores.iter().for_each(|(_, calls)| store += calls.stats());
        }
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
