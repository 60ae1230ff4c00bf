//! Changing the length of a file, and punching holes into it.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::Error;
use crate::folio::{Key, Table};
use crate::inode::{Inode, check_range};
use crate::pager::bug::{self, Bug};

impl Inode {
    /// # Errors
    /// The store's error: the file has its old length.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), Error> {
        check_range(len, 0)?;
        let _writers = self.writers().exclusive()?;
        let mut table = self.table().exclusive()?;
        if self.store_len().is_fixed() && len != table.size() {
            return Err(Error::FixedLength { pos: len, len: 0, size: table.size() });
        }
        if len < table.size() {
            // First, because it can fail. Bytes past the end in the store must not reappear when the file grows again.
            if self.store_len().most() > len {
                self.store().set_len(len)?;
            }
            table.cut_to(len);
            return self.cut(&mut table, len);
        }
        self.zero_tail(&mut table, len)?;
        table.grow_to(len);
        Ok(())
    }

    /// Drops everything past `len`.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory: the rest of the last block may not be zeros.
    fn cut(&self, table: &mut Table, len: u64) -> Result<(), Error> {
        let last = self.geometry().block_up(len);
        let mut zeroed = Ok(());
        let mut pos = len;
        table.unmap(len..u64::MAX);
        while let Some(key) = table.next(pos) {
            let folio = table.get_mut(key);
            pos = folio.end();
            let behind = last.max(folio.start());
            if len < last && folio.start() < last {
                // A block that was never valid is not valid now.
                zeroed = folio.zero(len..last);
            }
            if behind < pos && !bug::has(Bug::KeepsWhatWasCut) {
                let dropped = folio.discard(behind..pos);
                self.sub_dirty(dropped);
            }
            if folio.start() >= last {
                table.remove(key);
            }
        }
        zeroed
    }

    /// Zeros the bytes past the end in the last block, before the file ends at `end`, which may be past the current end. A
    /// store through a mapping may have left bytes there, and no further one may: they become part of the file. Until the
    /// next store through a mapping there is nothing to zero: an operation whose buffer is that very page unmaps it once.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    #[cold]
    pub(crate) fn zero_tail(&self, table: &mut Table, end: u64) -> Result<(), Error> {
        let size = table.size();
        let tail = size..self.geometry().block_up(size);
        if end <= size || tail.is_empty() {
            return Ok(());
        }
        match table.find(size) {
            Some(key) if table.get(key).is_stored_to() && !bug::has(Bug::ForgetsTheTail) => {
                table.unmap(tail.clone());
                let folio = table.get_mut(key);
                if folio.is_uptodate(tail.clone()) {
                    folio.zero(tail)?;
                }
                folio.clear_stored_to();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// The store's error: a part of the range may be zeros.
    pub(crate) fn punch_hole(&self, range: Range<u64>) -> Result<(), Error> {
        check_range(range.start, 0)?;
        let _writers = self.writers().exclusive()?;
        self.read_ends(&range)?;
        let mut table = self.table().exclusive()?;
        let geometry = self.geometry();
        // Past the end there are zeros already.
        let end = range.end.min(table.size());
        if range.start >= end {
            return Ok(());
        }
        let end_of_file = end == table.size();
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

    /// Makes the blocks valid that a range has in part, without the lock during calls of the store. They may be evicted again.
    ///
    /// # Errors
    /// The store's error.
    fn read_ends(&self, range: &Range<u64>) -> Result<(), Error> {
        let size = self.table().shared()?.size();
        let is_in_part = |pos: u64| pos < size && pos != self.geometry().block_down(pos);
        for pos in [range.start, range.end].into_iter().filter(|&pos| range.start < range.end && is_in_part(pos)) {
            self.fill(pos, 1, 1)?;
        }
        Ok(())
    }

    /// Zeroes a part of one block.
    fn zero_part(&self, table: &mut Table, part: Range<u64>) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let key = self.grab(table, part.start, 0)?;
        self.bring_uptodate(table.get_mut(key), part.clone())?;
        self.zero(table, key, part)
    }

    /// Zeroes a part of a folio: its blocks are then valid, and dirty.
    fn zero(&self, table: &mut Table, key: Key, part: Range<u64>) -> Result<(), Error> {
        let folio = table.get_mut(key);
        // First, because it can fail: reserved bytes and dirty bytes are the same.
        let bytes = if self.how().reserve { folio.clean_bytes(part.clone()) as u64 } else { 0 };
        if bytes > 0 {
            self.store().reserve(bytes)?;
        }
        if let Err(error) = folio.zero(part.clone()) {
            if bytes > 0 {
                self.store().unreserve(bytes);
            }
            return Err(error);
        }
        folio.set_uptodate(part.clone());
        self.add_dirty(folio.set_dirty(part.clone()));
        table.replaced(part);
        Ok(())
    }

    /// Makes a hole of whole blocks.
    fn zero_blocks(&self, table: &mut Table, blocks: Range<u64>) -> Result<(), Error> {
        let punched = catch_unwind(AssertUnwindSafe(|| self.store().punch_hole(blocks.clone())));
        match punched.unwrap_or_else(|panic| {
            table.doubt(blocks.clone());
            resume_unwind(panic)
        }) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return self.write_zeros(table, blocks),
            Err(error) => {
                table.doubt(blocks);
                return Err(error.into());
            }
        }
        table.unmap(blocks.clone());
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
        table.has_hole(blocks);
        Ok(())
    }

    /// Writes zeros, for stores that have no holes.
    fn write_zeros(&self, table: &mut Table, blocks: Range<u64>) -> Result<(), Error> {
        let mut pos = blocks.start;
        while pos < blocks.end {
            let key = self.grab(table, pos, blocks.end - pos)?;
            let part = pos..table.get(key).end().min(blocks.end);
            pos = part.end;
            self.zero(table, key, part)?;
        }
        Ok(())
    }

    /// Frees the space that the store has allocated past the end.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn trim(&self) -> Result<(), Error> {
        let table = self.table().shared()?;
        let _turn = self.writeback().exclusive()?;
        self.store().truncate_leftover()?;
        Ok(self.store().trim(table.size())?)
    }
}
