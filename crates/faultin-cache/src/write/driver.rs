//! The rounds of a write.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::num::NonZeroUsize;

use faultin::iov::{IovSource, ReadSegment};
use faultin::memory::ReadMemory;

use super::config::{AfterShort, Batch, FaultIn, Preallocate, WriteLoop};
use super::observer::{Decision, Observer};
use super::round::{Outcome, Round};
use crate::copy::CopyFrom;
use crate::error::{Error, Partial};
use crate::folio::Table;
use crate::inode::Inode;
use crate::lock::Exclusive;
use crate::mutation::{Bug, Mutation};
use crate::store::MAX_BYTES;
use crate::sync;
use crate::transfer::{self, Ended, Retry, Transfer};

/// The position of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Position(u64),
    /// A position, for a caller that has the lock of the writers.
    Locked(u64),
    /// The end of the file when no other write is under way.
    End,
}

/// Writes what is left in `from`.
///
/// # Errors
/// [`Partial`]: the number of bytes written, and the reason for the end.
#[inline]
pub(crate) fn perform<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    at: At,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let mut meets = false;
    let writers = match at {
        At::Locked(_) => None,
        At::Position(_) | At::End => match inode.writers().try_unbiased() {
            Some(writers) => Some(writers),
            None => match beside_others::<M, C>(inode, from, at, mutation, observer)? {
                Turn::Done(done) => return Ok(done),
                Turn::Alone { writers, could_overwrite } => {
                    meets = could_overwrite;
                    Some(writers)
                }
            },
        },
    };
    let nothing = |error: Error| Partial { done: 0, error };
    let pos = match at {
        At::Position(pos) | At::Locked(pos) => pos,
        At::End => inode.table().shared().map_err(|deadlock| nothing(deadlock.into()))?.size(),
    };
    inode.check_growth(pos, from.count()).map_err(nothing)?;
    let end = pos + from.count() as u64;
    let how = &inode.how();
    let mut write: Write<'_, _, C> = Write {
        inode,
        how,
        mutation,
        start: pos,
        pos,
        limit: usize::MAX,
        asked: 0,
        after_nothing: false,
        way: PhantomData,
    };
    let allocated = write.preallocate(from, end, observer).map_err(nothing)?;
    let result = transfer::run(inode, from, &mut write, mutation, observer);
    if allocated && write.pos < end {
        write.trim(observer);
    }
    if meets
        && inode.table().meet_writer()
        && let Some(writers) = &writers
    {
        writers.bias();
    }
    let done = (write.pos - pos) as usize;
    match result {
        Ok(()) => Ok(done),
        Err(error) if mutation.has(Bug::ForgetsProgress) => Err(nothing(error)),
        Err(error) => Err(Partial { done, error }),
    }
}

/// What a write does that has found that other threads write to the file.
enum Turn<'a> {
    /// It is done, with this number of bytes.
    Done(usize),
    /// It has the writers' lock. `could_overwrite`: it need not have waited for another one of its kind.
    Alone { writers: Exclusive<'a, ()>, could_overwrite: bool },
}

/// Writes beside other threads if that is possible; otherwise waits for the writers' lock.
#[inline(never)]
fn beside_others<'a, M: ReadMemory, C: CopyFrom<M>>(
    inode: &'a Inode,
    from: &mut IovSource<'_, '_, M>,
    at: At,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<Turn<'a>, Partial> {
    let could_overwrite = is_one_copy(inode, from, at, mutation);
    if could_overwrite && let Some(done) = overwrite::<M, C>(inode, from, at, observer) {
        return Ok(Turn::Done(done));
    }
    let lock = || inode.writers().exclusive().map_err(|deadlock| Partial { done: 0, error: deadlock.into() });
    let mut writers = lock()?;
    // Meanwhile another thread may have found that writers need not wait for each other.
    if could_overwrite && inode.table().has_ranges() {
        writers.bias();
        drop(writers);
        if let Some(done) = overwrite::<M, C>(inode, from, at, observer) {
            return Ok(Turn::Done(done));
        }
        writers = lock()?;
    }
    Ok(Turn::Alone { writers, could_overwrite })
}

/// Returns whether a write is one copy if its bytes are cached.
#[inline]
fn is_one_copy<M: ReadMemory>(inode: &Inode, from: &IovSource<'_, '_, M>, at: At, mutation: impl Mutation) -> bool {
    let first = from.segments().next();
    matches!(at, At::Position(_))
        && inode.how().is_one_copy()
        && mutation.bug().is_none()
        && matches!(first, Some(ReadSegment::Plain(bytes)) if bytes.len() == from.count())
}

