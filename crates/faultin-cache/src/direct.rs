//! Direct I/O: past the cache, through a buffer of the operation.
//!
//! A store cannot be given memory that may fault: half of the request may be done when it finds out, and the count would be
//! unknown. So bytes go through a buffer: errors of the user's memory and of the store are separate, and both sides are
//! counted. Cached blocks of the range stay right: reads see dirty blocks, writes change cached blocks.
//!
//! A write that fails past the end of the file may have made the store longer. It is truncated again, at the latest before
//! the store grows; the bytes there are never read.
//!
//! Both directions continue where they stopped. An error after a part has been moved comes with the count.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, WriteMemory};

use crate::bounce::Bounce;
use crate::copy::{CopyFrom, CopyTo};
use crate::error::{Error, Partial};
use crate::folio::Table;
use crate::inode::{Inode, check_range};
use crate::mutation::{Bug, Mutation};
use crate::transfer::{self, Ended, Retry, Transfer};
use crate::write::{At, Observer, perform};

/// Maximum number of bytes moved at once.
const CHUNK: usize = 1 << 20;

/// Number of rounds in a row that may move nothing; after another one the cache is used (gfs2's `enough_retries`), since
/// writes through it evict nothing.
const RETRIES: u32 = 1;

impl Inode {
    fn bounce(&self, len: usize) -> Bounce {
        let unit = self.store().alignment();
        Bounce::new(len.min(CHUNK).next_multiple_of(unit) + unit, unit)
    }
}

/// Writes what is left in `from`, in whole units of the store's alignment: returns the number of bytes, all of which the
/// store has.
///
/// Returns fewer, without an error, if the next bytes begin or end within a unit, or can be read in part only: then they
/// are written through the cache.
///
/// # Errors
/// [`Partial`] if the buffer or the store fails.
pub(crate) fn write<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    pos: u64,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let nothing = |error: Error| Partial { done: 0, error };
    inode.check_growth(pos, from.count()).map_err(nothing)?;
    let _writers = inode.writers().exclusive().map_err(|deadlock| nothing(deadlock.into()))?;
    write_units::<M, C>(inode, from, pos, mutation, observer)
}

/// Does the same, with the writers' lock held.
fn write_units<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    pos: u64,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let mut write: Write<'_, _, C> = Write {
        inode,
        mutation,
        bounce: inode.bounce(from.count()),
        unit: inode.store().alignment(),
        pos,
        kept: 0,
        way: PhantomData,
    };
    let result = transfer::run(inode, from, &mut write, mutation, observer);
    // The position is after the bytes that the store has, whatever was copied.
    let reverted = from.revert(write.kept);
    debug_assert_eq!(reverted, Ok(()), "these bytes were just copied");
    let done = (write.pos - pos) as usize;
    match result {
        // A part of a unit can be read: it is written through the cache.
        Err(Error::Fault(_)) if write.kept > 0 => Ok(done),
        result => result.map(|()| done).map_err(|error| Partial { done, error }),
    }
}

/// Writes what is left in `from` at the end of the file: whole units of the store's alignment past the cache, the bytes
/// before and after them through it. All under the writers' lock, so that no other write comes in between.
///
/// # Errors
/// [`Partial`] if the buffer or the store fails.
pub(crate) fn append<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let nothing = |error: Error| Partial { done: 0, error };
    let _writers = inode.writers().exclusive().map_err(|deadlock| nothing(deadlock.into()))?;
    let start = inode.table().shared().map_err(|deadlock| nothing(deadlock.into()))?.size();
    let all = from.count();
    inode.check_growth(start, all).map_err(nothing)?;
    let at = |done: usize| At::Locked(start + done as u64);
    // Up to the start of a unit.
    let head = (start.next_multiple_of(inode.store().alignment() as u64) - start) as usize;
    let mut done = 0;
    if head > 0 && all > 0 {
        from.truncate(head);
        let written = perform::<M, C>(inode, from, at(0), mutation, observer);
        done = match &written {
            Ok(written) => *written,
            Err(partial) => partial.done,
        };
        // The original count minus the bytes moved, which exist.
        let _ = from.reexpand(all - done);
        written?;
    }
    let after = |before: usize| move |partial: Partial| Partial { done: before + partial.done, ..partial };
    done += write_units::<M, C>(inode, from, start + done as u64, mutation, observer).map_err(after(done))?;
    if from.is_empty() {
        return Ok(done);
    }
    perform::<M, C>(inode, from, at(done), mutation, observer).map(|rest| done + rest).map_err(after(done))
}

