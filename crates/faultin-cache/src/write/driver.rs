//! The rounds of a write.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use faultin::iov::IovSource;
use faultin::memory::ReadMemory;

use super::bug::Bug;
use super::config::{AfterShort, Batch, FaultIn, Preallocate, WriteLoop};
use super::observer::{Decided, Observer};
use super::round::{Came, Round};
use crate::error::{Error, Partial};
use crate::inode::{Inode, MAX_BYTES};
use crate::mode::CopyFrom;

/// Rounds in a row that may move nothing although the buffer could be faulted in before each.
pub const NO_PROGRESS: u32 = 64;

/// Bytes that are faulted in at once, at most.
const WINDOW: usize = 1 << 20;

/// Where a write goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Position(u64),
    /// A position, for a caller that has the lock of the writers.
    Locked(u64),
    /// The end of the file, wherever that is once nobody else is writing.
    End,
}

/// Writes what is left in `from`.
///
/// # Errors
/// [`Partial`]: what was written, and why no more was.
#[inline]
pub(crate) fn perform<M: ReadMemory, C: CopyFrom<M>>(
    inode: &Inode,
    how: &WriteLoop,
    from: &mut IovSource<'_, '_, M>,
    at: At,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let nothing = |error: Error| Partial { done: 0, error };
    let writers = || inode.writers.exclusive().map_err(|deadlock| nothing(deadlock.into()));
    let _writers = if matches!(at, At::Locked(_)) { None } else { Some(writers()?) };
    let pos = match at {
        At::Position(pos) | At::Locked(pos) => pos,
        At::End => inode.table.shared().map_err(|deadlock| nothing(deadlock.into()))?.size,
    };
    inode.check_growth(pos, from.count()).map_err(nothing)?;
    let mut write = Write { inode, how, start: pos, pos, limit: usize::MAX, idle: 0, after_nothing: false };
    let end = pos + from.count() as u64;
    let allocated = write.preallocate(from, end, observer).map_err(nothing)?;
    let result = write.rounds::<M, C>(from, observer);
    if allocated && write.pos < end {
        write.trim(observer);
    }
    let done = (write.pos - pos) as usize;
    match result {
        Ok(()) => Ok(done),
        Err(error) if how.bug == Some(Bug::ForgetsProgress) => Err(nothing(error)),
        Err(error) => Err(Partial { done, error }),
    }
}

/// A write under way.
struct Write<'a> {
    inode: &'a Inode,
    how: &'a WriteLoop,
    /// Where it began,
    start: u64,
    /// and where it goes on.
    pos: u64,
    /// What the next round asks for, at most.
    limit: usize,
    /// Rounds in a row that moved nothing.
    idle: u32,
    /// Whether some round has copied nothing.
    after_nothing: bool,
}

