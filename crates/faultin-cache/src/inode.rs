//! A file of a cache: its folios, its locks, its store; and what the files of a cache share.

#![forbid(unsafe_code)]

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use parking_lot::Mutex;
use slab::Slab;

use crate::error::Error;
use crate::errors::Errors;
use crate::folio::{Arena, Folio, Geometry, Home, Key, Table};
use crate::inside::core::Core;
use crate::limit::follower::Follower;
use crate::lock::{Lock, LockKind};
use crate::many::recent::Recent;
use crate::pager::post::PagerThread;
use crate::prefetch::queue::Prefetcher;
use crate::signals::without_signals;
use crate::stats::{Calls, Register};
use crate::store::{Length, MAX_BYTES, Store, Stored};
use crate::write::WriteLoop;

/// A file, shared by its handles. Aligned, because a cache line with locks of two files would move back and forth between
/// the threads that use one each.
#[repr(align(128))]
pub(crate) struct Inode {
    number: u64,
    slot: u32,
    /// Number of [`CachedFile`](crate::CachedFile)s of it.
    handles: AtomicUsize,
    cache: Arc<Shared>,
    store: Box<dyn Store>,
    how: WriteLoop,
    writers: Lock<()>,
    core: Core,
    writeback: Lock<()>,
    syncing: Lock<()>,
    errors: Mutex<Errors>,
    pager: OnceLock<PagerThread>,
}

/// A handler has the core alone; all other code uses it as a part of the inode.
impl Deref for Inode {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

/// The data that the files of a cache share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) arena: Arc<Arena>,
    pub(crate) block: usize,
    /// Files that are open, or closed and dirty, each in its slot.
    pub(crate) files: Mutex<Slab<Arc<Inode>>>,
    /// Whether the last clone of the [`Cache`] was dropped.
    pub(crate) ownerless: AtomicBool,
    pub(crate) refusals: Refusals,
    pub(crate) numbers: AtomicU64,
    pub(crate) register: Arc<Register>,
    pub(crate) prefetcher: Prefetcher<Inode>,
    /// Number of bytes that are being [fetched](crate::fetch), and in no table yet.
    pub(crate) filling: AtomicUsize,
    pub(crate) recent: Recent,
    pub(crate) follower: OnceLock<Option<Follower>>,
}

/// The reason why a folio is brought in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A copy by this crate, which needs one folio at a time. Its loop is bounded.
    Copy,
    /// An access through a mapping, which is repeated until all its folios are accessible, at most two of a
    /// file at once.
    Access,
}

/// Memory that the cache has denied because stores do not take dirty blocks.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Changed with the lock.
    pub(crate) count: AtomicU64,
    pub(crate) last: Mutex<Option<Arc<io::Error>>>,
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inode").field("number", &self.number).finish_non_exhaustive()
    }
}

/// # Errors
/// [`Error::TooLarge`] if no file can have the range.
pub(crate) fn check_range(pos: u64, len: usize) -> Result<(), Error> {
    match pos.checked_add(len as u64) {
        Some(end) if end <= MAX_BYTES => Ok(()),
        _ => Err(Error::TooLarge { pos, len: len as u64 }),
    }
}

impl Inode {
    /// Checks that the file can have a byte at each of `len` positions from `pos` on.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if no file can; [`Error::FixedLength`] if the store's length ends before.
    pub(crate) fn check_growth(&self, pos: u64, len: usize) -> Result<(), Error> {
        check_range(pos, len)?;
        let length = self.store_len();
        let size = length.least();
        if length.is_fixed() && len > 0 && pos + len as u64 > size {
            return Err(Error::FixedLength { pos, len: len as u64, size });
        }
        Ok(())
    }

