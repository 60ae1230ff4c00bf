//! This process's memory: the views, as they are.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::{AtomicMemory, ReadMemory, WriteMemory};
use crate::fault::{Fault, Short};
use crate::page_size;
use crate::probe::Granularity;
use crate::scalar::Scalar;
use crate::view::{ReadView, WriteView};

// SAFETY: the copies count what they have copied.
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
    fn read(&self, offset: usize, dst: &mut [u8]) -> Result<(), Short> {
        ReadView::read(self, offset, dst)
    }

    #[inline]
    fn read_streaming(&self, offset: usize, dst: &mut [u8]) -> Result<(), Short> {
        ReadView::read_streaming(self, offset, dst)
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
    fn probe(&self, offset: usize, len: usize, granularity: Granularity) -> Result<(), Short> {
        ReadView::probe(self, offset, len, granularity)
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
    fn write(&self, offset: usize, src: &[u8]) -> Result<(), Short> {
        WriteView::write(self, offset, src)
    }

    #[inline]
    fn fill(&self, offset: usize, byte: u8, len: usize) -> Result<(), Short> {
        WriteView::fill(self, offset, byte, len)
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
    fn probe(&self, offset: usize, len: usize, granularity: Granularity) -> Result<(), Short> {
        WriteView::probe(self, offset, len, granularity)
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
