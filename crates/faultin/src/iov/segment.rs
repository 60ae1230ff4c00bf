//! The segments of a list.

use core::num::NonZeroUsize;
use core::ops::Range;

use crate::fault::Granularity;
use crate::fault::{Fault, Short};
use crate::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};
#[cfg(feature = "std")]
use crate::view::{ReadView, WriteView};

/// The default memory of lists: this process's views, where there are any.
#[cfg(feature = "std")]
pub(super) type DefaultRead<'a> = ReadView<'a>;
#[cfg(feature = "std")]
pub(super) type DefaultWrite<'a> = WriteView<'a>;
#[cfg(not(feature = "std"))]
pub(super) type DefaultRead<'a> = &'a core::convert::Infallible;
#[cfg(not(feature = "std"))]
pub(super) type DefaultWrite<'a> = &'a core::convert::Infallible;

/// A segment to read from.
#[derive(Clone, Copy, Debug)]
pub enum ReadSegment<'a, M> {
    /// Plain memory: never faults.
    #[doc(alias = "ITER_KVEC")]
    Plain(&'a [u8]),
    /// A range of memory that may fault.
    #[doc(alias = "ITER_IOVEC")]
    Memory(M),
}

/// A segment to write to.
#[derive(Debug)]
pub enum WriteSegment<'a, M> {
    /// Plain memory: never faults.
    #[doc(alias = "ITER_KVEC")]
    Plain(&'a mut [u8]),
    /// A range of memory that may fault.
    #[doc(alias = "ITER_IOVEC")]
    Memory(M),
}

impl<'a, M> From<&'a [u8]> for ReadSegment<'a, M> {
    fn from(bytes: &'a [u8]) -> Self {
        ReadSegment::Plain(bytes)
    }
}

#[cfg(feature = "std")]
impl<'v> From<ReadView<'v>> for ReadSegment<'_, ReadView<'v>> {
    fn from(view: ReadView<'v>) -> Self {
        ReadSegment::Memory(view)
    }
}

impl<'a, M> From<&'a mut [u8]> for WriteSegment<'a, M> {
    fn from(bytes: &'a mut [u8]) -> Self {
        WriteSegment::Plain(bytes)
    }
}

#[cfg(feature = "std")]
impl<'v> From<WriteView<'v>> for WriteSegment<'_, WriteView<'v>> {
    fn from(view: WriteView<'v>) -> Self {
        WriteSegment::Memory(view)
    }
}

/// The properties of a segment that the position of a list and its queries use.
pub(super) trait Segment {
    fn len(&self) -> usize;
    fn addr(&self) -> usize;
    fn page_size(&self) -> usize;
    /// Returns whether an access may fault: a plain slice never does.
    fn may_fault(&self) -> bool;
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;
    fn probe(&self, offset: usize, len: usize, granularity: Granularity) -> Result<(), Short>;
}

macro_rules! segment {
    ($segment:ident, $memory:ident, $addr:expr, $page_size:expr) => {
        impl<M: $memory> Segment for $segment<'_, M> {
            #[inline]
            fn len(&self) -> usize {
                match self {
                    $segment::Plain(bytes) => bytes.len(),
                    $segment::Memory(memory) => memory.len(),
                }
            }

            fn addr(&self) -> usize {
                match self {
                    $segment::Plain(bytes) => bytes.as_ptr().addr(),
                    $segment::Memory(memory) => $addr(memory),
                }
            }

            fn page_size(&self) -> usize {
                match self {
                    $segment::Plain(_) => crate::arch::MIN_PAGE,
                    $segment::Memory(memory) => $page_size(memory),
                }
            }

            fn may_fault(&self) -> bool {
                matches!(self, $segment::Memory(_))
            }

            fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
                match self {
                    $segment::Plain(_) => Ok(len),
                    $segment::Memory(memory) => memory.fault_in(offset, len),
                }
            }

            fn probe(&self, offset: usize, len: usize, granularity: Granularity) -> Result<(), Short> {
                match self {
                    $segment::Plain(_) => Ok(()),
                    $segment::Memory(memory) => memory.probe(offset..offset + len, granularity),
                }
            }
        }
    };
}

segment!(ReadSegment, ReadMemory, M::addr, M::page_size);
segment!(WriteSegment, WriteMemory, |m: &M| m.as_read().addr(), |m: &M| m.as_read().page_size());

impl<'a, M: ReadMemory> ReadSegment<'a, M> {
    #[inline]
    pub(super) fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        match self {
            ReadSegment::Plain(bytes) => dst.copy_from_slice(&bytes[offset..offset + dst.len()]),
            ReadSegment::Memory(memory) => return memory.read(dst, offset),
        }
        Ok(())
    }

    #[inline]
    pub(super) fn read_streaming(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        match self {
            ReadSegment::Plain(bytes) => dst.copy_from_slice(&bytes[offset..offset + dst.len()]),
            ReadSegment::Memory(memory) => return memory.read_streaming(dst, offset),
        }
        Ok(())
    }

    #[inline]
    pub(super) fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short>
    where
        M: ReadNoWait,
    {
        match self {
            ReadSegment::Plain(bytes) => dst.copy_from_slice(&bytes[offset..offset + dst.len()]),
            ReadSegment::Memory(memory) => return memory.read_nowait(dst, offset),
        }
        Ok(())
    }

    /// Returns the part in `range`, which is within the segment.
    pub(super) fn part(&self, range: Range<usize>) -> Option<ReadSegment<'a, M>> {
        Some(match self {
            ReadSegment::Plain(bytes) => ReadSegment::Plain(bytes.get(range)?),
            ReadSegment::Memory(memory) => ReadSegment::Memory(memory.subslice(range)?),
        })
    }
}

impl<M: WriteMemory> WriteSegment<'_, M> {
    #[inline]
    pub(super) fn write(&mut self, src: &[u8], offset: usize) -> Result<(), Short> {
        match self {
            WriteSegment::Plain(bytes) => bytes[offset..offset + src.len()].copy_from_slice(src),
            WriteSegment::Memory(memory) => return memory.write(src, offset),
        }
        Ok(())
    }

    pub(super) fn zero(&mut self, offset: usize, len: usize) -> Result<(), Short> {
        match self {
            WriteSegment::Plain(bytes) => bytes[offset..offset + len].fill(0),
            WriteSegment::Memory(memory) => return memory.fill(offset..offset + len, 0),
        }
        Ok(())
    }

    #[inline]
    pub(super) fn write_nowait(&mut self, src: &[u8], offset: usize) -> Result<(), Short>
    where
        M: WriteNoWait,
    {
        match self {
            WriteSegment::Plain(bytes) => bytes[offset..offset + src.len()].copy_from_slice(src),
            WriteSegment::Memory(memory) => return memory.write_nowait(src, offset),
        }
        Ok(())
    }

    /// Returns the part in `range`, which is within the segment.
    pub(super) fn part(&mut self, range: Range<usize>) -> Option<WriteSegment<'_, M>> {
        Some(match self {
            WriteSegment::Plain(bytes) => WriteSegment::Plain(bytes.get_mut(range)?),
            WriteSegment::Memory(memory) => WriteSegment::Memory(memory.subslice(range)?),
        })
    }
}
