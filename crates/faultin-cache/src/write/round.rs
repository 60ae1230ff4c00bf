//! One round of a write: the work under one hold of the inode lock.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::iov::{IovSource, ReadSegment};
use faultin::memory::ReadMemory;
use faultin::{Fault, Short};

use super::config::{ShortCopy, WriteLoop};
use super::observer::{Decision, Observer};
use crate::bounce::Bounce;
use crate::copy::CopyFrom;
use crate::error::Error;
use crate::fetch::NotRead;
use crate::folio::{Folio, Key, Table};
use crate::inode::Inode;
use crate::lock::Exclusive;
use crate::mutation::{Bug, Mutation};

/// The result of a round.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Number of bytes that count.
    pub(super) accepted: usize,
    /// Number of bytes that were copied and do not count.
    pub(super) rejected: usize,
    /// The fault of a short copy.
    pub(super) fault: Option<Fault>,
    /// The error that ended it otherwise.
    pub(super) error: Option<Error>,
}

/// A round: `ask` bytes at `pos`.
pub(super) struct Round<'a, B> {
    inode: &'a Inode,
    how: &'a WriteLoop,
    mutation: B,
    pos: u64,
    ask: usize,
    /// Read blocks from the store that will be overwritten.
    uptodate: bool,
    /// A block that the store could not read before the lock was taken, and why.
    not_read: Option<NotRead>,
    /// Whether some round has copied nothing. Then nothing that could take the place of the buffer is done before the copy.
    after_nothing: bool,
}

/// The number of blocks that an eighth of the cache has at least where blocks are read before the lock is taken: elsewhere one
/// of them could take the place of the buffer.
const ROOM: usize = 4;

/// How often a block is read before the lock is taken, and evicted before the lock is there, until it is read with the lock.
const WITHOUT_THE_LOCK: u32 = 3;

impl<'a, B: Mutation> Round<'a, B> {
    #[inline]
    pub(super) fn new(inode: &'a Inode, mutation: B, pos: u64, ask: usize, after_nothing: bool) -> Round<'a, B> {
        let how = &inode.how();
        let uptodate = after_nothing && how.uptodate_after_nothing;
        Round { inode, how, mutation, pos, ask, uptodate, not_read: None, after_nothing }
    }

    #[inline]
    pub(super) fn run<M: ReadMemory, C: CopyFrom<M>>(
        &mut self,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut reserved = match Reservation::make(self, observer) {
            Ok(reserved) => reserved,
            Err(error) => return Outcome { error: Some(error), ..outcome },
        };
        let table = match self.lock() {
            Ok(table) => table,
            Err(error) => return Outcome { error: Some(error), ..outcome },
        };
        observer.locked();
        self.pieces::<M, C>(table, &mut reserved, from, observer, &mut outcome);
        reserved.settle(&outcome, observer);
        if self.how.write_through && outcome.accepted > 0 {
            observer.decided(Decision::WriteThrough);
            // Bytes that were not written stay dirty; they count, and `fsync` reports the error.
            let _ = self.inode.write_back(self.pos..self.pos + outcome.accepted as u64);
        }
        outcome
    }

    /// Takes the inode lock, when the blocks are valid that will be overwritten in part: those that are missing are read from
    /// the store before, so that no other thread waits for that.
    #[inline]
    fn lock(&mut self) -> Result<Exclusive<'a, Table>, Error> {
        let mut table = self.inode.table().exclusive()?;
        let block = self.inode.geometry().block;
        let is_partial = (self.pos | self.ask as u64) & (block as u64 - 1) != 0 && self.ask > 0;
        if is_partial && !self.after_nothing {
            for _ in 0..WITHOUT_THE_LOCK {
                let Some(missing) = self.missing(&table) else { break };
                table = self.read_before(table, missing)?;
            }
        }
        Ok(table)
    }

    /// Returns a block that will be overwritten in part and is not valid, unless it could not be read.
    #[inline]
    fn missing(&self, table: &Table) -> Option<u64> {
        let (geometry, size, end) = (self.inode.geometry(), table.size(), self.pos + self.ask as u64);
        let (first, last) = (geometry.block_down(self.pos), geometry.block_down(end - 1));
        let is_missing = |block: u64| table.find(block).is_none_or(|key| !table.get(key).is_uptodate(block..block + 1));
        let of_first = first < self.pos && first < size;
        // Past the end of the file there are zeros.
        let of_last = (first < last || !of_first) && end < size && end < last + geometry.block as u64;
        if self.not_read.is_some() {
            None
        } else if of_first && is_missing(first) {
            Some(first)
        } else {
            (of_last && is_missing(last)).then_some(last)
        }
    }

