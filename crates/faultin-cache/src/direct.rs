//! Direct I/O: past the cache, through a buffer of the operation's own.
//!
//! A store cannot be given memory that may fault: half of what it was asked for may be done when it finds out, and nobody
//! would know how much. So bytes go through a buffer; what the user's memory does and what the store does are two things, and
//! both are counted. What is cached of the range stays right: reads see what is dirty, writes change what is cached.
//!
//! A write that fails behind the end of the file may have made the store longer. It is cut again, at the latest before the
//! store grows; what is there is not read.
//!
//! Both directions go on where they stopped. An error after a part has been moved comes with the part.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, WriteMemory};

use crate::bounce::Bounce;
use crate::error::{Error, Partial};
use crate::folio::Table;
use crate::inode::{Inode, check_range};
use crate::mode::{CopyFrom, CopyTo};
use crate::store::write_full;
use crate::write::{At, Bug, NO_PROGRESS, Observer, perform};

/// Bytes that are moved at once.
const CHUNK: usize = 1 << 20;

/// Attempts in a row that write nothing, after the first one, although the buffer could be faulted in before each; then the cache is
/// asked (gfs2's `enough_retries`).
const RETRIES: u32 = 1;

impl Inode {
    fn bounce(&self, len: usize) -> Bounce {
        let unit = self.store.alignment();
        Bounce::new(len.min(CHUNK).next_multiple_of(unit) + unit, unit)
    }
}

/// Writes what is left in `from`, whole units of the store's alignment: how much, all of which the store has.
///
/// Less than all, without an error, if what is next begins or ends within a unit, or can be read in part only: then it is
/// a matter for the cache.
///
/// # Errors
/// [`Partial`].
pub(crate) fn write<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    pos: u64,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let mut done = 0;
    let result = inode.check_growth(pos, from.count()).and_then(|()| {
        let _writers = inode.writers.exclusive()?;
        write_chunks::<M, C>(inode, from, pos, &mut done, observer)
    });
    result.map(|()| done).map_err(|error| Partial { done, error })
}

/// Writes what is left in `from` behind the end of the file: whole units of the store's alignment past the cache, what comes before
/// and after them through it. All under the lock of the writers, so that nothing comes in between.
///
/// # Errors
/// [`Partial`].
pub(crate) fn append<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let nothing = |error: Error| Partial { done: 0, error };
    let _writers = inode.writers.exclusive().map_err(|deadlock| nothing(deadlock.into()))?;
    let start = inode.table.shared().map_err(|deadlock| nothing(deadlock.into()))?.size;
    let all = from.count();
    inode.check_growth(start, all).map_err(nothing)?;
    let at = |done: usize| At::Locked(start + done as u64);
    // Up to where a unit begins.
    let head = (start.next_multiple_of(inode.store.alignment() as u64) - start) as usize;
    let mut done = 0;
    if head > 0 && all > 0 {
        from.truncate(head);
        let written = perform::<M, C>(inode, &inode.how, from, at(0), observer);
        done = match &written {
            Ok(written) => *written,
            Err(partial) => partial.done,
        };
        // As many as there were, less what has moved: there are that many.
        let _ = from.reexpand(all - done);
        written?;
    }
    let result = write_chunks::<M, C>(inode, from, start, &mut done, observer);
    result.map_err(|error| Partial { done, error })?;
    if from.is_empty() {
        return Ok(done);
    }
    let rest = perform::<M, C>(inode, &inode.how, from, at(done), observer);
    rest.map(|rest| done + rest).map_err(|partial| Partial { done: done + partial.done, ..partial })
}

fn write_chunks<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    start: u64,
    done: &mut usize,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let unit = inode.store.alignment();
    let mut bounce = inode.bounce(from.count());
    let mut idle = 0;
    loop {
        let pos = start + *done as u64;
        let ask = from.count().min(CHUNK) / unit * unit;
        if !pos.is_multiple_of(unit as u64) || ask == 0 {
            return Ok(());
        }
        if inode.how.bug == Some(Bug::InvalidatesItsSource) {
            inode.write_back(pos..pos + ask as u64)?;
            inode.dont_need(pos..pos + ask as u64)?;
        }
        let before = from.save();
        let copied = C::copy_from(from, bounce.bytes_mut(ask));
        observer.copied(ask, &copied);
        let (copied, fault) = match copied {
            Ok(copied) => (copied, None),
            Err(short) => (short.done, Some(short.fault)),
        };
        let whole = copied / unit * unit;
        let (written, result) = if whole > 0 { inode.write_direct(bounce.bytes(whole), pos) } else { (0, Ok(())) };
        // Behind what the store has, whatever was copied.
        if from.restore(before).is_ok() {
            from.advance(written);
        }
        *done += written;
        result?;
        if written > 0 {
            idle = 0;
            continue;
        }
        let Some(fault) = fault else { return Ok(()) };
        idle += 1;
        if idle > NO_PROGRESS {
            return Err(Error::NoProgress(fault));
        }
        let Some(window) = NonZeroUsize::new(ask) else { return Ok(()) };
        let lock = inode.lock_for_fault_in(observer)?;
        let usable = from.fault_in(window);
        observer.faulted_in(ask, &usable);
        if lock.is_some() {
            observer.unlocked();
        }
        drop(lock);
        if usable.map_err(Error::Fault)?.get() < unit {
            // There is something, but not a unit of it.
            return Ok(());
        }
        // Enough retries: the cache can take less than a unit at once, and what is written there takes nothing away.
        if idle > RETRIES && inode.how.bug != Some(Bug::InvalidatesItsSource) {
            return Ok(());
        }
        if observer.again().is_break() {
            return Err(Error::Stopped);
        }
    }
}