/// A direct write under way.
struct Write<'a, B, C> {
    inode: &'a Inode,
    mutation: B,
    bounce: Bounce,
    /// Size in bytes of the store's units.
    unit: usize,
    /// The position of the next byte.
    pos: u64,
    /// Number of bytes that the bounce buffer holds from there on, less than a unit: the next round copies the bytes after
    /// them, so that a unit need not be resident as a whole.
    kept: usize,
    way: PhantomData<C>,
}

impl<M: ReadMemory, C: CopyFrom<M>, B: Mutation> Transfer<IovSource<'_, '_, M>> for Write<'_, B, C> {
    fn round<O: Observer>(
        &mut self,
        from: &mut IovSource<'_, '_, M>,
        _: &mut Retry<'_>,
        observer: &mut O,
    ) -> transfer::Round {
        let (inode, unit) = (self.inode, self.unit);
        let round = |moved, ended| transfer::Round { moved, ended };
        let ask = self.asked(from);
        if !self.pos.is_multiple_of(unit as u64) || ask == 0 {
            return round(0, Ended::End);
        }
        if self.mutation.has(Bug::InvalidatesItsSource) {
            let range = self.pos..self.pos + ask as u64;
            if let Err(error) = inode.write_back(range.clone()).and_then(|()| inode.dont_need(range)) {
                return round(0, Ended::Failed(error));
            }
        }
        let result = C::copy_from(from, &mut self.bounce.bytes_mut(self.kept + ask)[self.kept..]);
        observer.copied(ask, &result);
        let (copied, fault) = match result {
            Ok(copied) => (copied, None),
            Err(short) => (short.done, Some(short.fault)),
        };
        self.kept += copied;
        let whole = self.kept / unit * unit;
        let (written, result) =
            if whole > 0 { inode.write_direct(self.bounce.bytes(whole), self.pos) } else { (0, Ok(())) };
        self.bounce.bytes_mut(self.kept).copy_within(written.., 0);
        self.kept -= written;
        self.pos += written as u64;
        round(
            copied,
            match (result, fault) {
                (Err(error), _) => Ended::Failed(error),
                (Ok(()), Some(fault)) => Ended::Short(Some(fault)),
                (Ok(()), None) if written == 0 => Ended::End,
                (Ok(()), None) => Ended::Full,
            },
        )
    }

    /// Returns the number of bytes up to the end of a unit.
    fn asked(&self, from: &IovSource<'_, '_, M>) -> usize {
        ((self.kept + from.count()).min(CHUNK) / self.unit * self.unit).saturating_sub(self.kept)
    }

    fn gives_up(&self, vain: u32) -> bool {
        vain > RETRIES && !self.mutation.has(Bug::InvalidatesItsSource)
    }
}

/// Reads to what is left of `to`: returns the number of bytes, which is smaller only at the end of the file.
///
/// # Errors
/// [`Partial`] if the buffer or the store fails.
pub(crate) fn read<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    pos: u64,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let mut read: Read<'_, C> = Read { inode, bounce: inode.bounce(to.count()), chunk: 0..0, pos, way: PhantomData };
    let result = check_range(pos, to.count()).and_then(|()| transfer::run(inode, to, &mut read, mutation, observer));
    let done = (read.pos - pos) as usize;
    result.map(|()| done).map_err(|error| Partial { done, error })
}

/// A direct read under way.
struct Read<'a, C> {
    inode: &'a Inode,
    bounce: Bounce,
    /// The range of the bounce buffer with bytes that were read and not copied out yet.
    chunk: Range<usize>,
    /// The position in the file of the next byte.
    pos: u64,
    way: PhantomData<C>,
}

impl<M: WriteMemory, C: CopyTo<M>> Transfer<IovDest<'_, '_, M>> for Read<'_, C> {
    fn round<O: Observer>(
        &mut self,
        to: &mut IovDest<'_, '_, M>,
        _: &mut Retry<'_>,
        observer: &mut O,
    ) -> transfer::Round {
        let round = |moved, ended| transfer::Round { moved, ended };
        if self.chunk.is_empty() {
            let ask = to.count().min(CHUNK);
            if ask == 0 {
                return round(0, Ended::End);
            }
            match self.inode.read_direct(&mut self.bounce, self.pos, ask).map(<[u8]>::len) {
                Ok(0) => return round(0, Ended::End),
                Ok(len) => {
                    let start = (self.pos % self.inode.store().alignment() as u64) as usize;
                    self.chunk = start..start + len;
                }
                Err(error) => return round(0, Ended::Failed(error)),
            }
        }
        let chunk = &self.bounce.bytes(self.chunk.end)[self.chunk.start..];
        let copied = C::copy_to(to, chunk);
        observer.copied(chunk.len(), &copied);
        let (moved, ended) = match copied {
            Ok(_) => (chunk.len(), Ended::Full),
            Err(short) => (short.done, Ended::Short(Some(short.fault))),
        };
        self.chunk.start += moved;
        self.pos += moved as u64;
        round(moved, ended)
    }

    fn asked(&self, _: &IovDest<'_, '_, M>) -> usize {
        self.chunk.len()
    }
}

