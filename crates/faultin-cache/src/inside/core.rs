//! [`Core`]: all that a signal handler needs of a file.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::folio::{Arena, Geometry, Home, Table};
use crate::lock::{Lock, LockKind};
use crate::stats::Calls;
use crate::store::Length;

/// The part of a file that a signal handler may use: not its store, which is foreign code.
pub(crate) struct Core {
    table: Lock<Table>,
    geometry: Geometry,
    arena: Arc<Arena>,
    store_len: Length,
    calls: Arc<Calls>,
    reserves: bool,
    /// Number of dirty bytes, which are reserved if the writes reserve.
    dirty: AtomicU64,
}

impl Core {
    pub(crate) fn new(
        home: Home,
        table: Table,
        geometry: Geometry,
        arena: Arc<Arena>,
        store_len: Length,
        calls: Arc<Calls>,
        reserves: bool,
    ) -> Core {
        let table = Lock::new(home.number, LockKind::Inode, table);
        Core { table, geometry, arena, store_len, calls, reserves, dirty: AtomicU64::new(0) }
    }

    /// Returns the folios, the length and the mappings of the file, in the inode lock.
    #[inline]
    pub(crate) fn table(&self) -> &Lock<Table> {
        &self.table
    }

    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns the memory of the cache.
    pub(crate) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Returns what is known of the length of the store. Only calls of the store change it.
    #[inline]
    pub(crate) fn store_len(&self) -> &Length {
        &self.store_len
    }

    /// Returns the counters of the store.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Returns whether space in the store is reserved for dirty bytes.
    pub(crate) fn reserves(&self) -> bool {
        self.reserves
    }

    /// Returns the number of dirty bytes.
    #[inline]
    pub(crate) fn dirty(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Notes that `bytes` more bytes are dirty.
    #[inline]
    pub(crate) fn add_dirty(&self, bytes: usize) {
        if bytes > 0 {
            self.dirty.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Notes that `bytes` bytes are no longer dirty.
    pub(crate) fn cleaned(&self, bytes: usize) {
        self.dirty.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}
