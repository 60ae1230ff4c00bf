//! The common structure of transfers between a file and a buffer: *rounds*, and what happens between two of them.
//!
//! Four loops move bytes (reads and writes, through the cache and past it). Each defines its [round](Transfer::round); this
//! module decides when there is another one:
//!
//! * A round copies first. The bytes that it moved stay moved, and the next one begins after them.
//! * A round that moved something is progress, whatever ended it. After progress nothing is faulted in.
//! * After a round that moved nothing because of the buffer, the buffer is faulted in, with no lock held: as much of it as
//!   can stay in memory until the next round, and less if that was too much, down to a part of one page, and at last to one
//!   byte.
//! * A byte that cannot be faulted in ends the transfer, and so do [`NO_PROGRESS`] rounds in a row that moved nothing.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, WriteMemory};
use faultin::{Cause, Fault};

use crate::error::Error;
use crate::inode::Inode;
use crate::mutation::{Bug, Mutation};
use crate::write::Observer;

/// Number of rounds in a row that may move nothing although the buffer could be faulted in before each.
pub const NO_PROGRESS: u32 = 64;

/// Maximum number of bytes faulted in at once.
const WINDOW: usize = 1 << 20;

/// Number of windows in a row that stayed in memory as a whole, after which the next one is larger.
const STAYED: u32 = 8;

/// Minimum number of bytes faulted in, all of one page, as long as that makes progress: one byte at a time would be slow.
const MIN_WINDOW: usize = 512;

/// Number of such windows in a row without progress, after which one has a single byte, the minimum.
const MIN_ATTEMPTS: u32 = 4;

/// A list of segments, in either direction.
pub(crate) trait Buffer {
    /// Counts as [`IovSource::reach`] does.
    fn reach(&self, pages: usize, limit: usize) -> usize;
    /// Faults in as [`IovSource::fault_in`] does.
    fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;
}

impl<M: ReadMemory> Buffer for IovSource<'_, '_, M> {
    fn reach(&self, pages: usize, limit: usize) -> usize {
        self.reach(pages, limit)
    }
    fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.fault_in(len)
    }
}

impl<M: WriteMemory> Buffer for IovDest<'_, '_, M> {
    fn reach(&self, pages: usize, limit: usize) -> usize {
        self.reach(pages, limit)
    }
    fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.fault_in(len)
    }
}

/// The result of a round.
pub(crate) struct Round {
    /// Number of bytes that were moved, and count.
    pub(crate) moved: usize,
    pub(crate) ended: Ended,
}

/// The reason why a round ended.
pub(crate) enum Ended {
    /// There is no more to move, or the rest is for another loop.
    End,
    /// It moved everything that it had requested.
    Full,
    /// The file's bytes were missing. They were brought in, but may be evicted again.
    Missing,
    /// A copy was short: the buffer has to be faulted in if nothing was moved. A bug can end a round without a fault.
    Short(Option<Fault>),
    /// Bytes were copied and do not count, or this loop faults in before its rounds: nothing has to be faulted in.
    Again(Option<Fault>),
    Failed(Error),
}

/// One of the loops.
pub(crate) trait Transfer<B: Buffer> {
    /// Moves some bytes, and no more than one hold of the inode lock allows.
    fn round<O: Observer>(&mut self, buffer: &mut B, retry: &mut Retry<'_>, observer: &mut O) -> Round;

    /// Returns the number of bytes that the last round requested, if it moved nothing: more need not be faulted in.
    fn asked(&self, buffer: &B) -> usize;

    /// Returns whether the rest is for another loop, after `vain` rounds in a row that moved nothing because of the buffer.
    fn gives_up(&self, vain: u32) -> bool {
        let _ = vain;
        false
    }
}

/// Runs rounds until there is nothing more to move.
///
/// # Errors
/// The error that ended the transfer.
#[inline]
pub(crate) fn run<B: Buffer, T: Transfer<B>>(
    inode: &Inode,
    buffer: &mut B,
    transfer: &mut T,
    mutation: impl Mutation,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let mut retry = Retry { inode, vain: 0, refusals: 0, window: Window::default() };
    loop {
        let Round { moved, ended } = transfer.round(buffer, &mut retry, observer);
        match ended {
            Ended::End => return Ok(()),
            Ended::Failed(error) => return Err(error),
            Ended::Full | Ended::Missing | Ended::Short(_) | Ended::Again(_) => {}
        }
        if retry.next(moved, ended, buffer, transfer, mutation, observer)?.is_break() {
            return Ok(());
        }
    }
}

/// The state of a loop between rounds.
pub(crate) struct Retry<'a> {
    inode: &'a Inode,
    /// Number of rounds in a row that moved nothing.
    vain: u32,
    /// The cache's [refusals](crate::inode::Shared::refusals) after the first of them.
    refusals: u64,
    window: Window,
}

