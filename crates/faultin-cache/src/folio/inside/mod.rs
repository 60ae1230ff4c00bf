//! [`Folio`], and what a signal handler does with folios, their memory and their index.

pub(crate) mod backing;
mod bits;
pub(super) mod inbox;
pub(crate) mod keys;
pub(crate) mod memory;
pub(super) mod radix;
pub(crate) mod table;

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bits::Bits;
use keys::{Place, units};
use memory::Memory;

use super::Unsynced;
use crate::error::{Error, Partial};

/// Maximum number of counted uses of a folio: the first one, and three more.
pub(crate) const MAX_USES: u8 = 4;

/// Number of uses, beyond the first one, by which a new folio becomes popular; less one.
const POPULAR: u8 = 2;

/// A part of a file, in memory.
#[derive(Debug)]
pub(crate) struct Folio {
    pub(in crate::folio) memory: Memory,
    /// Its position in the file.
    start: u64,
    pub(in crate::folio) block: usize,
    pub(in crate::folio) uptodate: Bits,
    pub(in crate::folio) dirty: Bits,
    /// Blocks that the store has taken, in [`epoch`](Self::epoch) or before, and that have not changed since, or are dirty
    /// again.
    pub(in crate::folio) unsynced: Bits,
    /// The epoch, by [`Unsynced`], in which the store has taken the last one of them.
    pub(in crate::folio) epoch: AtomicU64,
    /// How often it was used, at most [`MAX_USES`]: 0 before the first use; reclaim takes uses away again, except the
    /// first.
    uses: AtomicU8,
    /// The time when an operation last wanted it, by the arena's clock; 0 if none has since it was brought in.
    wanted: AtomicU64,
    /// Where it is in the order of eviction.
    pub(in crate::folio) place: Place,
    /// Whether it ever was dirty: if so, the store's bytes may have changed.
    pub(in crate::folio) written: bool,
    /// Whether a store through a mapping may have left bytes past the end of the file, since these were zeroed.
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
            uses: AtomicU8::new(0),
            wanted: AtomicU64::new(0),
            place: Place::default(),
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

    /// Returns the maximum number of bytes for one [`read`](Self::read) or [`write`](Self::write).
    #[inline]
    pub(crate) fn at_once(&self) -> u64 {
        self.memory.at_once() as u64
    }

    /// Calls `look` with a part of the file that is within the folio.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    ///
    /// # Panics
    /// If the part is not within the folio.
    #[inline]
    pub(crate) fn read<R>(&self, part: Range<u64>, look: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        self.memory.read(self.within(part), look)
    }

