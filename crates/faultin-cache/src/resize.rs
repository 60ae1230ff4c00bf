//! Making a file longer or shorter, and holes in it.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::folio::{Folio, Table};
use crate::inode::{Inode, check_range};

impl Inode {
    /// # Errors
    /// The store's: the file is as long as before.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), Error> {
        check_range(len, 0)?;
        let _writers = self.writers.exclusive()?;
        let _turn = self.writeback.exclusive()?;
        let mut table = self.table.exclusive()?;
        if len < table.size {
            // First, because it can fail. What lies behind in the store must not come back when the file grows again.
            if self.store_len.load(Ordering::Relaxed) > len {
                self.store.set_len(len)?;
                self.store_len.store(len, Ordering::Relaxed);
            }
            self.cut(&mut table, len);
            table.generation += 1;
        }
        table.size = len;
        Ok(())
    }

    /// Takes away what is behind `len`.
    fn cut(&self, table: &mut Table, len: u64) {
        let last = self.geometry.block_up(len);
        let mut pos = len;
        while let Some(key) = table.next(pos) {
            let folio = table.get_mut(key);
            pos = folio.end();
            let behind = last.max(folio.start());
            if len < last && folio.start() < last {
                // What was never up to date is not now.
                folio.bytes_mut(len..last).fill(0);
            }
            if behind < pos {
                let dropped = folio.discard(behind..pos);
                self.sub_dirty(dropped);
            }
            if folio.start() >= last {
                table.remove(key);
            }
        }
    }

    /// # Errors
    /// The store's: a part of the range may be zeros.
    pub(crate) fn punch_hole(&self, range: Range<u64>) -> Result<(), Error> {
        check_range(range.start, 0)?;
        let _writers = self.writers.exclusive()?;
        // Not writeback's lock, too: room for the edges may have to be made by writing back. Nobody else does meanwhile.
        let mut table = self.table.exclusive()?;
        let geometry = self.geometry;
        // Behind the end there are zeros already.
        let end = range.end.min(table.size);
        if range.start >= end {
            return Ok(());
        }
        let end_of_file = end == table.size;
        let first = geometry.block_up(range.start);
        let last = if end_of_file { geometry.block_up(end) } else { geometry.block_down(end) };
        if first > last {
            return self.zero_part(&mut table, range.start..end);
        }
        self.zero_part(&mut table, range.start..first)?;
        self.zero_part(&mut table, last.min(end)..end)?;
        if first < last {
            self.zero_blocks(&mut table, first..last)?;
        }
        Ok(())
    }

    /// Zeroes a part of one block.
    fn zero_part(&self, table: &mut Table, part: Range<u64>) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let key = self.grab(table, part.start, 0)?;
        let folio = table.get_mut(key);
        self.bring_uptodate(folio, part.clone())?;
        let reserved = self.reserve(&part)?;
        folio.bytes_mut(part.clone()).fill(0);
        self.dirtied(folio, part, reserved);
        Ok(())
    }

    /// The store's promise for all blocks that `part` touches, before anything is changed: how many bytes.
    fn reserve(&self, part: &Range<u64>) -> Result<u64, Error> {
        if !self.how.reserve {
            return Ok(0);
        }
        let bytes = self.geometry.block_up(part.end) - self.geometry.block_down(part.start);
        self.store.reserve(bytes)?;
        Ok(bytes)
    }

    /// `part` is dirty; what was promised for blocks that were dirty already is given back.
    fn dirtied(&self, folio: &mut Folio, part: Range<u64>, reserved: u64) {
        let bytes = folio.set_dirty(part);
        self.add_dirty(bytes);
        let unused = reserved.saturating_sub(bytes as u64);
        if unused > 0 {
            self.store.unreserve(unused);
        }
    }

    /// Makes a hole of whole blocks.
    fn zero_blocks(&self, table: &mut Table, blocks: Range<u64>) -> Result<(), Error> {
        let in_store = blocks.start..blocks.end.min(self.store_len.load(Ordering::Relaxed));
        if !in_store.is_empty() {
            match self.store.punch_hole(in_store) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return self.write_zeros(table, blocks),
                Err(error) => return Err(error.into()),
            }
        }
        let mut pos = blocks.start;
        while let Some(key) = table.next(pos) {
            let folio = table.get_mut(key);
            let part = folio.start().max(blocks.start)..folio.end().min(blocks.end);
            if part.is_empty() {
                break;
            }
            pos = folio.end();
            let whole = part == (folio.start()..folio.end());
            let dropped = folio.discard(part);
            self.sub_dirty(dropped);
            if whole {
                table.remove(key);
            }
        }
        table.generation += 1;
        Ok(())
    }

    /// For stores that have no holes.
    fn write_zeros(&self, table: &mut Table, blocks: Range<u64>) -> Result<(), Error> {
        let mut pos = blocks.start;
        while pos < blocks.end {
            let key = self.grab(table, pos, blocks.end - pos)?;
            let folio = table.get_mut(key);
            let part = pos..folio.end().min(blocks.end);
            let reserved = self.reserve(&part)?;
            folio.bytes_mut(part.clone()).fill(0);
            folio.set_uptodate(part.clone());
            pos = part.end;
            self.dirtied(folio, part, reserved);
        }
        Ok(())
    }

    /// Gives back what the store has allocated behind the end.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn trim(&self) -> Result<(), Error> {
        let _turn = self.writeback.exclusive()?;
        let table = self.table.shared()?;
        Ok(self.store.trim(table.size)?)
    }
}