impl Retry<'_> {
    /// Does what is necessary before the next round.
    #[inline]
    fn next<B: Buffer, T: Transfer<B>>(
        &mut self,
        moved: usize,
        ended: Ended,
        buffer: &B,
        transfer: &mut T,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<ControlFlow<()>, Error> {
        self.window.moved(moved);
        if matches!(ended, Ended::Short(_)) {
            self.window.fell_short();
        }
        if moved > 0 || matches!(ended, Ended::Full) {
            self.vain = 0;
            return Ok(ControlFlow::Continue(()));
        }
        self.vain_round(ended, buffer, transfer, mutation, observer)
    }

    #[cold]
    fn vain_round<B: Buffer, T: Transfer<B>>(
        &mut self,
        ended: Ended,
        buffer: &B,
        transfer: &mut T,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<ControlFlow<()>, Error> {
        self.vain += 1;
        if self.vain == 1 {
            self.refusals = self.inode.cache().refusals();
        }
        let fault = match ended {
            Ended::Short(_) if transfer.gives_up(self.vain) => return Ok(ControlFlow::Break(())),
            Ended::Short(fault) => {
                let usable = self.fault_in(buffer, transfer.asked(buffer), mutation, observer);
                if !mutation.has(Bug::IgnoresFaultIn) {
                    usable.map_err(|error| self.reason(error))?;
                }
                fault
            }
            Ended::Again(fault) => fault,
            // Bytes that are missing repeatedly are brought in and copied under one lock: the round does that.
            _ => return Ok(ControlFlow::Continue(())),
        };
        if let Some(fault) = fault
            && self.vain > NO_PROGRESS
        {
            return Err(self.reason(Error::NoProgress(fault)));
        }
        if observer.again().is_break() { Err(Error::Stopped) } else { Ok(ControlFlow::Continue(())) }
    }

    /// Returns the reason why the buffer's memory, which may be a mapping of the same cache, is inaccessible: if the cache
    /// has denied memory since the last progress because a store does not take dirty blocks, that is the reason.
    fn reason(&self, error: Error) -> Error {
        let is_of_memory = match &error {
            Error::Fault(fault) => fault.cause() == Cause::Backing,
            Error::NoProgress(_) => true,
            _ => false,
        };
        let refused = if is_of_memory { self.inode.cache().refused_since(self.refusals) } else { None };
        refused.unwrap_or(error)
    }

    /// Returns how many of the next `ask` bytes are expected to stay in memory once they were faulted in.
    pub(crate) fn reach<B: Buffer>(&mut self, buffer: &B, ask: usize) -> usize {
        self.window.reach(self.inode, buffer, ask)
    }

    /// Faults in what the next round needs, at most `ask` bytes: returns the length of the accessible prefix.
    ///
    /// # Errors
    /// [`Error::Fault`] at the first byte; [`Error::Deadlock`] if the fault needs a lock that this thread holds.
    pub(crate) fn fault_in<B: Buffer>(
        &mut self,
        buffer: &B,
        ask: usize,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Error> {
        let Some(len) = NonZeroUsize::new(self.reach(buffer, ask)) else { return Ok(usize::MAX) };
        // The lock that no thread holds while a buffer is faulted in, except with a bug: the inode lock.
        let lock = match mutation.has(Bug::FaultsInUnderTheLock) {
            true => Some(self.inode.table().exclusive()?),
            false => None,
        };
        if lock.is_some() {
            observer.locked();
        }
        let result = buffer.fault_in(len);
        observer.faulted_in(len.get(), &result);
        if lock.is_some() {
            observer.unlocked();
        }
        drop(lock);
        let usable = result.map_err(Error::Fault)?.get();
        self.window.faulted_in(len.get(), usable);
        Ok(usable)
    }
}

/// The part of a buffer that is faulted in at once. If faulted-in bytes could not be copied, they were evicted in between,
/// by this very operation if the window is larger than what can stay; so the next window is smaller.
#[derive(Debug, Default)]
struct Window {
    /// Maximum number of pages; 0 before the first one.
    pages: usize,
    /// Maximum number of bytes.
    bytes: usize,
    /// Number of bytes of the last window.
    asked: usize,
    /// Number of bytes that it made accessible and that have not been moved yet.
    expected: usize,
    /// Number of windows in a row that were moved as a whole.
    stayed: u32,
    /// Number of windows in a row of the least size of which nothing was moved.
    least: u32,
}

impl Window {
    /// Returns the number of pages that a cache of this size can keep resident for this operation at once.
    fn pages(inode: &Inode) -> usize {
        let most = WINDOW / rustix::param::page_size();
        if inode.geometry().block < rustix::param::page_size() {
            // No file of such a cache can be mapped, so it does not affect any buffer.
            return most;
        }
        // As many pages as there are blocks in the share, since each may be in a block of its own.
        (inode.cache().share() / inode.geometry().block).clamp(1, most)
    }

    fn reach<B: Buffer>(&mut self, inode: &Inode, buffer: &B, ask: usize) -> usize {
        if self.pages == 0 {
            (self.pages, self.bytes) = (Window::pages(inode), WINDOW);
        }
        if self.stayed >= STAYED {
            self.stayed = 0;
            self.bytes = (2 * self.bytes).clamp(MIN_WINDOW, WINDOW);
        }
        let pages = if self.bytes > MIN_WINDOW { self.pages } else { 1 };
        buffer.reach(pages, ask.min(self.bytes))
    }

    fn faulted_in(&mut self, asked: usize, usable: usize) {
        self.asked = asked;
        self.expected = usable;
        if usable < asked {
            // More does not stay, or is bad.
            self.bytes = self.bytes.min(usable.max(MIN_WINDOW));
            self.stayed = 0;
        }
    }

    #[inline]
    fn moved(&mut self, moved: usize) {
        if self.expected > 0 && moved > 0 {
            self.least = 0;
            self.expected = self.expected.saturating_sub(moved);
            if self.expected == 0 {
                self.stayed += 1;
            }
        }
    }

    /// Records that a copy was short because of the buffer.
    #[inline]
    fn fell_short(&mut self) {
        if self.expected > 0 {
            self.bytes = (self.asked / 4).max(MIN_WINDOW);
            if self.asked <= MIN_WINDOW {
                self.least += 1;
                if self.least >= MIN_ATTEMPTS {
                    self.bytes = 1;
                }
            }
            self.expected = 0;
            self.stayed = 0;
        }
    }
}