    /// Reads a missing block while the lock is free.
    #[cold]
    #[inline(never)]
    fn read_before(&mut self, mut table: Exclusive<'a, Table>, block: u64) -> Result<Exclusive<'a, Table>, Error> {
        if self.inode.cache().share() < ROOM * self.inode.geometry().block {
            return Ok(table);
        }
        // The folio is as long as the write, not as the block.
        self.inode.grab(&mut table, self.pos, self.ask as u64)?;
        drop(table);
        self.not_read = match self.inode.fill(block, 1, 1) {
            Ok(not_read) => not_read.filter(|(at, _)| *at == block),
            Err(error) => Some((block, error)),
        };
        Ok(self.inode.table().exclusive()?)
    }

    /// Makes blocks of a folio valid that will be overwritten in part.
    fn bring_uptodate(&self, folio: &mut Folio, part: Range<u64>) -> Result<(), Error> {
        match &self.not_read {
            // It would take as long again.
            Some((block, error @ Error::Store(_))) if *block == part.start && !folio.is_uptodate(part.clone()) => {
                Err(error.clone())
            }
            _ => self.inode.bring_uptodate(folio, part),
        }
    }

    /// Writes the pieces of the round, one folio's after the other.
    #[inline]
    fn pieces<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        mut table: Exclusive<'_, Table>,
        reserved: &mut Reservation<'_>,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
        outcome: &mut Outcome,
    ) {
        while outcome.accepted < self.ask {
            let left = self.ask - outcome.accepted;
            let piece = match self.begin(&mut table, self.pos + outcome.accepted as u64, left) {
                Ok(piece) => piece,
                Err(error) => {
                    outcome.error = Some(error);
                    break;
                }
            };
            let wanted = (piece.range.end - piece.range.start) as usize;
            let streams = self.how.streams(wanted);
            let folio = table.get_mut(piece.key);
            let copied = match folio.stable_mut(piece.range.clone()) {
                Some(dst) if streams => C::stream_from(from, dst),
                Some(dst) => C::copy_from(from, dst),
                None => copy_to_shared::<M, C>(folio, &piece.range, from, &mut outcome.error),
            };
            let moved = match &copied {
                Ok(moved) => *moved,
                Err(short) => {
                    outcome.fault = Some(short.fault);
                    short.done
                }
            };
            // Before foreign code runs, which may panic: bytes that can be read now count.
            let (accepted, decided) = self.end(&mut table, &piece, moved, reserved, outcome);
            outcome.accepted += accepted;
            outcome.rejected = moved - accepted;
            if outcome.rejected > 0 {
                let reverted = from.revert(outcome.rejected);
                debug_assert_eq!(reverted, Ok(()), "these bytes were just copied");
            }
            observer.copied(wanted, &copied);
            if let Some(what) = decided {
                observer.decided(what);
            }
            if accepted < wanted {
                // The next round continues here, once the buffer is faulted in.
                table.get(piece.key).want();
                break;
            }
        }
        self.bugs(&mut table, outcome);
        observer.unlocked();
    }

    /// `write_begin`: returns the folio with the byte at `pos`, ready to be overwritten from there on.
    #[inline]
    fn begin(&self, table: &mut Table, pos: u64, left: usize) -> Result<Piece, Error> {
        let key = self.inode.grab(table, pos, left as u64)?;
        let size = table.size();
        if table.mapped().is_some() && pos + left as u64 > size {
            self.inode.zero_tail(table, pos + left as u64)?;
        }
        let folio = table.get_mut(key);
        folio.touch();
        let range = pos..folio.end().min(pos + left as u64);
        if !folio.is_uptodate(range.clone()) {
            self.prepare(table, key, range.clone(), size)?;
        }
        Ok(Piece { key, range })
    }

