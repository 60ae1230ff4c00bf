//! Reading to a buffer that may fault.
//!
//! A pass takes the inode lock, shared, and copies from folio to folio. Missing bytes are [fetched](crate::fetch), and missing
//! pages of the buffer are faulted in, both when the lock is free; then another pass follows.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use faultin::Fault;
use faultin::iov::IovDest;
use faultin::memory::WriteMemory;

use crate::ahead::{Advised, Ahead};
use crate::copy::CopyTo;
use crate::error::{Error, Partial};
use crate::fetch::NotRead;
use crate::folio::Table;
use crate::inode::{Inode, Use, check_range};
use crate::mutation::Mutation;
use crate::stats::Operation;
use crate::transfer::{self, Ended, Retry, Round, Transfer};
use crate::write::Observer;

/// Number of rounds, since one has moved something, that found evicted what the round before had filled; then a round installs
/// and copies under one lock.
const MISSED: u32 = 8;

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
    let mut read: Read<'_, C> =
        Read { inode, ahead, advised, start: pos, pos, missed: 0, not_read: None, way: PhantomData };
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
    /// What could not be read together with bytes before it: the store is not asked again for this read.
    not_read: Option<NotRead>,
    way: PhantomData<C>,
}

impl<M: WriteMemory, C: CopyTo<M>> Transfer<IovDest<'_, '_, M>> for Read<'_, C> {
    #[inline]
    fn round<O: Observer>(&mut self, to: &mut IovDest<'_, '_, M>, _: &mut Retry<'_>, observer: &mut O) -> Round {
        let (moved, stop) = if self.missed > MISSED {
            self.fill_and_pass(to, observer)
        } else {
            match self.inode.table().shared() {
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
    /// Fetches bytes that a pass found missing.
    #[cold]
    fn fill(&mut self, left: usize, observer: &mut impl Observer) -> Ended {
        self.missed += 1;
        let block = self.inode.geometry().block_down(self.pos);
        if let Some((_, error)) = self.not_read.take().filter(|(at, _)| *at == block) {
            return Ended::Failed(error);
        }
        match self.inode.fill(self.pos, left as u64, self.window(left)) {
            Ok(not_read) => {
                self.not_read = not_read;
                observer.filled();
                Ended::Missing
            }
            Err(error) => Ended::Failed(error),
        }
    }

    /// Copies under the lock under which the bytes were installed, because other threads evict filled folios before they can be read.
    #[cold]
    fn fill_and_pass<M: WriteMemory>(
        &mut self,
        to: &mut IovDest<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> (usize, PassEnd)
    where
        C: CopyTo<M>,
    {
        let (table, _) = match self.inode.filled(self.pos, 0, self.window(to.count()), Use::Copy) {
            Ok(filled) => filled,
            Err(error) => return (0, PassEnd::Failed(error)),
        };
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
        self.ahead.window(self.advised, pos, left as u64).min(self.inode.cache().share() as u64)
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
    /// # Errors
    /// The store's error; [`Error::Full`] if there is no memory within the limit.
    pub(crate) fn will_need(&self, range: Range<u64>) -> Result<(), Error> {
        let mut pos = range.start;
        loop {
            let missing = {
                let table = self.table().shared()?;
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
            if let Some((_, error)) = self.fill(pos, missing, missing)? {
                return Err(error);
            }
            // Whether it is still there or was evicted by now: this goes over the range once.
            pos = self.geometry().block_up(pos + 1);
        }
    }

    /// Evicts clean folios within `range`.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub(crate) fn dont_need(&self, range: Range<u64>) -> Result<(), Error> {
        let mut table = self.table().exclusive()?;
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
