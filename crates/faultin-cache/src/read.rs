//! Reading to a buffer that may fault.
//!
//! A pass takes the inode lock, shared, and copies from folio to folio. Missing bytes are read from the store, and missing
//! pages of the buffer are faulted in, both when the lock is free; then another pass follows.

#![forbid(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::ops::Range;

use faultin::Fault;
use faultin::iov::IovDest;
use faultin::memory::WriteMemory;

use crate::ahead::{Advised, Ahead};
use crate::copy::CopyTo;
use crate::error::{Error, Partial};
use crate::folio::{Folio, Table};
use crate::inode::Use;
use crate::inode::{Inode, check_range};
use crate::mutation::Mutation;
use crate::stats::Operation;
use crate::transfer::{self, Ended, Retry, Round, Transfer};
use crate::write::Observer;

/// Number of rounds, since one has moved something, that found evicted what the round before had filled; then a round fills
/// and copies under one lock.
const MISSED: u32 = 8;

/// How often the store is read without the lock fruitlessly, because it was changing, before it is read with the lock.
const WITHOUT_THE_LOCK: u32 = 3;

/// The reason why a pass ended.
pub(crate) enum PassEnd {
    /// There is no more to read, or no more room.
    End,
    /// Bytes have to be read from the store first.
    Missing,
    Fault(Fault),
    Failed(Error),
}

/// Reads to what is left of `to`: returns the number of bytes read, which is smaller only at the end of the file.
///
/// # Errors
/// [`Partial`] if the buffer or the store fails.
#[inline]
pub(crate) fn perform<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    pos: u64,
    operation: Operation<'_>,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let (ahead, advised) = (&operation.lane().ahead, operation.advised());
    let mut read: Read<'_, C> = Read { inode, ahead, advised, start: pos, pos, missed: 0, way: PhantomData };
    let result = check_range(pos, to.count()).and_then(|()| transfer::run(inode, to, &mut read, mutation, observer));
    ahead.went_to(read.pos);
    let done = (read.pos - pos) as usize;
    operation.count(done, result.is_ok());
    match result {
        Ok(()) => Ok(done),
        Err(error) => Err(Partial { done, error }),
    }
}

/// A read under way.
struct Read<'a, C> {
    inode: &'a Inode,
    ahead: &'a Ahead,
    advised: &'a Advised,
    /// The position where it began.
    start: u64,
    /// The position of the next byte.
    pos: u64,
    /// Number of rounds that found nothing, since one has moved something.
    missed: u32,
    way: PhantomData<C>,
}

impl<M: WriteMemory, C: CopyTo<M>> Transfer<IovDest<'_, '_, M>> for Read<'_, C> {
    #[inline]
    fn round<O: Observer>(&mut self, to: &mut IovDest<'_, '_, M>, _: &mut Retry<'_>, observer: &mut O) -> Round {
        let (moved, stop) = if self.missed > MISSED {
            self.fill_and_pass(to, observer)
        } else {
            match self.inode.table.shared() {
                Ok(table) => {
                    observer.locked();
                    let end = pass::<M, C>(&table, to, self.pos, observer);
                    observer.unlocked();
                    end
                }
                Err(deadlock) => (0, PassEnd::Failed(deadlock.into())),
            }
        };
        self.pos += moved as u64;
        if moved > 0 {
            self.missed = 0;
        }
        let ended = match stop {
            PassEnd::End => Ended::End,
            PassEnd::Fault(fault) => Ended::Short(Some(fault)),
            PassEnd::Failed(error) => Ended::Failed(error),
            PassEnd::Missing => self.fill(to.count(), observer),
        };
        Round { moved, ended }
    }

    fn asked(&self, to: &IovDest<'_, '_, M>) -> usize {
        to.count()
    }
}