    /// Makes the blocks valid that `range` overwrites in part, and handles the bytes past the end of the file.
    #[cold]
    fn prepare(&self, table: &mut Table, key: Key, range: Range<u64>, size: u64) -> Result<(), Error> {
        let geometry = self.inode.geometry();
        let folio = table.get_mut(key);
        if self.uptodate {
            return self.inode.bring_uptodate(folio, range);
        }
        let (first, last) = (geometry.block_down(range.start), geometry.block_down(range.end - 1));
        let last_end = last + geometry.block as u64;
        if first < range.start {
            self.bring_uptodate(folio, first..first + 1)?;
        }
        if range.end < last_end && !folio.is_uptodate(last..last_end) {
            if range.end >= size && range.start <= last {
                // Past the end of the file there are zeros, and before it nothing that stays.
                folio.zero(range.end..last_end)?;
            } else {
                self.bring_uptodate(folio, last..last_end)?;
            }
        }
        Ok(())
    }

    /// `write_end`: returns how many of the copied bytes count, and the decision about them.
    #[inline]
    fn end(
        &self,
        table: &mut Table,
        piece: &Piece,
        copied: usize,
        reserved: &mut Reservation<'_>,
        outcome: &mut Outcome,
    ) -> (usize, Option<Decision>) {
        let Range { start, end } = piece.range;
        if start + (copied as u64) < end {
            return self.end_short(table, piece, copied, reserved, outcome);
        }
        self.count(table, piece.key, start..end, reserved);
        (copied, None)
    }

    /// Counts these bytes of a folio.
    #[inline]
    fn count(&self, table: &mut Table, key: Key, written: Range<u64>, reserved: &mut Reservation<'_>) {
        if written.is_empty() {
            return;
        }
        table.grow_to(written.end);
        table.replaced(written.clone());
        let folio = table.get_mut(key);
        folio.set_uptodate(written.clone());
        let became_dirty = folio.set_dirty(written);
        self.inode.add_dirty(became_dirty);
        reserved.bytes = reserved.bytes.saturating_sub(became_dirty as u64);
    }

    /// Handles a short copy: returns the part of it that counts.
    #[cold]
    fn end_short(
        &self,
        table: &mut Table,
        piece: &Piece,
        copied: usize,
        reserved: &mut Reservation<'_>,
        outcome: &mut Outcome,
    ) -> (usize, Option<Decision>) {
        let geometry = self.inode.geometry();
        let start = piece.range.start;
        let reached = start + copied as u64;
        let block = geometry.block_down(reached);
        let folio = table.get_mut(piece.key);
        let cut = block..block + geometry.block as u64;
        if self.mutation.has(Bug::TwoRules) {
            return (0, None);
        }
        let whole = copied == 0 || reached == block || folio.is_uptodate(cut.clone());
        if whole || self.mutation.has(Bug::ShowsStaleBytes) {
            self.count(table, piece.key, start..reached, reserved);
            return (copied, None);
        }
        // The block is not valid, so the piece does not begin within it.
        if self.how.short_copy == ShortCopy::Reject {
            // A block that was valid shows the bytes that were copied to it, so these count, and so do those before it.
            let mut from = block;
            while from > start && !folio.is_uptodate(geometry.block_down(from - 1)..from) {
                from = geometry.block_down(from - 1).max(start);
            }
            self.count(table, piece.key, start..from, reserved);
            let accepted = (from - start) as usize;
            return (accepted, Some(Decision::Reject(copied - accepted)));
        }
        // The bytes before it count in any case. The block's beginning is new, and stays; the rest is the store's.
        self.count(table, piece.key, start..block, reserved);
        let mut rest = Bounce::new(geometry.block, self.inode.store().alignment());
        let rest = rest.bytes_mut(geometry.block);
        match self.inode.read_store(rest, block) {
            Ok(()) => {
                let behind = &rest[(reached - block) as usize..];
                let folio = table.get_mut(piece.key);
                let completed = folio.write(reached..cut.end, |bytes| {
                    bytes.copy_from_slice(behind);
                    (bytes.len(), ())
                });
                if let Err(partial) = completed {
                    outcome.error = Some(partial.error);
                    return ((block - start) as usize, None);
                }
                self.count(table, piece.key, block..reached, reserved);
                (copied, Some(Decision::Complete))
            }
            // Another attempt would fail here, too.
            Err(error) => {
                outcome.error = Some(error);
                ((block - start) as usize, None)
            }
        }
    }