    pub(crate) fn new(
        Home { number, slot }: Home,
        cache: Arc<Shared>,
        store: Box<dyn Store>,
        calls: Arc<Calls>,
        geometry: Geometry,
        how: WriteLoop,
        size: u64,
    ) -> Inode {
        let is_fixed = store.is_fixed();
        Inode {
            number,
            slot,
            handles: AtomicUsize::new(0),
            store,
            core: Core::new(
                Home { number, slot },
                Table::new(geometry, size, Home { number, slot }),
                geometry,
                Arc::clone(cache.arena()),
                Length::new(size, is_fixed),
                calls,
                how.reserve,
            ),
            how,
            writers: Lock::new(number, LockKind::Writers, ()),
            writeback: Lock::new(number, LockKind::Writeback, ()),
            syncing: Lock::new(number, LockKind::Sync, ()),
            errors: Mutex::new(Errors::default()),
            pager: OnceLock::new(),
            cache,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns its place among the files of the cache.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Returns what it shares with the other files of its cache.
    #[inline]
    pub(crate) fn cache(&self) -> &Arc<Shared> {
        &self.cache
    }

    /// Returns the loop of its writes.
    #[inline]
    pub(crate) fn how(&self) -> &WriteLoop {
        &self.how
    }

    /// Returns its store, with what is known of the length: the only way to call it.
    #[inline]
    pub(crate) fn store(&self) -> Stored<'_> {
        Stored::new(&*self.store, self.core.store_len())
    }

    /// Returns the lock that orders writes.
    #[inline]
    pub(crate) fn writers(&self) -> &Lock<()> {
        &self.writers
    }

    /// Returns the lock that orders writeback among the threads that share the inode lock; the holder of the exclusive lock
    /// does not need it.
    pub(crate) fn writeback(&self) -> &Lock<()> {
        &self.writeback
    }

    /// Returns the lock that orders syncs. It is taken before the inode lock.
    pub(crate) fn syncing(&self) -> &Lock<()> {
        &self.syncing
    }

    /// Returns what resolves faults of mappings, once there has been one.
    pub(crate) fn pager(&self) -> Option<&PagerThread> {
        self.pager.get()
    }

    /// Sets it, unless another thread was faster.
    pub(crate) fn set_pager(&self, started: PagerThread) {
        // What is dropped here ends its threads.
        let _ = self.pager.set(started);
    }

    /// Records a failure of the store, for every handle that syncs. Returns it as an error.
    pub(crate) fn record(&self, error: Arc<io::Error>) -> Error {
        without_signals(|| self.errors.lock().record(Arc::clone(&error)));
        Error::Store(error)
    }

    /// Returns the number of failures so far.
    pub(crate) fn failures(&self) -> u64 {
        without_signals(|| self.errors.lock().count())
    }

    /// Returns the first failure after the first `seen`, which becomes their number.
    pub(crate) fn unseen_failure(&self, seen: &AtomicU64) -> Option<Error> {
        // Together: otherwise an error in between would be marked as seen and not reported.
        without_signals(|| {
            let errors = self.errors.lock();
            let seen = seen.swap(errors.count(), Ordering::Relaxed);
            errors.since(seen).map(Error::Store)
        })
    }

    /// Counts another handle.
    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a handle that is dropped. Returns whether it was the last one.
    pub(crate) fn remove_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Returns the folio that contains the byte at `pos`, a new one if need be: of about `want` bytes, all invalid.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no memory within the limit.
    #[inline]
    pub(crate) fn grab(&self, table: &mut Table, pos: u64, want: u64) -> Result<Key, Error> {
        match table.find(pos) {
            Some(key) => Ok(key),
            None => self.grab_new(table, pos, want),
        }
    }

    #[cold]
    fn grab_new(&self, table: &mut Table, pos: u64, want: u64) -> Result<Key, Error> {
        let start = self.geometry().block_down(pos);
        // A file that grows at its end will probably continue to grow: its folios grow with it.
        let before =
            if pos >= table.size() { start.checked_sub(1).and_then(|before| table.find(before)) } else { None };
        let grown = before.map_or(0, |key| 2 * table.get(key).len() as u64);
        let room = table.room(start, want.max(grown));
        let space = self.cache.space_for(self, table, room, Use::Copy)?;
        // Reclaim may have removed folios, but it has inserted none.
        Ok(table.insert(Folio::new(space.into_memory(start), start, self.geometry().block)))
    }

    /// Makes the blocks valid that `part`, which is within a folio, touches.
    ///
    /// # Errors
    /// The store's error; blocks that were read before stay.
    pub(crate) fn bring_uptodate(&self, folio: &mut Folio, part: Range<u64>) -> Result<(), Error> {
        let blocks = self.geometry().block_down(part.start)..self.geometry().block_up(part.end);
        while let Some(run) = folio.next_missing(blocks.clone()) {
            self.read_blocks(folio, run).1?;
        }
        Ok(())
    }

    /// Reads blocks of a folio from the store. Returns the end of the blocks that are valid now, and the error that ended
    /// it.
    pub(crate) fn read_blocks(&self, folio: &mut Folio, blocks: Range<u64>) -> (u64, Result<(), Error>) {
        let (end, result) = folio.fill_until(blocks.clone(), |bytes, pos| {
            let (done, result) = self.store().read(bytes, pos);
            (done, result.map_err(Error::from))
        });
        let end = if result.is_ok() { blocks.end } else { self.geometry().block_down(end).max(blocks.start) };
        if end > blocks.start {
            folio.set_uptodate(blocks.start..end);
        }
        (end, result)
    }

    /// Returns the end of the last block of the file.
    pub(crate) fn end_of_blocks(&self, table: &Table) -> u64 {
        self.geometry().block_up(table.size())
    }

    /// Reads the store's bytes at `pos`; zeros where it has none.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn read_store(&self, buf: &mut [u8], pos: u64) -> Result<(), Error> {
        Ok(self.store().read(buf, pos).1?)
    }

    /// Notes that `bytes` bytes are no longer dirty, and need no reservation.
    pub(crate) fn sub_dirty(&self, bytes: usize) {
        if bytes > 0 {
            self.core.cleaned(bytes);
            if self.how.reserve {
                self.store().unreserve(bytes as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cache;
    use crate::signals::tests::assert_waits_without_signals;
    use crate::store::MemoryStore;

    #[test]
    fn who_waits_for_the_errors_has_its_signals_blocked() {
        let file = Cache::new().open(MemoryStore::new([])).unwrap();
        let (inode, seen) = (file.inode(), AtomicU64::new(0));
        assert_waits_without_signals(inode.errors.lock(), || _ = inode.record(Arc::new(io::Error::other("none"))));
        assert_waits_without_signals(inode.errors.lock(), || assert_eq!(inode.failures(), 1));
        assert_waits_without_signals(inode.errors.lock(), || assert!(inode.unseen_failure(&seen).is_some()));
    }
}