/// How often a write tries to get a range that another thread may have: longer than that copies a block.
const RANGE_TRIES: u32 = 400;

/// Overwrites cached bytes beside other threads that overwrite others. Returns the number of bytes, all that are left in
/// `from`; `None` if that is not possible, and then nothing was done.
///
/// It has the inode lock for its range alone, and no writers' lock. A thread that has the writers' lock changes something,
/// or decides by what it has read, under the inode lock only. So if this thread, with its range, finds the writers' lock
/// free, then a thread that takes it now comes after this write; otherwise this write waits for the writers' lock.
#[inline]
fn overwrite<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    from: &mut IovSource<'_, '_, M>,
    at: At,
    observer: &mut impl Observer,
) -> Option<usize> {
    let At::Position(pos) = at else { return None };
    let len = from.count();
    let range = pos..pos.checked_add(len as u64)?;
    let mut ranged = (0..RANGE_TRIES).find_map(|tried| {
        if tried > 0 {
            sync::pause();
        }
        inode.table().has_ranges().then(|| inode.table().try_range(range.clone())).flatten()
    })?;
    let is_free = (0..sync::SPINS).any(|tried| {
        if tried > 0 {
            sync::pause();
        }
        inode.writers().is_free()
    });
    if !is_free {
        return None;
    }
    let streams = inode.how().streams(len);
    let mut copied = Ok(0);
    let done = Table::overwrite(&mut ranged, |dst| {
        copied = if streams { C::stream_from(from, dst) } else { C::copy_from(from, dst) };
        copied.as_ref().map_or_else(|short| short.done, |moved| *moved)
    })?;
    // Before foreign code runs, which may panic.
    inode.add_dirty(done.dirty);
    debug_assert!(copied.is_ok() && done.moved == len, "a slice never faults");
    observer.locked();
    observer.copied(len, &copied.map(|_| done.moved));
    observer.unlocked();
    Some(done.moved)
}

/// A write under way.
struct Write<'a, B, C> {
    inode: &'a Inode,
    how: &'a WriteLoop,
    mutation: B,
    /// The position where it began.
    start: u64,
    /// The position of the next byte.
    pos: u64,
    /// Maximum number of bytes that the next round requests.
    limit: usize,
    /// Number of bytes that the last round requested.
    asked: usize,
    /// Whether some round has copied nothing.
    after_nothing: bool,
    way: PhantomData<C>,
}

impl<M: ReadMemory, C: CopyFrom<M>, B: Mutation> Transfer<IovSource<'_, '_, M>> for Write<'_, B, C> {
    #[inline]
    fn round<O: Observer>(
        &mut self,
        from: &mut IovSource<'_, '_, M>,
        retry: &mut Retry<'_>,
        observer: &mut O,
    ) -> transfer::Round {
        if from.is_empty() {
            return transfer::Round { moved: 0, ended: Ended::End };
        }
        let mut ask = self.next_ask(from);
        if self.how.fault_in != FaultIn::AfterNothing {
            ask = retry.reach(from, ask);
            if let Err(error) = self.fault_in_before(from, ask, retry, observer) {
                return transfer::Round { moved: 0, ended: Ended::Failed(error) };
            }
        }
        self.asked = ask;
        let mut round = Round::new(self.inode, self.mutation, self.pos, ask, self.after_nothing);
        let outcome = round.run::<M, C>(from, observer);
        self.advance(outcome.accepted);
        let ended = if let Some(error) = outcome.error {
            Ended::Failed(error)
        } else if outcome.accepted < ask || ask == 0 {
            self.after_short(ask, &outcome, observer)
        } else {
            // A shorter attempt has got past the fault.
            if self.how.after_short != AfterShort::Block {
                self.limit = usize::MAX;
            }
            Ended::Full
        };
        transfer::Round { moved: outcome.accepted, ended }
    }

    #[inline]
    fn asked(&self, _: &IovSource<'_, '_, M>) -> usize {
        self.asked
    }
}