    /// Reads from `pos` on.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn read_to(&self, mut pos: u64, mut buf: &mut [u8]) -> Result<(), Error> {
        while !buf.is_empty() {
            let (now, later) = buf.split_at_mut(buf.len().min(self.memory.at_once()));
            self.read(pos..pos + now.len() as u64, |bytes| now.copy_from_slice(bytes))?;
            (pos, buf) = (pos + now.len() as u64, later);
        }
        Ok(())
    }

    /// Lets `change` overwrite the start of a part of the file that is within the folio, and returns its result, the number
    /// of bytes. The contents before are unspecified.
    ///
    /// # Errors
    /// [`Partial`] with [`Error::Memory`] if the kernel has no memory.
    #[inline]
    pub(crate) fn write<R>(
        &mut self,
        part: Range<u64>,
        change: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, Partial> {
        let within = self.within(part);
        self.memory.write(within, change)
    }

    /// Overwrites the bytes from `pos` on, without a copy in between.
    ///
    /// # Errors
    /// [`Partial`] with [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn write_plain(&mut self, pos: u64, bytes: &[u8]) -> Result<(), Partial> {
        let at = (pos - self.start) as usize;
        self.memory.write_plain(at, bytes)
    }

    /// Lets `fill` overwrite all of a part, piece by piece; each call gets a piece and its position in the file.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory, and errors of `fill`.
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

    /// Fills as [`fill`](Self::fill) does, with a `fill` that also returns the number of bytes it has filled. Returns the
    /// end of the filled part, and the error that ended it.
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
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn zero(&mut self, part: Range<u64>) -> Result<(), Error> {
        self.fill(part, |bytes, _| {
            bytes.fill(0);
            Ok(())
        })
    }

    #[inline]
    pub(in crate::folio) fn within(&self, part: Range<u64>) -> Range<usize> {
        (part.start - self.start) as usize..(part.end - self.start) as usize
    }

    /// Returns the blocks that a part touches.
    #[inline]
    pub(in crate::folio) fn touched(&self, part: &Range<u64>) -> Range<usize> {
        let within = self.within(part.clone());
        units(within.start, self.block)..units(within.end + self.block - 1, self.block)
    }

    /// Returns the part of the file of these blocks.
    pub(in crate::folio) fn place(&self, blocks: Range<usize>) -> Range<u64> {
        self.start + (blocks.start * self.block) as u64..self.start + (blocks.end * self.block) as u64
    }

    /// Returns the end of the valid bytes from `part.start` on; `part.end` at most.
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

    /// Returns the first run of invalid blocks in `part`, which consists of whole blocks.
    pub(crate) fn next_missing(&self, part: Range<u64>) -> Option<Range<u64>> {
        let blocks = self.touched(&part);
        let first = self.uptodate.first_clear(blocks.clone())?;
        let end = self.uptodate.first_set(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    /// Returns the first run of valid bytes in `part`.
    #[inline]
    pub(crate) fn next_valid(&self, part: Range<u64>) -> Option<Range<u64>> {
        let blocks = self.touched(&part);
        let first = self.uptodate.first_set(blocks.clone())?;
        let end = self.uptodate.first_clear(first..blocks.end).unwrap_or(blocks.end);
        let run = self.place(first..end);
        Some(run.start.max(part.start)..run.end.min(part.end))
    }

    /// Marks all blocks that `part` touches valid.
    #[inline]
    pub(crate) fn set_uptodate(&mut self, part: Range<u64>) {
        self.uptodate.set(self.touched(&part));
    }

    /// Marks all blocks that `part` touches invalid, and drops their dirty bytes: returns how many.
    pub(crate) fn discard(&mut self, part: Range<u64>) -> usize {
        let blocks = self.touched(&part);
        self.uptodate.clear(blocks.clone());
        self.unsynced.clear(blocks.clone());
        self.dirty.clear(blocks) * self.block
    }

    /// Marks the blocks that `part` touches invalid, unless they are dirty. Calls `absent` with those of them that the
    /// store has taken and not made durable.
    pub(in crate::folio) fn doubt(&mut self, part: Range<u64>, mut absent: impl FnMut(Range<u64>)) {
        for block in self.touched(&part) {
            if self.dirty.first_set(block..block + 1).is_none() {
                self.uptodate.clear(block..block + 1);
                if self.unsynced.clear(block..block + 1) > 0 {
                    absent(self.place(block..block + 1));
                }
            }
        }
    }

    /// Marks all blocks that `part` touches dirty: returns how many bytes more than before.
    #[inline]
    pub(crate) fn set_dirty(&mut self, part: Range<u64>) -> usize {
        // As in `touch`.
        if !self.written {
            self.written = true;
        }
        self.dirty.set(self.touched(&part)) * self.block
    }

    /// Returns the size in bytes of the clean blocks that `part` touches.
    pub(crate) fn clean_bytes(&self, part: Range<u64>) -> usize {
        self.touched(&part).filter(|&block| self.dirty.first_clear(block..block + 1).is_some()).count() * self.block
    }

    /// Returns the first run of dirty blocks that `part` touches.
    pub(crate) fn next_dirty(&self, part: Range<u64>) -> Option<Range<u64>> {
        let blocks = self.touched(&part);
        let first = self.dirty.first_set(blocks.clone())?;
        let end = self.dirty.first_clear(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.first_set(0..units(self.len(), self.block)).is_some()
    }

    /// Marks these blocks clean, because the store has them now: returns how many bytes are no longer dirty. For the holder
    /// of the writeback lock; a shared lock suffices, because blocks are made dirty under the exclusive one only.
    pub(in crate::folio) fn clean(&self, part: Range<u64>, unsynced: &Unsynced) -> usize {
        self.taken(part.clone(), unsynced);
        self.dirty.clear(self.touched(&part)) * self.block
    }

    /// Notes that the store has just taken the bytes of these blocks: for the same callers.
    pub(in crate::folio) fn taken(&self, part: Range<u64>, unsynced: &Unsynced) {
        if self.epoch.load(Ordering::Relaxed) <= unsynced.durable {
            self.unsynced.clear(0..units(self.len(), self.block));
        }
        self.unsynced.set(self.touched(&part));
        self.epoch.store(unsynced.epoch, Ordering::Relaxed);
    }

    /// Returns the first run of blocks from `pos` on that the store has taken and not made durable.
    pub(in crate::folio) fn next_unsynced(&self, pos: u64, unsynced: &Unsynced) -> Option<Range<u64>> {
        if self.epoch.load(Ordering::Relaxed) <= unsynced.durable {
            return None;
        }
        let blocks = self.touched(&(pos..self.end()));
        let first = self.unsynced.first_set(blocks.clone())?;
        let end = self.unsynced.first_clear(first..blocks.end).unwrap_or(blocks.end);
        Some(self.place(first..end))
    }

    /// Notes that stores through a mapping are possible from now on.
    pub(crate) fn set_stored_to(&mut self) {
        self.stored_to = true;
    }

    /// Notes that bytes past the end of the file that were stored through a mapping are zeroed, and the page is unmapped.
    pub(crate) fn clear_stored_to(&mut self) {
        self.stored_to = false;
    }

    /// Returns whether a store through a mapping may have left bytes past the end of the file, since these were zeroed.
    pub(crate) fn is_stored_to(&self) -> bool {
        self.stored_to
    }

    /// Returns the bytes of a part, where they do not change through mappings.
    #[inline]
    pub(crate) fn stable(&self, part: Range<u64>) -> Option<&[u8]> {
        Some(&self.memory.stable()?[self.within(part)])
    }

    /// Returns the same, mutable.
    #[inline]
    pub(crate) fn stable_mut(&mut self, part: Range<u64>) -> Option<&mut [u8]> {
        let within = self.within(part);
        Some(&mut self.memory.stable_mut()?[within])
    }

    /// Moves the folio to other memory, of the same size.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory: the folio stays where it was.
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

    /// Notes a use by a copy. Uses soon after the folio was brought in are those of one reader in small steps, and count as
    /// one: so a scan does not look like a popular part.
    #[inline]
    pub(crate) fn touch(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        // A store that changes nothing would still take the cache line from other readers.
        if uses < MAX_USES && (uses == 0 || !self.memory.account().is_young()) {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Notes a use through a mapping, which has yet to happen: it stays wanted.
    pub(crate) fn touch_mapped(&self) {
        if self.uses.load(Ordering::Relaxed) == 0 {
            self.want();
        }
        self.touch();
    }

    /// Notes that an operation wants it for its next round, although it is not new.
    #[cold]
    pub(crate) fn want(&self) {
        self.wanted.store(self.memory.account().now(), Ordering::Relaxed);
    }

    /// Returns the number of bytes of memory that folios were given since an operation has wanted this one.
    pub(crate) fn age(&self) -> u64 {
        let account = self.memory.account();
        account.now().saturating_sub(self.wanted.load(Ordering::Relaxed).max(account.at()))
    }

    /// Returns whether an operation may still need it for its next round: one has brought it in and not used it yet, or has
    /// wanted it since, less than `most` bytes ago.
    pub(crate) fn is_wanted(&self, most: u64) -> bool {
        let is_awaited = self.uses.load(Ordering::Relaxed) == 0 || self.wanted.load(Ordering::Relaxed) > 0;
        is_awaited && self.age() < most
    }

    /// Returns whether it was used often enough to stay longer than other new ones.
    pub(crate) fn is_popular(&self) -> bool {
        self.uses.load(Ordering::Relaxed) > POPULAR
    }

    /// Forgets all uses except the first.
    pub(crate) fn forget_uses(&self) {
        if self.uses.load(Ordering::Relaxed) > 1 {
            self.uses.store(1, Ordering::Relaxed);
        }
    }

    /// Takes a use away, except the first. Returns whether there was one.
    pub(crate) fn take_use(&self) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses > 1 {
            self.uses.store(uses - 1, Ordering::Relaxed);
        }
        uses > 1
    }
}
