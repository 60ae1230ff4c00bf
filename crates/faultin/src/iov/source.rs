//! A list to read from.

use super::list::List;
use super::segment::{DefaultRead, ReadSegment};
use super::state::{IovRangeError, IovState};
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{ReadMemory, ReadNoWait};

/// A list of segments to read from.
///
/// The [module](crate::iov) says what moves and how much. `'s` is the lifetime of the segments' array, `'a` that of plain
/// bytes.
///
/// # Invariants
///
/// `state` is a state of `list`: what [`IovState`] says holds for its segments.
#[doc(alias = "iov_iter")]
#[doc(alias = "ITER_SOURCE")]
#[derive(Clone, Debug)]
pub struct IovSource<'s, 'a, M = DefaultRead<'a>> {
    pub(super) list: List<ReadSegment<'a, M>, &'s [ReadSegment<'a, M>]>,
    pub(super) state: IovState,
}

impl<'s, 'a, M: ReadMemory> IovSource<'s, 'a, M> {
    /// Makes a list of the bytes of `segments`, in this order. There may be any number of them.
    #[doc(alias = "iov_iter_init")]
    #[doc(alias = "iov_iter_kvec")]
    #[inline]
    pub fn new(segments: &'s [ReadSegment<'a, M>]) -> Self {
        Self::from_list(List::Borrowed(segments))
    }

    /// Makes a list of one segment, at the cost of a view.
    #[doc(alias = "iov_iter_ubuf")]
    #[inline]
    pub fn one(segment: impl Into<ReadSegment<'a, M>>) -> Self {
        Self::from_list(List::One([segment.into()]))
    }

    #[inline]
    pub(super) fn from_list(list: List<ReadSegment<'a, M>, &'s [ReadSegment<'a, M>]>) -> Self {
        IovSource { state: IovState::start(list.as_ref()), list }
    }

    cursor!(Access::Read);

    /// Returns the bytes left as segments: the first from the position on, the last up to the end of the list, none empty.
    #[doc(alias = "iterate_and_advance")]
    pub fn segments(&self) -> impl Iterator<Item = ReadSegment<'a, M>> {
        let segments = self.list.as_ref();
        self.state.pieces(segments, usize::MAX).map_while(|piece| segments[piece.index].part(piece.range()))
    }

    /// Copies `dst.len()` bytes, or what is left if that is less, to `dst`, and advances by the number of bytes copied,
    /// which it returns.
    ///
    /// Differs from the kernel's function in that the fault is kept.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: `done` bytes were copied, the list advanced by them, `dst` is untouched past
    /// them.
    #[doc(alias = "_copy_from_iter")]
    #[inline]
    pub fn copy_from_iter(&mut self, dst: &mut [u8]) -> Result<usize, Short> {
        self.state.transfer(&mut self.list, dst.len(), |list, piece, at| {
            list.as_ref()[piece.index].read(&mut dst[at], piece.offset)
        })
    }

    /// Copies as [`copy_from_iter`](Self::copy_from_iter) does, for bytes that are not read soon: from memory that may
    /// fault, past the CPU's caches where that is possible.
    ///
    /// # Errors
    /// [`Short`], as for [`copy_from_iter`](Self::copy_from_iter).
    #[doc(alias = "copy_from_iter_nocache")]
    #[doc(alias = "_copy_from_iter_flushcache")]
    #[inline]
    pub fn copy_from_iter_streaming(&mut self, dst: &mut [u8]) -> Result<usize, Short> {
        self.state.transfer(&mut self.list, dst.len(), |list, piece, at| {
            list.as_ref()[piece.index].read_streaming(&mut dst[at], piece.offset)
        })
    }

    /// Copies `dst.len()` bytes to `dst` and advances by them, or does not advance at all.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: the position is unchanged, but `done` bytes of `dst` were written, as by the
    /// kernel's function. If fewer bytes are left than `dst` has, nothing is accessed ([`Cause::OutOfRange`]), whereas the
    /// kernel copies them.
    #[doc(alias = "_copy_from_iter_full")]
    #[doc(alias = "csum_and_copy_from_iter_full")]
    #[inline]
    pub fn copy_from_iter_full(&mut self, dst: &mut [u8]) -> Result<(), Short> {
        self.need(dst.len())?;
        let result = self.copy_from_iter(dst);
        self.all_or_revert(result)
    }

    /// Copies as [`copy_from_iter`](Self::copy_from_iter) does, but never waits for a fault: it ends before the first page
    /// that is not resident. For use under a lock that the fault would take, and only for memory that can promise it.
    ///
    /// # Errors
    /// [`Short`], as for [`copy_from_iter`](Self::copy_from_iter); with [`Cause::NotResident`] where the copy would have
    /// had to wait.
    #[doc(alias = "copy_page_from_iter_atomic")]
    #[doc(alias = "copy_folio_from_iter_atomic")]
    pub fn copy_from_iter_nowait(&mut self, dst: &mut [u8]) -> Result<usize, Short>
    where
        M: ReadNoWait,
    {
        self.state.transfer(&mut self.list, dst.len(), |list, piece, at| {
            list.as_ref()[piece.index].read_nowait(&mut dst[at], piece.offset)
        })
    }
}
