//! A list to write to.

use super::list::List;
use super::segment::{DefaultWrite, Segment, WriteSegment};
use super::state::{IovRangeError, IovState};
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{WriteMemory, WriteNoWait};

/// A list of segments to write to.
///
/// The [module](crate::iov) says what moves and how much. `'s` is the lifetime of the segments' array, which is borrowed
/// exclusively because plain segments are; `'a` is that of their bytes.
///
/// # Invariants
///
/// `state` is a state of `list`: what [`IovState`] says holds for its segments.
#[doc(alias = "iov_iter")]
#[doc(alias = "ITER_DEST")]
#[derive(Debug)]
pub struct IovDest<'s, 'a, M = DefaultWrite<'a>> {
    pub(super) list: List<WriteSegment<'a, M>, &'s mut [WriteSegment<'a, M>]>,
    pub(super) state: IovState,
}

impl<'s, 'a, M: WriteMemory> IovDest<'s, 'a, M> {
    /// Makes a list of the bytes of `segments`, in this order. There may be any number of them.
    #[doc(alias = "iov_iter_init")]
    #[doc(alias = "iov_iter_kvec")]
    #[inline]
    pub fn new(segments: &'s mut [WriteSegment<'a, M>]) -> Self {
        Self::from_list(List::Borrowed(segments))
    }

    /// Makes a list of one segment, at the cost of a view.
    #[doc(alias = "iov_iter_ubuf")]
    #[inline]
    pub fn one(segment: impl Into<WriteSegment<'a, M>>) -> Self {
        Self::from_list(List::One([segment.into()]))
    }

    #[inline]
    pub(super) fn from_list(list: List<WriteSegment<'a, M>, &'s mut [WriteSegment<'a, M>]>) -> Self {
        IovDest { state: IovState::start(list.as_ref()), list }
    }

    cursor!(Access::Write);

    /// Returns the bytes left as segments: the first from the position on, the last up to the end of the list, none empty.
    #[doc(alias = "iterate_and_advance")]
    pub fn segments(&mut self) -> impl Iterator<Item = WriteSegment<'_, M>> {
        let (index, mut offset) = self.state.place();
        let mut left = self.count();
        self.list.as_mut()[index..].iter_mut().filter_map(move |segment| {
            let end = segment.len().min(offset + left);
            let range = core::mem::take(&mut offset)..end;
            left -= range.len();
            if range.is_empty() { None } else { segment.part(range) }
        })
    }

    /// Copies `src` to the list, or as much as the list has left, and advances by the number of bytes copied, which it
    /// returns.
    ///
    /// Differs from the kernel's function in that the fault is kept.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: `done` bytes were copied, the list advanced by them, its memory is untouched
    /// past them.
    #[doc(alias = "_copy_to_iter")]
    #[inline]
    pub fn copy_to_iter(&mut self, src: &[u8]) -> Result<usize, Short> {
        self.state.transfer(&mut self.list, src.len(), |list, piece, at| {
            list.as_mut()[piece.index].write(&src[at], piece.offset)
        })
    }

    /// Copies all of `src` to the list and advances by it, or does not advance at all.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: the position is unchanged, but `done` bytes of its memory were written, as by
    /// the kernel's function. If fewer bytes are left than `src` has, nothing is accessed ([`Cause::OutOfRange`]), whereas
    /// the kernel copies them.
    #[doc(alias = "_copy_to_iter_full")]
    #[inline]
    pub fn copy_to_iter_full(&mut self, src: &[u8]) -> Result<(), Short> {
        self.need(src.len())?;
        let result = self.copy_to_iter(src);
        self.all_or_revert(result)
    }

    /// Zeroes `len` bytes, or what is left if that is less, and advances by the number of bytes zeroed, which it returns.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: `done` bytes were zeroed, the list advanced by them, its memory is untouched
    /// past them.
    #[doc(alias = "iov_iter_zero")]
    pub fn zero(&mut self, len: usize) -> Result<usize, Short> {
        self.state
            .transfer(&mut self.list, len, |list, piece, _| list.as_mut()[piece.index].zero(piece.offset, piece.len))
    }

    /// Copies as [`copy_to_iter`](Self::copy_to_iter) does, but never waits for a fault: it ends before the first page that
    /// is not resident. For use under a lock that the fault would take, and only for memory that can promise it.
    ///
    /// Differs from the kernel's `copy_page_to_iter_nofault`, which counts nothing of a piece that faults although a part
    /// of it may have been stored: this count is exact.
    ///
    /// # Errors
    /// [`Short`] as for [`copy_to_iter`](Self::copy_to_iter); with [`Cause::NotResident`] where the copy would have had to
    /// wait.
    #[doc(alias = "copy_page_to_iter_nofault")]
    pub fn copy_to_iter_nowait(&mut self, src: &[u8]) -> Result<usize, Short>
    where
        M: WriteNoWait,
    {
        self.state.transfer(&mut self.list, src.len(), |list, piece, at| {
            list.as_mut()[piece.index].write_nowait(&src[at], piece.offset)
        })
    }
}
