//! Folios: the memory that a file's bytes are cached in, and where in the file they belong.
//!
//! A *folio* is a naturally aligned part of a file, a power of two of *blocks*, in one piece of memory. Of each block it is
//! known whether it is *up to date* (it has the file's bytes, and zeros behind its end) and whether it is *dirty* (the
//! store does not have them yet). A block that is not up to date has bytes of somebody else's: nobody may see them.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "the memory is its own")]
pub(crate) mod arena;
pub(crate) mod backing;
mod bits;
pub(crate) mod memory;
mod radix;
mod ranges;
mod table;
mod unsynced;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bits::Bits;
use memory::Memory;

use crate::error::{Error, Partial};

pub(crate) use arena::Arena;
pub(crate) use table::{Key, Table};
pub(crate) use unsynced::Unsynced;

/// Sizes of the units of a cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block: usize,
    pub(crate) max_folio: usize,
}

impl Geometry {
    #[inline]
    pub(crate) fn blocks(&self, bytes: usize) -> usize {
        units(bytes, self.block)
    }

    #[inline]
    pub(crate) fn block_down(&self, pos: u64) -> u64 {
        pos & !(self.block as u64 - 1)
    }

    /// Where the block of the byte before `pos` ends. Positions are below 2^63, so this does not wrap.
    #[inline]
    pub(crate) fn block_up(&self, pos: u64) -> u64 {
        self.block_down(pos + self.block as u64 - 1)
    }
}

/// How many whole units, of a power of two bytes: each write asks several times, and a division takes as long as ten shifts.
#[inline]
fn units(bytes: usize, unit: usize) -> usize {
    bytes >> unit.trailing_zeros()
}

/// A part of a file, in memory.
#[derive(Debug)]
pub(crate) struct Folio {
    memory: Memory,
    /// Where it begins in the file.
    start: u64,
    block: usize,
    uptodate: Bits,
    dirty: Bits,
    /// Blocks that the store has taken, in [`epoch`](Self::epoch) or before, and that are as they were then, or dirty again.
    unsynced: Bits,
    /// When the store has taken the last one of them, by [`Unsynced`](unsynced::Unsynced).
    epoch: AtomicU64,
    /// Whether somebody has used it since reclaim last looked.
    referenced: AtomicBool,
    /// When it was last wanted, by the arena's clock.
    wanted: AtomicU64,
    /// Whether it ever was dirty: what a store had before may not be what it has now.
    written: bool,
    /// Whether a store through a mapping could have left something after the end of the file, since that was zeroed.
    stored_to: bool,
}

impl Folio {
    pub(crate) fn new(memory: Memory, start: u64, block: usize) -> Folio {
        let blocks = units(memory.len(), block);
        Folio {
            start,
            block,
            uptodate: Bits::new(blocks),
            dirty: Bits::new(blocks),
            unsynced: Bits::new(blocks),
            epoch: AtomicU64::new(0),
            referenced: AtomicBool::new(true),
            wanted: AtomicU64::new(memory.account().at()),
            written: false,
            stored_to: false,
            memory,
        }
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Bytes that [`read`](Self::read) and [`write`](Self::write) should be asked for, at most.
    #[inline]
    pub(crate) fn at_once(&self) -> u64 {
        self.memory.at_once() as u64
    }

    /// Has `look` look at a part of the file that lies within.
    ///
    /// # Errors
    /// [`Error::Memory`].
    ///
    /// # Panics
    /// If it does not.
    #[inline]
    pub(crate) fn read<R>(&self, part: Range<u64>, look: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        self.memory.read(self.within(part), look)
    }

    /// Reads from `pos` on.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn read_to(&self, mut pos: u64, mut buf: &mut [u8]) -> Result<(), Error> {
        while !buf.is_empty() {
            let (now, later) = buf.split_at_mut(buf.len().min(self.memory.at_once()));
            self.read(pos..pos + now.len() as u64, |bytes| now.copy_from_slice(bytes))?;
            (pos, buf) = (pos + now.len() as u64, later);
        }
        Ok(())
    }