impl<B: Mutation, C> Write<'_, B, C> {
    /// Returns the number of bytes that the next round requests.
    #[inline]
    fn next_ask<M: ReadMemory>(&self, from: &IovSource<'_, '_, M>) -> usize {
        let geometry = self.inode.geometry();
        let ask = from.count().min(self.limit);
        let to_end_of = |unit: usize| unit - (self.pos as usize & (unit - 1));
        let ask = match self.how.batch {
            Batch::Whole => ask,
            Batch::Folio => ask.min(to_end_of(geometry.max_folio)),
            Batch::Blocks(blocks) => {
                let more = blocks.saturating_sub(1).saturating_mul(geometry.block);
                ask.min(to_end_of(geometry.block).saturating_add(more))
            }
        };
        match self.mutation.bug() {
            Some(Bug::StepsBySegment(lens)) => ask.min(rest_of_segment(&lens, from.moved())),
            _ => ask,
        }
    }

    #[inline]
    fn advance(&mut self, accepted: usize) {
        self.pos = match self.mutation.bug() {
            Some(Bug::DecidesPositionAgain) => self.start + accepted as u64,
            Some(Bug::CumulativeCount) => self.pos + (self.pos - self.start) + accepted as u64,
            _ => self.pos + accepted as u64,
        };
    }

    /// Handles a short round: decides what the next one requests, and whether the buffer is faulted in before.
    #[cold]
    fn after_short(&mut self, ask: usize, outcome: &Outcome, observer: &mut impl Observer) -> Ended {
        let block = self.inode.geometry().block;
        let limit = match self.how.after_short {
            _ if matches!(self.mutation.bug(), Some(Bug::AsksForTheSame | Bug::TwoRules)) => usize::MAX,
            // Whatever is requested after other short copies: the rejected bytes could be copied, and more could not.
            _ if outcome.rejected > 0 => outcome.rejected,
            AfterShort::Block => block,
            AfterShort::Copied if outcome.accepted == 0 => (ask / 2).max(block),
            AfterShort::Copied | AfterShort::All => usize::MAX,
        };
        if limit < self.limit.min(ask) {
            observer.decided(Decision::AskFor(limit));
        }
        self.limit = limit;
        self.after_nothing |= outcome.accepted == 0 && outcome.rejected == 0;
        if outcome.rejected == 0 { Ended::Short(outcome.fault) } else { Ended::Again(outcome.fault) }
    }

    /// Faults in, for loops that do so before each attempt.
    #[cold]
    fn fault_in_before<M: ReadMemory>(
        &self,
        from: &IovSource<'_, '_, M>,
        ask: usize,
        retry: &mut Retry<'_>,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let usable = retry.fault_in(from, ask, self.mutation, observer)?;
        if usable >= ask || self.how.fault_in == FaultIn::BeforeSome {
            return Ok(());
        }
        // A second attempt from there reports why the next byte could not be faulted in. If it succeeds by now, so much the
        // better.
        let mut behind = from.clone();
        behind.advance(usable);
        retry.fault_in(&behind, ask - usable, self.mutation, observer).map(drop)
    }

    /// Returns whether the store has allocated the range up to `end`.
    #[inline]
    fn preallocate<M: ReadMemory>(
        &self,
        from: &IovSource<'_, '_, M>,
        end: u64,
        observer: &mut impl Observer,
    ) -> Result<bool, Error> {
        let wanted = match self.how.preallocate {
            Preallocate::No => return Ok(false),
            Preallocate::Yes => end > self.pos,
            Preallocate::IfFaultedIn if from.is_empty() => false,
            // Only a check here: the rounds will find out which bytes cannot be faulted in.
            Preallocate::IfFaultedIn => {
                let Some(all) = NonZeroUsize::new(from.count()) else { return Ok(false) };
                let result = from.fault_in(all);
                observer.faulted_in(all.get(), &result);
                result.is_ok_and(|usable| usable >= all)
            }
        };
        if !wanted {
            observer.decided(Decision::DoNotPreallocate);
            return Ok(false);
        }
        observer.decided(Decision::Preallocate);
        let end = self.inode.geometry().block_up(end).min(MAX_BYTES);
        self.inode.store().allocate(self.pos..end)?;
        Ok(true)
    }

    /// Frees the space that was allocated and is not used. A failure costs space, not bytes: it is no error of the write.
    fn trim(&self, observer: &mut impl Observer) {
        observer.decided(Decision::Trim);
        let _ = self.inode.trim();
    }
}

/// Returns the number of bytes left of the segment that contains the position `moved`: none, of an empty one.
fn rest_of_segment(lens: &[usize; 3], moved: usize) -> usize {
    let mut begin = 0;
    for len in lens {
        if moved < begin + len || (moved == begin && *len == 0) {
            return begin + len - moved;
        }
        begin += len;
    }
    0
}
