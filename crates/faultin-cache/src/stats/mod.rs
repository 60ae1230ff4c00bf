//! What a cache has done so far: for all of its files, by handle, and by store.
//!
//! Numbers that each read and write changes are in a cache line of the handle, and the thread that uses the handle changes them
//! by plain stores (`handle.rs`). So a hit writes to no line that another thread uses, and needs no atomic
//! read-modify-write operation. Everything else is counted where the store is called or a folio is evicted.

#![forbid(unsafe_code)]

mod calls;
mod handle;
mod register;
mod store;

use std::ops::AddAssign;
use std::time::Duration;

pub(crate) use calls::Calls;
pub(crate) use handle::{Counters, Operation};
pub(crate) use register::Register;
pub(crate) use store::Counted;

/// What a [`Cache`](crate::Cache) has done since it was made. Each number is exact; together they are no snapshot, as long as
/// other threads use the cache.
///
/// ```
/// use faultin_cache::{CacheOptions, store::MemoryStore};
///
/// let cache = CacheOptions::new().build();
/// let file = cache.open(MemoryStore::new(vec![7; 10_000]))?;
/// let before = cache.stats();
/// let mut bytes = [0; 100];
/// file.read_at(&mut bytes, 0)?;
/// file.read_at(&mut bytes, 50)?;
/// let new = cache.stats().since(&before);
/// assert_eq!((new.misses, new.hits, new.read), (1, 1, 200));
/// assert_eq!((new.store.reads, new.errors), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Number of reads that called no store.
    pub hits: u64,
    /// Number of reads that waited for a store, among them all that go past the cache.
    pub misses: u64,
    /// Number of writes, also past the cache.
    pub writes: u64,
    /// Number of bytes read by handles.
    pub read: u64,
    /// Number of bytes written by handles.
    pub written: u64,
    /// Number of reads and writes that waited for a store.
    pub waits: u64,
    /// Time that reads and writes have waited for stores. (A read that waits until another one has filled the same blocks
    /// waits for a lock: that time is not known.)
    pub waited: Duration,
    /// Number of operations of handles that ended with an error: see [`HandleStats::errors`].
    pub errors: u64,
    /// Number of folios that were evicted to make room.
    pub evictions: u64,
    /// Number of bytes of these folios.
    pub evicted: u64,
    /// Number of dirty bytes now.
    pub dirty: u64,
    /// Size of all folios in bytes now.
    pub used: u64,
    /// The calls of all stores.
    pub store: StoreStats,
}

impl CacheStats {
    /// Returns what was counted after `earlier`; `dirty` and `used` are those of now.
    #[must_use]
    pub fn since(&self, earlier: &CacheStats) -> CacheStats {
        CacheStats {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
            writes: self.writes.saturating_sub(earlier.writes),
            read: self.read.saturating_sub(earlier.read),
            written: self.written.saturating_sub(earlier.written),
            waits: self.waits.saturating_sub(earlier.waits),
            waited: self.waited.saturating_sub(earlier.waited),
            errors: self.errors.saturating_sub(earlier.errors),
            evictions: self.evictions.saturating_sub(earlier.evictions),
            evicted: self.evicted.saturating_sub(earlier.evicted),
            dirty: self.dirty,
            used: self.used,
            store: self.store.since(&earlier.store),
        }
    }
}

/// What a [`CachedFile`](crate::CachedFile) has done since it was opened or cloned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandleStats {
    /// Number of reads, also past the cache.
    pub reads: u64,
    /// Number of these that waited for the store.
    pub misses: u64,
    /// Number of bytes read.
    pub read: u64,
    /// Number of writes, also past the cache.
    pub writes: u64,
    /// Number of bytes written.
    pub written: u64,
    /// Number of reads and writes that waited for a store: to read what was not cached, or to write dirty blocks, of any file,
    /// that had to make room.
    pub waits: u64,
    /// The time that these have waited.
    pub waited: Duration,
    /// Number of operations that ended with an error of the store, the buffer, or the cache.
    pub errors: u64,
}

impl AddAssign for HandleStats {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.misses += other.misses;
        self.read += other.read;
        self.writes += other.writes;
        self.written += other.written;
        self.waits += other.waits;
        self.waited += other.waited;
        self.errors += other.errors;
    }
}

/// The calls of a [`Store`](crate::store::Store), or of all of them. An answer that the store cannot do something
/// ([`Unsupported`](std::io::ErrorKind::Unsupported)) is no error, and neither is an interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Number of ranges that were to be read.
    pub reads: u64,
    /// Number of bytes that these have read.
    pub read: u64,
    /// Number of ranges that could not be read.
    pub read_errors: u64,
    /// Number of ranges that were to be written.
    pub writes: u64,
    /// Number of bytes that were written.
    pub written: u64,
    /// Number of ranges that could not be written.
    pub write_errors: u64,
    /// Number of other calls that failed: syncs, changes of the length, allocations, holes.
    pub other_errors: u64,
    /// The time that the calls have taken.
    pub time: Duration,
}

impl StoreStats {
    /// Returns the number of calls and ranges that failed: a metric that stays zero as long as the stores work.
    pub fn errors(&self) -> u64 {
        self.read_errors + self.write_errors + self.other_errors
    }

    /// Returns what was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &StoreStats) -> StoreStats {
        StoreStats {
            reads: self.reads.saturating_sub(earlier.reads),
            read: self.read.saturating_sub(earlier.read),
            read_errors: self.read_errors.saturating_sub(earlier.read_errors),
            writes: self.writes.saturating_sub(earlier.writes),
            written: self.written.saturating_sub(earlier.written),
            write_errors: self.write_errors.saturating_sub(earlier.write_errors),
            other_errors: self.other_errors.saturating_sub(earlier.other_errors),
            time: self.time.saturating_sub(earlier.time),
        }
    }
}

impl AddAssign for StoreStats {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.read += other.read;
        self.read_errors += other.read_errors;
        self.writes += other.writes;
        self.written += other.written;
        self.write_errors += other.write_errors;
        self.other_errors += other.other_errors;
        self.time += other.time;
    }
}