    /// Has `change` overwrite a part of the file that lies within: as many bytes from its beginning on as it says. What it
    /// finds there are any bytes.
    ///
    /// # Errors
    /// [`Partial`], because of [`Error::Memory`].
    #[inline]
    pub(crate) fn write<R>(
        &mut self,
        part: Range<u64>,
        change: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, Partial> {
        let within = self.within(part);
        self.memory.write(within, change)
    }

    /// Overwrites what begins at `pos`, without a copy in between.
    ///
    /// # Errors
    /// [`Partial`], because of [`Error::Memory`].
    pub(crate) fn write_plain(&mut self, pos: u64, bytes: &[u8]) -> Result<(), Partial> {
        let at = (pos - self.start) as usize;
        self.memory.write_plain(at, bytes)
    }

    /// Has `fill` overwrite all of a part, bit by bit, each time from where to where it says.
    ///
    /// # Errors
    /// [`Error::Memory`], and what `fill` answers.
    pub(crate) fn fill(
        &mut self,
        part: Range<u64>,
        mut fill: impl FnMut(&mut [u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.fill_until(part, |bytes, pos| match fill(bytes, pos) {
            Ok(()) => (bytes.len(), Ok(())),
            Err(error) => (0, Err(error)),
        })
        .1
    }

    /// As [`fill`](Self::fill), with a `fill` that returns how many bytes it has filled as well. Returns where the part ends that
    /// was filled, and the error that ended it before.
    pub(crate) fn fill_until(
        &mut self,
        part: Range<u64>,
        mut fill: impl FnMut(&mut [u8], u64) -> (usize, Result<(), Error>),
    ) -> (u64, Result<(), Error>) {
        let mut pos = part.start;
        while pos < part.end {
            let end = part.end.min(pos.saturating_add(self.at_once()));
            let mut filled = 0;
            let result = self.write(pos..end, |bytes| {
                let (len, result) = fill(bytes, pos);
                filled = len;
                (len, result)
            });
            match result {
                Ok(Ok(())) => pos = end,
                Ok(Err(error)) => return (pos + filled as u64, Err(error)),
                Err(partial) => return (pos + partial.done as u64, Err(partial.error)),
            }
        }
        (pos, Ok(()))
    }

    /// Zeroes a part.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn zero(&mut self, part: Range<u64>) -> Result<(), Error> {
        self.fill(part, |bytes, _| {
            bytes.fill(0);
            Ok(())
        })
    }

    #[inline]
    fn within(&self, part: Range<u64>) -> Range<usize> {
        (part.start - self.start) as usize..(part.end - self.start) as usize
    }

    /// The blocks that a part touches.
    #[inline]
    fn touched(&self, part: &Range<u64>) -> Range<usize> {
        let within = self.within(part.clone());
        units(within.start, self.block)..units(within.end + self.block - 1, self.block)
    }

    /// The part of the file that blocks are.
    fn place(&self, blocks: Range<usize>) -> Range<u64> {
        self.start + (blocks.start * self.block) as u64..self.start + (blocks.end * self.block) as u64
    }

    /// Where, from `part.start` on, bytes are not up to date any more; `part.end` at most.
    #[inline]
    pub(crate) fn uptodate_until(&self, part: Range<u64>) -> u64 {
        match self.uptodate.first_clear(self.touched(&part)) {
            None => part.end,
            Some(block) => self.place(block..block).start.clamp(part.start, part.end),
        }
    }

    #[inline]
    pub(crate) fn is_uptodate(&self, part: Range<u64>) -> bool {
        self.uptodate_until(part.clone()) == part.end
    }

    /// Blocks within `part`, which is made of whole ones, that are not up to date, one run.
    pub(crate) fn next_missing(&self, part: Range<u64>) -> Option<Range<u64>> {
        let blocks = self.touched(&part);
        let first = self.uptodate.first_clear(blocks.clone())?;
        let end = self.uptodate.first_set(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    /// All blocks that `part` touches have the file's bytes now.
    #[inline]
    pub(crate) fn set_uptodate(&mut self, part: Range<u64>) {
        self.uptodate.set(self.touched(&part));
    }

    /// All blocks that `part` touches are worthless now, and what was dirty of them is given up: how many bytes.
    pub(crate) fn discard(&mut self, part: Range<u64>) -> usize {
        let blocks = self.touched(&part);
        self.uptodate.clear(blocks.clone());
        self.unsynced.clear(blocks.clone());
        self.dirty.clear(blocks) * self.block
    }

    /// The blocks that `part` touches have to be read again, unless they are dirty. Tells `absent` which of them the store has taken
    /// and not made durable.
    fn doubt(&mut self, part: Range<u64>, mut absent: impl FnMut(Range<u64>)) {
        for block in self.touched(&part) {
            if self.dirty.first_set(block..block + 1).is_none() {
                self.uptodate.clear(block..block + 1);
                if self.unsynced.clear(block..block + 1) > 0 {
                    absent(self.place(block..block + 1));
                }
            }
        }
    }

    /// All blocks that `part` touches are dirty now: how many bytes more than before.
    #[inline]
    pub(crate) fn set_dirty(&mut self, part: Range<u64>) -> usize {
        // As in `touch`.
        if !self.written {
            self.written = true;
        }
        self.dirty.set(self.touched(&part)) * self.block
    }

    /// Bytes of the blocks that `part` touches and that are not dirty.
    pub(crate) fn clean_bytes(&self, part: Range<u64>) -> usize {
        self.touched(&part).filter(|&block| self.dirty.first_clear(block..block + 1).is_some()).count() * self.block
    }

    /// The first run of dirty blocks that `part` touches.
    pub(crate) fn next_dirty(&self, part: Range<u64>) -> Option<Range<u64>> {
        let blocks = self.touched(&part);
        let first = self.dirty.first_set(blocks.clone())?;
        let end = self.dirty.first_clear(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.first_set(0..units(self.len(), self.block)).is_some()
    }

    /// The store has these blocks now: how many bytes are dirty no more. For whoever puts writeback in order; under a shared
    /// lock, because whoever makes blocks dirty has it alone.
    fn clean(&self, part: Range<u64>, unsynced: &Unsynced) -> usize {
        self.taken(part.clone(), unsynced);
        self.dirty.clear(self.touched(&part)) * self.block
    }

    /// The store has taken the bytes of these blocks, just now: for the same callers.
    fn taken(&self, part: Range<u64>, unsynced: &Unsynced) {
        if self.epoch.load(Ordering::Relaxed) <= unsynced.durable {
            self.unsynced.clear(0..units(self.len(), self.block));
        }
        self.unsynced.set(self.touched(&part));
        self.epoch.store(unsynced.epoch, Ordering::Relaxed);
    }

    /// The first run of blocks from `pos` on that the store has taken and not made durable.
    fn next_unsynced(&self, pos: u64, unsynced: &Unsynced) -> Option<Range<u64>> {
        if self.epoch.load(Ordering::Relaxed) <= unsynced.durable {
            return None;
        }
        let blocks = self.touched(&(pos..self.end()));
        let first = self.unsynced.first_set(blocks.clone())?;
        let end = self.unsynced.first_clear(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    /// Somebody can store to it through a mapping from now on.
    pub(crate) fn set_stored_to(&mut self) {
        self.stored_to = true;
    }

    /// What was stored after the end of the file through a mapping is zeroed, and the page is unmapped.
    pub(crate) fn clear_stored_to(&mut self) {
        self.stored_to = false;
    }

    /// Whether a store through a mapping could have left something after the end of the file, since that was zeroed.
    pub(crate) fn is_stored_to(&self) -> bool {
        self.stored_to
    }

    /// The bytes of a part, where they do not change by themselves.
    #[inline]
    pub(crate) fn stable(&self, part: Range<u64>) -> Option<&[u8]> {
        Some(&self.memory.stable()?[self.within(part)])
    }

    /// As [`stable`](Self::stable).
    #[inline]
    pub(crate) fn stable_mut(&mut self, part: Range<u64>) -> Option<&mut [u8]> {
        let within = self.within(part);
        Some(&mut self.memory.stable_mut()?[within])
    }

    /// Has the folio live in other memory, of the same size, from now on.
    ///
    /// # Errors
    /// [`Error::Memory`]: it lives where it lived.
    pub(crate) fn move_to(&mut self, mut memory: Memory) -> Result<(), Error> {
        let blocks = units(self.len(), self.block);
        let mut at = 0;
        while let Some(first) = self.uptodate.first_set(at..blocks) {
            let end = self.uptodate.first_clear(first..blocks).unwrap_or(blocks);
            at = end;
            let mut from = first * self.block;
            while from < end * self.block {
                let to = (end * self.block).min(from.saturating_add(memory.at_once()));
                let old = &self.memory;
                let moved =
                    memory.write(from..to, |new| (to - from, old.read(from..to, |bytes| new.copy_from_slice(bytes))));
                moved.map_err(|partial| partial.error)??;
                from = to;
            }
        }
        self.memory = memory;
        Ok(())
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.memory, Memory::Extent(_))
    }

    pub(crate) fn was_written(&self) -> bool {
        self.written
    }

    #[inline]
    pub(crate) fn touch(&self) {
        // A store that changes nothing would still take the line away from other readers.
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    /// An operation wants it for its next round, although it is not new.
    #[cold]
    pub(crate) fn want(&self) {
        self.wanted.store(self.memory.account().now(), Ordering::Relaxed);
    }

    /// Bytes of memory that folios were given since an operation has wanted this one.
    pub(crate) fn age(&self) -> u64 {
        self.memory.account().now().saturating_sub(self.wanted.load(Ordering::Relaxed))
    }

    /// Whether it was used since the last time this was asked.
    pub(crate) fn take_referenced(&self) -> bool {
        self.referenced.swap(false, Ordering::Relaxed)
    }
}