impl Inode {
    /// Writes whole units to the store, and to the cached blocks: returns how many bytes the store has.
    fn write_direct(&self, bytes: &[u8], pos: u64) -> (usize, Result<(), Error>) {
        let mut table = match self.table().exclusive() {
            Ok(table) => table,
            Err(deadlock) => return (0, Err(deadlock.into())),
        };
        if let Err(error) = self.zero_tail(&mut table, pos + bytes.len() as u64) {
            return (0, Err(error));
        }
        if let Err(error) = self.store().truncate_leftover() {
            return (0, Err(error.into()));
        }
        let asked = pos + bytes.len() as u64;
        let written = catch_unwind(AssertUnwindSafe(|| self.store().write(bytes, pos)));
        let (written, result) = written.unwrap_or_else(|panic| {
            // It may have written all of them.
            table.doubt(pos..asked);
            if asked > table.size() {
                self.store().note_leftover(table.size());
            }
            resume_unwind(panic)
        });
        let mut overlaid = Ok(());
        let end = pos + written as u64;
        if written > 0 {
            table.store_changed(pos..end);
            overlaid = overlay(&mut table, &bytes[..written], pos);
            table.taken(pos..end);
        }
        if result.is_err() {
            table.doubt(end..asked);
            // Uncounted bytes may have been written all the same. Past the end they must not stay: the file may grow again.
            if asked > table.size() {
                self.store().note_leftover(table.size());
                // If this fails, it is tried again before the store grows; the write's own error is reported.
                let _ = self.store().truncate_leftover();
            }
        }
        (written, result.map_err(Error::from).and(overlaid))
    }

    /// Reads at most `ask` bytes past the cache, but sees cached changes.
    fn read_direct<'b>(&self, bounce: &'b mut Bounce, pos: u64, ask: usize) -> Result<&'b [u8], Error> {
        // Not during a writeback: a block that was clean when its folio was checked could have been read before.
        let table = self.table().shared()?;
        let end = table.size().min(pos + ask as u64);
        if pos >= end {
            return Ok(&[]);
        }
        let unit = self.store().alignment() as u64;
        let (first, last) = (pos - pos % unit, end.next_multiple_of(unit));
        let bytes = bounce.bytes_mut((last - first) as usize);
        self.read_store(bytes, first)?;
        let bytes = &mut bytes[(pos - first) as usize..(end - first) as usize];
        let mut at = pos;
        while let Some(key) = table.next(at) {
            let folio = table.get(key);
            let (from, to) = (folio.start().max(at), folio.end().min(end));
            if from >= to {
                break;
            }
            let mut part = from;
            while part < to {
                let until = to.min(self.geometry().block_down(part) + self.geometry().block as u64);
                if folio.is_uptodate(part..until) {
                    let within = (part - pos) as usize..(until - pos) as usize;
                    folio.read(part..until, |cached| bytes[within].copy_from_slice(cached))?;
                }
                part = until;
            }
            at = folio.end();
        }
        Ok(bytes)
    }
}

/// Applies a store-side change of a range to the cached blocks. Invalid blocks stay invalid.
///
/// # Errors
/// [`Error::Memory`] if the kernel has no memory. Blocks that could not be changed are then invalid; dirty ones stay
/// unchanged.
fn overlay(table: &mut Table, bytes: &[u8], pos: u64) -> Result<(), Error> {
    let mut result = Ok(());
    let end = pos + bytes.len() as u64;
    let mut at = pos;
    while let Some(key) = table.next(at) {
        let folio = table.get_mut(key);
        let part = folio.start().max(at)..folio.end().min(end);
        if part.is_empty() {
            break;
        }
        at = folio.end();
        let changed = folio.fill(part.clone(), |cached, at| {
            let from = (at - pos) as usize;
            cached.copy_from_slice(&bytes[from..from + cached.len()]);
            Ok(())
        });
        if changed.is_err() {
            table.doubt(part);
            result = result.and(changed);
        }
    }
    result
}
