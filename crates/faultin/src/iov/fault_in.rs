//! The *ANY* and the *ALL* primitive for a list.

use core::num::NonZeroUsize;

use super::segment::Segment;
use super::state::{IovState, Piece};
use super::{IovDest, IovSource};
use crate::fault::Granularity;
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{ReadMemory, WriteMemory};
#[cfg(feature = "std")]
use crate::signal::outside::pager::first_gone;

/// Without `std` there are no pagers.
#[cfg(not(feature = "std"))]
fn first_gone(_: usize, _: usize, _: usize, _: Access) -> Option<usize> {
    None
}

impl<M: ReadMemory> IovSource<'_, '_, M> {
    /// Makes the next attempt to read progress, and returns the accessible prefix, in bytes, of the next `len` (or of what
    /// is left, if that is less). The prefix ends in the first segment that is not accessible as a whole. Does not move the
    /// position.
    ///
    /// The kernel's function returns the number of bytes *not* faulted in, which is `len` minus this result.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that is not accessible; [`Cause::OutOfRange`] if no byte is left.
    #[doc(alias = "fault_in_iov_iter_readable")]
    pub fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        prefix(&self.state, self.list.as_ref(), len, Access::Read)
    }

    /// Proves that each of the next `len` bytes can be loaded. Does not move the position.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: the `done` bytes before it are proven. If fewer than `len` bytes are left,
    /// nothing is accessed ([`Cause::OutOfRange`]).
    pub fn probe(&self, len: usize, granularity: Granularity) -> Result<(), Short> {
        self.need(len)?;
        every(&self.state, self.list.as_ref(), len, granularity, Access::Read)
    }
}

impl<M: WriteMemory> IovDest<'_, '_, M> {
    /// Makes the next attempt to write progress, without changing a byte, and returns the accessible prefix, in bytes, of
    /// the next `len` (or of what is left, if that is less). The prefix ends in the first segment that is not accessible as
    /// a whole. Does not move the position.
    ///
    /// The kernel's function returns the number of bytes *not* faulted in, which is `len` minus this result.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that is not accessible; [`Cause::OutOfRange`] if no byte is left.
    #[doc(alias = "fault_in_iov_iter_writeable")]
    pub fn fault_in(&self, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        prefix(&self.state, self.list.as_ref(), len, Access::Write)
    }

    /// Proves that each of the next `len` bytes can be stored, without changing any. Does not move the position.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: the `done` bytes before it are proven. If fewer than `len` bytes are left,
    /// nothing is accessed ([`Cause::OutOfRange`]).
    pub fn probe(&self, len: usize, granularity: Granularity) -> Result<(), Short> {
        self.need(len)?;
        every(&self.state, self.list.as_ref(), len, granularity, Access::Write)
    }
}

fn prefix<S: Segment>(
    state: &IovState,
    segments: &[S],
    len: NonZeroUsize,
    access: Access,
) -> Result<NonZeroUsize, Fault> {
    let mut done = 0;
    let mut stopped = Fault::rejected_nowhere(access, Cause::OutOfRange);
    for piece in state.pieces(segments, len.get()) {
        let Some(want) = NonZeroUsize::new(piece.len) else { continue };
        match segments[piece.index].fault_in(piece.offset, want) {
            Ok(whole) if whole == want => done += want.get(),
            Ok(part) => {
                done += part.get();
                break;
            }
            Err(fault) => {
                stopped = fault;
                break;
            }
        }
    }
    match evicted(state, segments, done, access) {
        Some(gone) if gone.done > 0 => done = gone.done,
        // Once more, without the pages that it was evicted for.
        Some(gone) => {
            let Some(want) = NonZeroUsize::new(gone.piece.len) else { return Err(gone.fault) };
            return segments[gone.piece.index].fault_in(gone.piece.offset, want);
        }
        None => {}
    }
    NonZeroUsize::new(done).ok_or(stopped)
}

fn every<S: Segment>(
    state: &IovState,
    segments: &[S],
    len: usize,
    granularity: Granularity,
    access: Access,
) -> Result<(), Short> {
    let mut done = 0;
    let mut proven = Ok(());
    for piece in state.pieces(segments, len) {
        match segments[piece.index].probe(piece.offset, piece.len, granularity) {
            Ok(()) => done += piece.len,
            Err(short) => {
                done += short.done;
                proven = Err(Short { done, ..short });
                break;
            }
        }
    }
    match evicted(state, segments, done, access) {
        Some(gone) if gone.done > 0 => Err(Short { done: gone.done, fault: gone.fault }),
        // Once more, without the pages that it was evicted for.
        Some(gone) => {
            segments[gone.piece.index].probe(gone.piece.offset, gone.piece.len, granularity)?;
            Err(Short { done: gone.piece.len, fault: gone.fault })
        }
        None => proven,
    }
}

/// A page of a list that was accessible and is no longer.
struct Evicted {
    /// Number of bytes before it.
    done: usize,
    /// Its position in the list.
    piece: Piece,
    fault: Fault,
}

/// Finds the first page among the next `done` bytes, in more than one piece, that a pager has evicted for another piece
/// since it was accessible.
fn evicted<S: Segment>(state: &IovState, segments: &[S], done: usize, access: Access) -> Option<Evicted> {
    let mut before = 0;
    for piece in state.pieces(segments, done) {
        if piece.len == done {
            // The fault-in of the piece itself checks this.
            return None;
        }
        let segment = &segments[piece.index];
        let address = segment.addr().wrapping_add(piece.offset);
        if segment.may_fault()
            && let Some(gone) = first_gone(address, piece.len, segment.page_size(), access)
        {
            let fault = Fault::rejected(access, Cause::NotResident, address.wrapping_add(gone));
            return Some(Evicted { done: before + gone, piece, fault });
        }
        before += piece.len;
    }
    None
}
