//! The memory of this process: the views, unchanged.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::{AtomicMemory, ReadMemory, WriteMemory};
use crate::fault::Granularity;
use crate::fault::{Fault, Short};
use crate::page_size;
use crate::scalar::Scalar;
use crate::view::{ReadView, WriteView};

// SAFETY: the copies return exact counts.
unsafe impl ReadMemory for ReadView<'_> {
    #[inline]
    fn len(&self) -> usize {
        ReadView::len(self)
    }

    #[inline]
    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        ReadView::subslice(self, range)
    }

    #[inline]
    fn page_size(&self) -> usize {
        page_size()
    }

    #[inline]
    fn to_page_end(&self, offset: usize) -> usize {
        let page = page_size();
        page - (self.as_ptr().addr().wrapping_add(offset) & (page - 1))
    }

    #[inline]
    fn addr(&self) -> usize {
        self.as_ptr().addr()
    }

    #[inline]
    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        ReadView::read(self, dst, offset)
    }

    #[inline]
    fn read_streaming(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        ReadView::read_streaming(self, dst, offset)
    }

    #[inline(always)]
    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        ReadView::load(self, offset)
    }

    #[inline]
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        ReadView::fault_in(self, offset, len)
    }

    #[inline]
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        ReadView::probe(self, range, granularity)
    }
}

impl<'a> WriteMemory for WriteView<'a> {
    type Read = ReadView<'a>;

    #[inline]
    fn as_read(&self) -> ReadView<'a> {
        WriteView::as_read(self)
    }

    #[inline]
    fn len(&self) -> usize {
        WriteView::len(self)
    }

    #[inline]
    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        WriteView::subslice(self, range)
    }

    #[inline]
    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        WriteView::write(self, src, offset)
    }

    #[inline]
    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        WriteView::fill(self, range, byte)
    }

    #[inline(always)]
    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        WriteView::store(self, offset, value)
    }

    #[inline]
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        WriteView::fault_in(self, offset, len)
    }

    #[inline]
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        WriteView::probe(self, range, granularity)
    }
}

impl AtomicMemory for WriteView<'_> {
    #[inline(always)]
    fn swap<T: Scalar>(&self, offset: usize, value: T) -> Result<T, Fault> {
        WriteView::swap(self, offset, value)
    }

    #[inline(always)]
    fn fetch_add<T: Scalar>(&self, offset: usize, value: T, order: Ordering) -> Result<T, Fault> {
        WriteView::fetch_add(self, offset, value, order)
    }

    #[inline(always)]
    fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, Fault> {
        WriteView::compare_exchange(self, offset, current, new, success, failure)
    }
}
