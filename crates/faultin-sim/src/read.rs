//! Simulated memory to read from.

use core::num::NonZeroUsize;
use core::ops::Range;

use super::copy::Waiting;
use super::range::Window;
use faultin::Granularity;
use faultin::Scalar;
use faultin::memory::{ReadMemory, ReadNoWait};
use faultin::{Access, Fault, Short};

/// A range of a [`Sim`](super::Sim) to read from.
#[derive(Clone, Debug)]
pub struct SimRead(pub(super) Window);

impl SimRead {
    /// Returns the address of the first byte: the base of the addresses in faults.
    pub fn address(&self) -> usize {
        self.0.address()
    }

    /// Returns the same range through pointers with this tag. A range has tag 0 by default.
    #[must_use]
    pub fn with_tag(self, tag: u8) -> Self {
        SimRead(self.0.with_tag(tag))
    }
}

// SAFETY: `copy_in` counts the bytes that it has copied.
#[allow(unsafe_code, reason = "a promise to who copies")]
unsafe impl ReadMemory for SimRead {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn addr(&self) -> usize {
        self.address()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        self.0.subslice(range).map(SimRead)
    }

    fn page_size(&self) -> usize {
        self.0.geometry.page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        self.0.to_page_end(offset)
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.0.copy_in(offset, dst, Waiting::May)
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        self.0.load(offset)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.0.fault_in(Access::Read, offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.0.probe(Access::Read, offset, len, granularity)
    }
}

// SAFETY: as above.
#[allow(unsafe_code, reason = "as above")]
unsafe impl ReadNoWait for SimRead {
    fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.0.copy_in(offset, dst, Waiting::MustNot)
    }
}
