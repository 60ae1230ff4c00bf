//! The rounds of a write.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::num::NonZeroUsize;

use faultin::iov::IovSource;
use faultin::memory::ReadMemory;

use super::config::{AfterShort, Batch, FaultIn, Preallocate, WriteLoop};
use super::observer::{Decision, Observer};
use super::round::{Outcome, Round};
use crate::copy::CopyFrom;
use crate::error::{Error, Partial};
use crate::inode::Inode;
use crate::mutation::{Bug, Mutation};
use crate::store::MAX_BYTES;
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
    let nothing = |error: Error| Partial { done: 0, error };
    let writers = || inode.writers.exclusive().map_err(|deadlock| nothing(deadlock.into()));
    let _writers = if matches!(at, At::Locked(_)) { None } else { Some(writers()?) };
    let pos = match at {
        At::Position(pos) | At::Locked(pos) => pos,
        At::End => inode.table.shared().map_err(|deadlock| nothing(deadlock.into()))?.size(),
    };
    inode.check_growth(pos, from.count()).map_err(nothing)?;
    let end = pos + from.count() as u64;
    let how = &inode.how;
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
    let done = (write.pos - pos) as usize;
    match result {
        Ok(()) => Ok(done),
        Err(error) if mutation.has(Bug::ForgetsProgress) => Err(nothing(error)),
        Err(error) => Err(Partial { done, error }),
    }
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
        let geometry = self.inode.geometry;
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
        let block = self.inode.geometry.block;
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
        let end = self.inode.geometry.block_up(end).min(MAX_BYTES);
        self.inode.store.allocate(self.pos..end)?;
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