impl Write<'_> {
    #[inline]
    fn rounds<M: ReadMemory, C: CopyFrom<M>>(
        &mut self,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        while !from.is_empty() {
            let ask = self.ask(from);
            match self.how.fault_in {
                FaultIn::AfterNothing => {}
                FaultIn::BeforeSome => drop(self.fault_in(from, ask, observer)?),
                FaultIn::BeforeAll => self.fault_in_all(from, ask, observer)?,
            }
            let mut round = Round::new(self.inode, self.how, self.pos, ask, self.after_nothing);
            let came = round.run::<M, C>(from, observer);
            self.advance(came.accepted);
            if let Some(error) = came.error {
                return Err(error);
            }
            if came.accepted < ask || ask == 0 {
                self.after_short(ask, &came, from, observer)?;
                continue;
            }
            self.idle = 0;
            // What a shorter attempt was to get past is behind.
            if self.how.after_short != AfterShort::Block {
                self.limit = usize::MAX;
            }
        }
        Ok(())
    }

    /// How much the next round asks for.
    #[inline]
    fn ask<M: ReadMemory>(&self, from: &IovSource<'_, '_, M>) -> usize {
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
        match self.how.bug {
            Some(Bug::StepsBySegment(lens)) => ask.min(rest_of_segment(&lens, from.moved())),
            _ => ask,
        }
    }

    #[inline]
    fn advance(&mut self, accepted: usize) {
        self.pos = match self.how.bug {
            Some(Bug::DecidesPositionAgain) => self.start + accepted as u64,
            Some(Bug::CumulativeCount) => self.pos + (self.pos - self.start) + accepted as u64,
            _ => self.pos + accepted as u64,
        };
    }

    /// A round came back short: what the next one asks for, and what has to be faulted in before.
    #[cold]
    fn after_short<M: ReadMemory>(
        &mut self,
        ask: usize,
        came: &Came,
        from: &IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let block = self.inode.geometry.block;
        let limit = match self.how.after_short {
            _ if matches!(self.how.bug, Some(Bug::AsksForTheSame | Bug::TwoRules)) => usize::MAX,
            // Whatever is asked for after other short copies: what was refused could be copied, and more could not.
            _ if came.refused > 0 => came.refused,
            AfterShort::Block => block,
            AfterShort::Copied if came.accepted == 0 => (ask / 2).max(block),
            AfterShort::Copied | AfterShort::All => usize::MAX,
        };
        if limit < self.limit.min(ask) {
            observer.decided(Decided::AskFor(limit));
        }
        self.limit = limit;
        if came.accepted > 0 {
            self.idle = 0;
            // Progress: copy first, again.
            return Ok(());
        }
        let nothing = came.refused == 0;
        self.after_nothing |= nothing;
        if nothing && self.how.fault_in == FaultIn::AfterNothing {
            // A window that somebody keeps taking away again has a better chance if it is small.
            let window = if self.idle == 0 { ask.min(WINDOW) } else { ask.min(block) };
            let result = self.fault_in(from, window, observer);
            if self.how.bug != Some(Bug::IgnoresFaultIn) {
                result?;
            }
        }
        self.idle += 1;
        if let Some(fault) = came.fault
            && self.idle > NO_PROGRESS
        {
            return Err(Error::NoProgress(fault));
        }
        if observer.again().is_break() { Err(Error::Stopped) } else { Ok(()) }
    }

    fn fault_in<M: ReadMemory>(
        &self,
        from: &IovSource<'_, '_, M>,
        len: usize,
        observer: &mut impl Observer,
    ) -> Result<NonZeroUsize, Error> {
        let Some(len) = NonZeroUsize::new(len) else { return Ok(NonZeroUsize::MAX) };
        let lock = self.inode.lock_for_fault_in(observer)?;
        let result = from.fault_in(len);
        observer.faulted_in(len.get(), &result);
        if lock.is_some() {
            observer.unlocked();
        }
        drop(lock);
        result.map_err(Error::Fault)
    }

    /// Faults `len` bytes in, and refuses all of them if one could not be.
    fn fault_in_all<M: ReadMemory>(
        &self,
        from: &IovSource<'_, '_, M>,
        len: usize,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let usable = self.fault_in(from, len, observer)?.get();
        if usable >= len {
            return Ok(());
        }
        // Why the next byte could not be is known to whoever asks again from there. If it can be by now, so much the better.
        let mut behind = from.clone();
        behind.advance(usable);
        self.fault_in(&behind, len - usable, observer).map(drop)
    }

    /// Whether the store has allocated the range up to `end`.
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
            // It is only a question here: what cannot be faulted in, the rounds will find out.
            Preallocate::IfFaultedIn => {
                self.fault_in(from, from.count(), observer).is_ok_and(|usable| usable.get() >= from.count())
            }
        };
        if !wanted {
            observer.decided(Decided::DoNotPreallocate);
            return Ok(false);
        }
        observer.decided(Decided::Preallocate);
        let end = self.inode.geometry.block_up(end).min(MAX_BYTES);
        self.inode.store.allocate(self.pos..end)?;
        Ok(true)
    }

    /// Gives back what was allocated and is not used. What cannot be given back is space, not bytes: no error of the write.
    fn trim(&self, observer: &mut impl Observer) {
        observer.decided(Decided::Trim);
        let _ = self.inode.trim();
    }
}

/// Bytes left of the segment that the position `moved` rests on: none, of an empty one.
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