/// Reads to what is left of `to`: how much, fewer bytes than that only at the end of the file.
///
/// # Errors
/// [`Partial`].
pub(crate) fn read<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    pos: u64,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let mut done = 0;
    let result = check_range(pos, to.count()).and_then(|()| read_chunks::<M, C>(inode, to, pos, &mut done, observer));
    result.map(|()| done).map_err(|error| Partial { done, error })
}

fn read_chunks<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    start: u64,
    done: &mut usize,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let mut bounce = inode.bounce(to.count());
    loop {
        let pos = start + *done as u64;
        let ask = to.count().min(CHUNK);
        if ask == 0 {
            return Ok(());
        }
        let read = inode.read_direct(&mut bounce, pos, ask)?;
        if read.is_empty() {
            return Ok(());
        }
        copy_out::<M, C>(inode, to, read, done, observer)?;
    }
}

/// Copies a chunk out, going on where a copy stops.
fn copy_out<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    mut chunk: &[u8],
    done: &mut usize,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let mut idle = 0;
    while !chunk.is_empty() {
        let copied = C::copy_to(to, chunk);
        observer.copied(chunk.len(), &copied);
        let Err(short) = copied else {
            *done += chunk.len();
            return Ok(());
        };
        chunk = &chunk[short.done..];
        *done += short.done;
        idle = if short.done > 0 { 0 } else { idle + 1 };
        if short.done > 0 {
            continue;
        }
        if idle > NO_PROGRESS {
            return Err(Error::NoProgress(short.fault));
        }
        let window = if idle == 1 { chunk.len() } else { chunk.len().min(inode.geometry.block) };
        if let Some(window) = NonZeroUsize::new(window) {
            let lock = inode.lock_for_fault_in(observer)?;
            let result = to.fault_in(window);
            observer.faulted_in(window.get(), &result);
            if lock.is_some() {
                observer.unlocked();
            }
            drop(lock);
            result.map_err(Error::Fault)?;
        }
        if observer.again().is_break() {
            return Err(Error::Stopped);
        }
    }
    Ok(())
}

impl Inode {
    /// Writes whole units to the store, and to what is cached of them: how many bytes the store has.
    fn write_direct(&self, bytes: &[u8], pos: u64) -> (usize, Result<(), Error>) {
        let mut table = match self.table.exclusive() {
            Ok(table) => table,
            Err(deadlock) => return (0, Err(deadlock.into())),
        };
        if let Err(error) = self.zero_tail(&mut table, pos + bytes.len() as u64) {
            return (0, Err(error));
        }
        if let Err(error) = self.cut_junk() {
            return (0, Err(error.into()));
        }
        let asked = pos + bytes.len() as u64;
        let before = self.store_len.grows(asked);
        let (written, result) = write_full(&*self.store, bytes, pos);
        let mut overlaid = Ok(());
        let end = pos + written as u64;
        self.store_len.grew(before, if written > 0 { end } else { 0 }, result.is_ok());
        if written > 0 {
            table.size = table.size.max(end);
            table.generation += 1;
            overlaid = overlay(&mut table, &bytes[..written], pos);
        }
        if result.is_err() {
            table.doubt(end..asked);
            // What is not counted may be there all the same. Behind the end it must not stay: the file may grow again.
            if asked > table.size {
                self.store_len.has_junk(table.size);
                // If this fails, it is tried again before the store grows; it is the write's error that is reported.
                let _ = self.cut_junk();
            }
        }
        (written, result.map_err(Error::from).and(overlaid))
    }

    /// Reads at most `ask` bytes past the cache, but sees what is in it.
    fn read_direct<'b>(&self, bounce: &'b mut Bounce, pos: u64, ask: usize) -> Result<&'b [u8], Error> {
        // Not while somebody writes back: a block that was clean when its folio was looked at could have been read before.
        let table = self.table.shared()?;
        let end = table.size.min(pos + ask as u64);
        if pos >= end {
            return Ok(&[]);
        }
        let unit = self.store.alignment() as u64;
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
                let until = to.min(self.geometry.block_down(part) + self.geometry.block as u64);
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

/// Has what is cached of a range changed as the store was. What is not up to date stays so.
///
/// # Errors
/// [`Error::Memory`]. What could not be changed has to be read again then; unless it is dirty, when it stays as it was.
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
            folio.doubt(part);
            result = result.and(changed);
        }
    }
    result
}