    /// Applies the bugs of the past at the end of a round.
    #[inline]
    fn bugs(&self, table: &mut Table, outcome: &Outcome) {
        match self.mutation.bug() {
            None => {}
            Some(Bug::FreesWrittenBlocks) if outcome.accepted < self.ask => {
                let (start, end) = (self.pos, self.pos + outcome.accepted as u64);
                let mut pos = start;
                while pos < end {
                    let Some(key) = table.find(pos) else { break };
                    let folio = table.get_mut(key);
                    let part = pos..folio.end().min(end);
                    pos = part.end;
                    let freed = folio.discard(part.clone());
                    table.unmap(part);
                    self.inode.sub_dirty(freed);
                }
            }
            Some(Bug::LeavesZeros) => table.grow_to(self.pos + self.ask as u64),
            Some(_) => {}
        }
    }
}

/// Copies to a folio of a mapped file, which is accessed by system calls: these may read plain memory in place. Other
/// memory goes through a buffer that stays in the CPU's caches. If the folio's memory fails, `error` has the reason, and
/// less is copied.
#[cold]
#[inline(never)]
fn copy_to_shared<M: ReadMemory, C: CopyFrom<M>>(
    folio: &mut Folio,
    part: &Range<u64>,
    from: &mut IovSource<'_, '_, M>,
    error: &mut Option<Error>,
) -> Result<usize, Short> {
    let mut done = 0;
    let wanted = (part.end - part.start) as usize;
    while done < wanted {
        let pos = part.start + done as u64;
        let at_once = (wanted - done).min(folio.at_once() as usize);
        let next = from.segments().next();
        if let Some(ReadSegment::Plain(bytes)) = next
            && bytes.len() >= at_once
        {
            let bytes = &bytes[..bytes.len().min(wanted - done)];
            let written = folio.write_plain(pos, bytes);
            let moved = written.as_ref().map_or_else(|partial| partial.done, |()| bytes.len());
            from.advance(moved);
            done += moved;
            if let Err(partial) = written {
                *error = Some(partial.error);
                break;
            }
            continue;
        }
        let mut moved = 0;
        let copied = folio.write(pos..pos + at_once as u64, |dst| {
            let copied = C::copy_from(from, dst);
            moved = copied.as_ref().map_or_else(|short| short.done, |moved| *moved);
            (moved, copied)
        });
        match copied {
            Ok(Ok(0)) => break,
            Ok(Ok(moved)) => done += moved,
            Ok(Err(short)) => return Err(Short { done: done + short.done, ..short }),
            Err(partial) => {
                let reverted = from.revert(moved - partial.done);
                debug_assert_eq!(reverted, Ok(()), "these bytes were just copied");
                done += partial.done;
                *error = Some(partial.error);
                break;
            }
        }
    }
    Ok(done)
}

/// A part of a folio that is being written.
struct Piece {
    key: Key,
    range: Range<u64>,
}

/// Space that the store has reserved for a round, minus the bytes that became dirty.
struct Reservation<'a> {
    inode: &'a Inode,
    bytes: u64,
    leaks: bool,
}

impl<'a> Reservation<'a> {
    /// Reserves space for every block that the round may make dirty.
    #[inline]
    fn make<B: Mutation>(round: &Round<'a, B>, observer: &mut impl Observer) -> Result<Reservation<'a>, Error> {
        let geometry = round.inode.geometry();
        let mut reservation =
            Reservation { inode: round.inode, bytes: 0, leaks: round.mutation.has(Bug::KeepsReservation) };
        if round.how.reserve {
            let end = round.pos + round.ask as u64;
            let bytes = geometry.block_up(end) - geometry.block_down(round.pos);
            round.inode.store().reserve(bytes)?;
            reservation.bytes = bytes;
            observer.decided(Decision::Reserve(bytes));
        }
        Ok(reservation)
    }

    /// Releases what dirty blocks have not taken.
    #[inline]
    fn settle(mut self, outcome: &Outcome, observer: &mut impl Observer) {
        if self.leaks && outcome.accepted == 0 {
            self.bytes = 0;
        }
        if self.bytes > 0 {
            observer.decided(Decision::Release(self.bytes));
        }
    }
}

impl Drop for Reservation<'_> {
    /// Also after a panic in between.
    #[inline]
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.inode.store().unreserve(self.bytes);
        }
    }
}
