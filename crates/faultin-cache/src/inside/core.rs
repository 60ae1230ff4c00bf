//! [`Core`]: all that a signal handler needs of a file.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::folio::{Arena, Geometry, Table};
use crate::lock::Lock;
use crate::stats::Calls;
use crate::store::Length;

/// The part of a file that a signal handler may use: not its store, which is foreign code.
pub(crate) struct Core {
    /// The inode lock.
    pub(crate) table: Lock<Table>,
    pub(crate) geometry: Geometry,
    /// The memory of the cache.
    pub(crate) arena: Arc<Arena>,
    /// The length of the store.
    pub(crate) store_len: Length,
    /// The counters of the store.
    pub(crate) calls: Arc<Calls>,
    /// Whether space in the store is reserved for dirty bytes.
    pub(crate) reserves: bool,
    /// Number of dirty bytes, which are reserved if the writes reserve.
    pub(crate) dirty: AtomicU64,
}

impl Core {
    /// Notes that `bytes` more bytes are dirty.
    pub(crate) fn add_dirty(&self, bytes: usize) {
        if bytes > 0 {
            self.dirty.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}