impl<C> Read<'_, C> {
    /// Reads bytes from the store that a pass found missing.
    #[cold]
    fn fill(&mut self, left: usize, observer: &mut impl Observer) -> Ended {
        self.missed += 1;
        match self.inode.fill(self.pos, self.window(left)) {
            Ok(()) => {
                observer.filled();
                Ended::Missing
            }
            Err(error) => Ended::Failed(error),
        }
    }

    /// Fills and copies under one lock, because other threads evict filled folios before they can be read.
    #[cold]
    fn fill_and_pass<M: WriteMemory>(
        &mut self,
        to: &mut IovDest<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> (usize, PassEnd)
    where
        C: CopyTo<M>,
    {
        let mut table = match self.inode.table.exclusive() {
            Ok(table) => table,
            Err(deadlock) => return (0, PassEnd::Failed(deadlock.into())),
        };
        if let Err(error) = self.inode.fill_locked(&mut table, self.pos, self.window(to.count()), Use::Copy) {
            return (0, PassEnd::Failed(error));
        }
        observer.locked();
        let end = pass::<M, C>(&table, to, self.pos, observer);
        observer.unlocked();
        end
    }

    /// Returns the number of bytes to read from the store at once: the wanted ones, and some ahead if the file is read
    /// sequentially, but no more than can stay until they are copied.
    fn window(&self, left: usize) -> u64 {
        // Only the first byte tells whether the reader continues where the last read ended.
        let pos = if self.pos == self.start { self.pos } else { self.start };
        self.ahead.window(self.advised, pos, left as u64).min(self.inode.cache.share() as u64)
    }
}

/// Copies until something is missing: returns the number of bytes, and the reason for the end.
#[inline]
pub(crate) fn pass<M: WriteMemory, C: CopyTo<M>>(
    table: &Table,
    to: &mut IovDest<'_, '_, M>,
    start: u64,
    observer: &mut impl Observer,
) -> (usize, PassEnd) {
    let end = table.size().min(start + to.count() as u64);
    let mut pos = start;
    while pos < end {
        let copied = |pos| (pos - start) as usize;
        let Some(key) = table.find(pos) else { return (copied(pos), PassEnd::Missing) };
        let folio = table.get(key);
        folio.touch();
        let until = folio.uptodate_until(pos..end.min(folio.end()).min(pos.saturating_add(folio.at_once())));
        if until == pos {
            return (copied(pos), PassEnd::Missing);
        }
        let result = match folio.stable(pos..until) {
            Some(bytes) => C::copy_to(to, bytes),
            None => match folio.read(pos..until, |bytes| C::copy_to(to, bytes)) {
                Ok(result) => result,
                Err(error) => return (copied(pos), PassEnd::Failed(error)),
            },
        };
        observer.copied((until - pos) as usize, &result);
        match result {
            Ok(_) => pos = until,
            Err(short) => {
                // It is wanted again once the buffer is faulted in.
                folio.want();
                return (copied(pos) + short.done, PassEnd::Fault(short.fault));
            }
        }
    }
    ((pos.max(start) - start) as usize, PassEnd::End)
}

