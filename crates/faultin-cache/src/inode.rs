//! A file of a cache: its folios, its locks, its store.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::cache::{Shared, Use};
use crate::error::Error;
use crate::folio::{Folio, Geometry, Key, Table};
use crate::lock::{Lock, LockKind};
use crate::pager::thread::PagerThread;
use crate::store::{Length, Store, read_full};
use crate::write::WriteLoop;
use crate::writeback::Errors;

/// The largest position, and the largest length: as the kernel's `loff_t` has it.
pub(crate) const MAX_BYTES: u64 = i64::MAX as u64;

/// A file, shared by its handles. Lines of memory with locks of two files in them would go back and forth between the threads
/// that use one each.
#[repr(align(128))]
pub(crate) struct Inode {
    pub(crate) number: u64,
    /// [`CachedFile`](crate::CachedFile)s there are of it.
    pub(crate) handles: AtomicUsize,
    pub(crate) cache: Arc<Shared>,
    pub(crate) store: Box<dyn Store>,
    pub(crate) geometry: Geometry,
    pub(crate) how: WriteLoop,
    /// Puts writes in order.
    pub(crate) writers: Lock<()>,
    /// The inode lock.
    pub(crate) table: Lock<Table>,
    /// Puts writeback in order, among those who share the inode lock: who has that one alone needs no turn.
    pub(crate) writeback: Lock<()>,
    /// Puts syncs in order. Taken before the inode lock.
    pub(crate) syncing: Lock<()>,
    /// How long the store is.
    pub(crate) store_len: Length,
    /// Bytes that are dirty, and (if the writes reserve) reserved.
    pub(crate) dirty: AtomicU64,
    pub(crate) errors: Mutex<Errors>,
    /// Serves faults of mappings, once there has been one.
    pub(crate) pager: OnceLock<PagerThread>,
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inode").field("number", &self.number).finish_non_exhaustive()
    }
}

/// # Errors
/// [`Error::TooLarge`], for what no file can have.
pub(crate) fn check_range(pos: u64, len: usize) -> Result<(), Error> {
    match pos.checked_add(len as u64) {
        Some(end) if end <= MAX_BYTES => Ok(()),
        _ => Err(Error::TooLarge { pos, len: len as u64 }),
    }
}

impl Inode {
    /// Checks that the file can have a byte at each position from `pos` on, of `len`.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::FixedLength`], if the store's length ends before.
    pub(crate) fn check_growth(&self, pos: u64, len: usize) -> Result<(), Error> {
        check_range(pos, len)?;
        let size = self.store_len.least();
        if self.store_len.is_fixed() && len > 0 && pos + len as u64 > size {
            return Err(Error::FixedLength { pos, len: len as u64, size });
        }
        Ok(())
    }

    pub(crate) fn new(
        number: u64,
        cache: Arc<Shared>,
        store: Box<dyn Store>,
        geometry: Geometry,
        how: WriteLoop,
        size: u64,
    ) -> Inode {
        let is_fixed = store.is_fixed();
        Inode {
            number,
            handles: AtomicUsize::new(0),
            store,
            geometry,
            how,
            writers: Lock::new(number, LockKind::Writers, ()),
            table: Lock::new(number, LockKind::Inode, Table::new(geometry, size)),
            writeback: Lock::new(number, LockKind::Writeback, ()),
            syncing: Lock::new(number, LockKind::Sync, ()),
            store_len: Length::new(size, is_fixed),
            dirty: AtomicU64::new(0),
            errors: Mutex::new(Errors::default()),
            pager: OnceLock::new(),
            cache,
        }
    }

    /// The folio that has the byte at `pos`, a new one if need be: of about `want` bytes, and none of them up to date.
    ///
    /// # Errors
    /// [`Error::Full`].
    #[inline]
    pub(crate) fn grab(&self, table: &mut Table, pos: u64, want: u64) -> Result<Key, Error> {
        match table.find(pos) {
            Some(key) => Ok(key),
            None => self.grab_new(table, pos, want),
        }
    }

    #[cold]
    fn grab_new(&self, table: &mut Table, pos: u64, want: u64) -> Result<Key, Error> {
        let start = self.geometry.block_down(pos);
        // A file that grows at its end will probably go on: its folios grow with it.
        let before = if pos >= table.size { start.checked_sub(1).and_then(|before| table.find(before)) } else { None };
        let grown = before.map_or(0, |key| 2 * table.get(key).len() as u64);
        let room = table.room(start, want.max(grown));
        let memory = self.cache.memory_for(self, table, start, room, Use::Copy)?;
        // Reclaim may have taken folios away, but it has put none there.
        Ok(table.insert(Folio::new(memory, start, self.geometry.block)))
    }

    /// Has the blocks that `part`, which lies within a folio, touches brought up to date.
    ///
    /// # Errors
    /// The store's; blocks that were read before stay.
    pub(crate) fn bring_uptodate(&self, folio: &mut Folio, part: Range<u64>) -> Result<(), Error> {
        let blocks = self.geometry.block_down(part.start)..self.geometry.block_up(part.end);
        while let Some(run) = folio.next_missing(blocks.clone()) {
            self.read_blocks(folio, run).1?;
        }
        Ok(())
    }

    /// Reads blocks of a folio from the store. Returns where the blocks end that are up to date now, and the error that ended it
    /// before.
    pub(crate) fn read_blocks(&self, folio: &mut Folio, blocks: Range<u64>) -> (u64, Result<(), Error>) {
        let (end, result) = folio.fill_until(blocks.clone(), |bytes, pos| {
            let (done, result) = read_full(&*self.store, &self.store_len, bytes, pos);
            (done, result.map_err(Error::from))
        });
        let end = if result.is_ok() { blocks.end } else { self.geometry.block_down(end).max(blocks.start) };
        if end > blocks.start {
            folio.set_uptodate(blocks.start..end);
        }
        (end, result)
    }

    /// As [`read_blocks`](Self::read_blocks), for who needs the first of them: the others are read ahead, and their error is
    /// for who needs them.
    ///
    /// # Errors
    /// The store's, in the first block.
    pub(crate) fn read_ahead(&self, folio: &mut Folio, blocks: Range<u64>) -> Result<(), Error> {
        let first = blocks.start;
        let (end, result) = self.read_blocks(folio, blocks);
        if end > first { Ok(()) } else { result }
    }

    /// What the store has at `pos`; zeros where it has nothing.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn read_store(&self, buf: &mut [u8], pos: u64) -> Result<(), Error> {
        Ok(read_full(&*self.store, &self.store_len, buf, pos).1?)
    }

    /// So many more bytes are dirty.
    pub(crate) fn add_dirty(&self, bytes: usize) {
        if bytes > 0 {
            self.dirty.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// So many bytes are dirty no more, and need no promise.
    pub(crate) fn sub_dirty(&self, bytes: usize) {
        if bytes > 0 {
            self.dirty.fetch_sub(bytes as u64, Ordering::Relaxed);
            if self.how.reserve {
                self.store.unreserve(bytes as u64);
            }
        }
    }
}
