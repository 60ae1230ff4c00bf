//! The *ANY* and the *ALL* primitive over a list.

use core::num::NonZeroUsize;

use super::segment::Segment;
use super::state::IovState;
use super::{IovDest, IovSource};
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{ReadMemory, WriteMemory};
use crate::probe::Granularity;

impl<M: ReadMemory> IovSource<'_, '_, M> {
    /// Makes the next attempt to read progress: the accessible prefix, in bytes, of the next `len` (or of what is left, if
    /// that is less). The first segment that is not accessible as a whole ends it. Does not move the position.
    ///
    /// The kernel counts the other way round: it returns the bytes *not* faulted in, which is `len` minus this.
    ///
    /// # Errors
    /// The [`Fault`] at the very first byte; [`Cause::OutOfRange`] if no byte is left.
    #[doc(alias = "fault_in_iov_iter_readable")]
    pub fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        prefix(&self.state, self.list.as_ref(), len, Access::Read)
    }

    /// Proves that each of the next `len` bytes can be loaded. Does not move the position.
    ///
    /// # Errors
    /// [`Short`]: the bytes proven. If fewer than `len` are left, nothing is accessed ([`Cause::OutOfRange`]).
    pub fn probe(&self, len: usize, granularity: Granularity) -> Result<(), Short> {
        self.need(len)?;
        every(&self.state, self.list.as_ref(), len, granularity)
    }
}

impl<M: WriteMemory> IovDest<'_, '_, M> {
    /// Makes the next attempt to write progress, without changing a byte: the accessible prefix, in bytes, of the next
    /// `len` (or of what is left, if that is less). The first segment that is not accessible as a whole ends it. Does not
    /// move the position.
    ///
    /// The kernel counts the other way round: it returns the bytes *not* faulted in, which is `len` minus this.
    ///
    /// # Errors
    /// The [`Fault`] at the very first byte; [`Cause::OutOfRange`] if no byte is left.
    #[doc(alias = "fault_in_iov_iter_writeable")]
    pub fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        prefix(&self.state, self.list.as_ref(), len, Access::Write)
    }

    /// Proves that each of the next `len` bytes can be stored, without changing one. Does not move the position.
    ///
    /// # Errors
    /// [`Short`]: the bytes proven. If fewer than `len` are left, nothing is accessed ([`Cause::OutOfRange`]).
    pub fn probe(&self, len: usize, granularity: Granularity) -> Result<(), Short> {
        self.need(len)?;
        every(&self.state, self.list.as_ref(), len, granularity)
    }
}

fn prefix<S: Segment>(
    state: &IovState,
    segments: &[S],
    len: NonZeroUsize,
    access: Access,
) -> Result<NonZeroUsize, Fault> {
    let mut done = 0;
    let mut stopped = Fault::refused_nowhere(access, Cause::OutOfRange);
    for piece in state.pieces(segments, len.get()) {
        let Some(want) = NonZeroUsize::new(piece.len) else { continue };
        match segments[piece.index].fault_in(piece.offset, want) {
            Ok(whole) if whole == want => done += want.get(),
            Ok(part) => return Ok(part.saturating_add(done)),
            Err(fault) => {
                stopped = fault;
                break;
            }
        }
    }
    NonZeroUsize::new(done).ok_or(stopped)
}

fn every<S: Segment>(state: &IovState, segments: &[S], len: usize, granularity: Granularity) -> Result<(), Short> {
    let mut done = 0;
    for piece in state.pieces(segments, len) {
        let proven = segments[piece.index].probe(piece.offset, piece.len, granularity);
        proven.map_err(|short| Short { done: done + short.done, ..short })?;
        done += piece.len;
    }
    Ok(())
}
