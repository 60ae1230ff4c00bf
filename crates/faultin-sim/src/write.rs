//! Simulated memory to write to.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::copy::Waiting;
use super::range::Window;
use super::read::SimRead;
use faultin::Granularity;
use faultin::Scalar;
use faultin::memory::{AtomicMemory, WriteMemory, WriteNoWait};
use faultin::{Access, Fault, Short};

/// A range of a [`Sim`](super::Sim) to write to.
#[derive(Clone, Debug)]
pub struct SimWrite(pub(super) Window);

impl SimWrite {
    /// Returns the address of the first byte: the base of the addresses in faults.
    pub fn address(&self) -> usize {
        self.0.address()
    }

    /// Returns the same range through pointers with this tag. A range has tag 0 by default.
    #[must_use]
    pub fn with_tag(self, tag: u8) -> Self {
        SimWrite(self.0.with_tag(tag))
    }
}

impl WriteMemory for SimWrite {
    type Read = SimRead;

    fn as_read(&self) -> SimRead {
        SimRead(self.0.clone())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        self.0.subslice(range).map(SimWrite)
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.0.copy_out(offset, src, Waiting::May)
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.0.fill(offset, byte, len)
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        self.0.store(offset, value)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.0.fault_in(Access::Write, offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.0.probe(Access::Write, offset, len, granularity)
    }
}

impl WriteNoWait for SimWrite {
    fn write_nowait(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.0.copy_out(offset, src, Waiting::MustNot)
    }
}

impl AtomicMemory for SimWrite {
    fn swap<T: Scalar>(&self, offset: usize, value: T) -> Result<T, Fault> {
        self.0.update(offset, |_| Some(value))
    }

    fn fetch_add<T: Scalar>(&self, offset: usize, value: T, _order: Ordering) -> Result<T, Fault> {
        self.0.update(offset, |old: T| Some(old.plus(value)))
    }

    fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        current: T,
        new: T,
        _success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, Fault> {
        self.0.compare_exchange(offset, current, new, failure)
    }
}