impl Inode {
    /// Makes at least the byte at `pos` valid, and about `window` bytes from there on if that takes no more than one folio.
    /// The store is read without the lock, unless the missing bytes are a part of a folio.
    ///
    /// # Errors
    /// The store's error; [`Error::Full`] if there is no memory within the limit.
    pub(crate) fn fill(&self, pos: u64, window: u64) -> Result<(), Error> {
        for _ in 0..WITHOUT_THE_LOCK {
            let mut table = self.table.exclusive()?;
            if table.mapped().is_some() {
                // There is one place for these bytes, and a second thread would fill it again.
                return self.fill_locked(&mut table, pos, window, Use::Copy);
            }
            let Some(mut folio) = self.new_folio(&mut table, pos, window, Use::Copy)? else { return Ok(()) };
            let (generation, end_of_blocks) = (table.generation(), self.end_of_blocks(&table));
            let end = end_of_blocks.min(folio.end());
            // Memory is free in small pieces only, or scarce: the rest of the window takes several folios.
            let until = end_of_blocks.min(pos.saturating_add(window));
            let rest = folio.end()..until.max(folio.end());
            let is_cut = !rest.is_empty() && folio.len() < table.room(folio.start(), rest.end - folio.start());
            drop(table);
            let range = folio.start()..end;
            match self.read_ahead(&mut folio, range.clone()) {
                Ok(()) => {}
                // The store may have been truncated and extended again meanwhile.
                Err(Error::Store(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            let mut table = self.table.exclusive()?;
            // Otherwise another thread has changed the bytes that were read, or has inserted a folio there.
            if table.generation() == generation
                && table.room(range.start, folio.len() as u64) == folio.len()
                && table.find(range.start).is_none()
            {
                table.insert(folio);
                drop(table);
                if is_cut {
                    // By one call of the store.
                    self.fill_many(Vec::from([rest]));
                }
                return Ok(());
            }
        }
        self.fill_locked(&mut *self.table.exclusive()?, pos, window, Use::Copy)
    }

    /// Fills as [`fill`](Self::fill) does, under the exclusive inode lock.
    pub(crate) fn fill_locked(&self, table: &mut Table, pos: u64, window: u64, what_for: Use) -> Result<(), Error> {
        if let Some(mut folio) = self.new_folio(table, pos, window, what_for)? {
            let range = folio.start()..self.end_of_blocks(table).min(folio.end());
            self.read_ahead(&mut folio, range)?;
            table.insert(folio);
        }
        Ok(())
    }

    /// Makes a folio for `pos` that is not in the table yet. `None` if nothing is missing there any more: the end of the
    /// file is before it, or the existing folio was filled.
    fn new_folio(&self, table: &mut Table, pos: u64, window: u64, what_for: Use) -> Result<Option<Folio>, Error> {
        if pos >= table.size() {
            return Ok(None);
        }
        let block = self.geometry.block;
        let end = self.end_of_blocks(table).min(self.geometry.block_up(pos.saturating_add(window)));
        if let Some(key) = table.find(pos) {
            let folio = table.get_mut(key);
            folio.want();
            let part = pos..end.min(folio.end());
            let blocks = self.geometry.block_down(part.start)..self.geometry.block_up(part.end);
            while let Some(run) = folio.next_missing(blocks.clone()) {
                let (_, result) = self.read_blocks(folio, run);
                // Errors of readahead are reported when the bytes are needed.
                if result.is_err() {
                    return if folio.is_uptodate(pos..pos + 1) { Ok(None) } else { result.map(|()| None) };
                }
            }
            return Ok(None);
        }
        let start = self.geometry.block_down(pos);
        let room = table.room(start, end - start);
        let memory = self.cache.memory_for(self, table, start, room, what_for)?;
        Ok(Some(Folio::new(memory, start, block)))
    }

    /// Returns the end of the last block of the file.
    pub(crate) fn end_of_blocks(&self, table: &Table) -> u64 {
        self.geometry.block_up(table.size())
    }
}

impl Inode {
    /// # Errors
    /// The store's error; [`Error::Full`] if there is no memory within the limit.
    pub(crate) fn will_need(&self, range: Range<u64>) -> Result<(), Error> {
        let mut pos = range.start;
        loop {
            let missing = {
                let table = self.table.shared()?;
                let end = range.end.min(table.size());
                while pos < end
                    && let Some(key) = table.find(pos)
                {
                    let folio = table.get(key);
                    let until = folio.uptodate_until(pos..end.min(folio.end()));
                    pos = until;
                    if until < end.min(folio.end()) {
                        break;
                    }
                }
                end.saturating_sub(pos)
            };
            if missing == 0 {
                return Ok(());
            }
            self.fill(pos, missing)?;
            // Whether it is still there or was evicted by now: this goes over the range once.
            pos = self.geometry.block_up(pos + 1);
        }
    }

    /// Evicts clean folios within `range`.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub(crate) fn dont_need(&self, range: Range<u64>) -> Result<(), Error> {
        let mut table = self.table.exclusive()?;
        let mut pos = range.start;
        while let Some(key) = table.next(pos) {
            let folio = table.get(key);
            pos = folio.end();
            if folio.start() >= range.end {
                break;
            }
            if folio.start() >= range.start
                && folio.end() <= range.end
                && !folio.is_dirty()
                && !table.is_kept(folio.start()..folio.end())
            {
                table.remove(key);
            }
        }
        Ok(())
    }
}
