//! Mappings as segments of lists: [`MappingSource`] to read from, [`MappingDest`] to write to.
//!
//! A view of a mapping ends with a page. These segments end where the file ended when they were made, and a copy of bytes
//! that the file has lost since then is short.

#![deny(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::Granularity;
use faultin::iov::{ReadSegment, WriteSegment};
use faultin::memory::{ReadMemory, WriteMemory};
use faultin::{Access, Cause, Fault, ReadView, Scalar, Short, WriteView};

use super::Mapping;
use super::inside::map::Map;
use crate::error::Error;

/// Number of bytes that are copied before it is checked that the file still has them.
const PIECE: usize = 8 << 10;

/// A part of a [`Mapping`] as memory to read from: a segment of an [`IovSource`](faultin::iov::IovSource).
#[derive(Clone, Debug)]
pub struct MappingSource<'m> {
    view: ReadView<'m>,
    end: End,
}

/// A part of a [`Mapping`] as memory to write to: a segment of an [`IovDest`](faultin::iov::IovDest). It does not extend
/// the file.
#[derive(Clone, Debug)]
pub struct MappingDest<'m> {
    view: WriteView<'m>,
    end: End,
}

/// The least end of the file since the segment was made.
#[derive(Clone, Debug)]
struct End {
    lowest: Arc<AtomicU64>,
    /// Offset in the file where the segment begins, and its address.
    start: u64,
    address: usize,
}

impl End {
    fn new(map: &Map) -> End {
        End { lowest: map.watch_end(), start: map.start(), address: map.base().addr().get() }
    }

    fn from(&self, offset: usize) -> End {
        let (start, address) = (self.start.saturating_add(offset as u64), self.address.wrapping_add(offset));
        End { lowest: Arc::clone(&self.lowest), start, address }
    }

    /// Makes the fault of a byte at `offset` that is no longer the file's.
    #[cold]
    fn cut(&self, access: Access, offset: usize) -> Fault {
        Fault::rejected(access, Cause::Backing, self.address.wrapping_add(offset))
    }

    /// Returns how many of `len` bytes from `offset`, which have been accessed, the file has had all the time.
    fn within(&self, offset: usize, len: usize) -> usize {
        // The bytes first: a truncation is announced before the bytes are dropped.
        std::sync::atomic::fence(Ordering::Acquire);
        let left = self.lowest.load(Ordering::Acquire).saturating_sub(self.start.saturating_add(offset as u64));
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// Checks the result of an access of `len` bytes at `offset`.
    fn check(&self, access: Access, offset: usize, len: usize, result: Result<(), Short>) -> Result<(), Short> {
        let done = result.map_or_else(|short| short.done, |()| len);
        match self.within(offset, done) {
            within if within < done => Err(Short { done: within, fault: self.cut(access, offset + within) }),
            _ => result,
        }
    }

    /// Checks that the file has the byte at `offset`, and returns how many of `len` from there it has.
    fn has(&self, access: Access, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        NonZeroUsize::new(self.within(offset, len.get())).ok_or_else(|| self.cut(access, offset))
    }
}

impl Mapping {
    /// Returns the mapping to read from, as a segment of a list: up to the current end of the file.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock; [`Error::Memory`] if the signal handler was removed and
    /// cannot be installed.
    pub fn source(&self) -> Result<MappingSource<'_>, Error> {
        // Watched first, then queried.
        let end = End::new(&self.map);
        let view = self.read_view().map_err(handler)?;
        let view = view.subslice(0..self.bytes()?).unwrap_or(view);
        Ok(MappingSource { view, end })
    }

    /// Returns the mapping to write to, as a segment of a list: up to the current end of the file.
    ///
    /// # Errors
    /// Those of [`source`](Self::source).
    pub fn dest(&self) -> Result<MappingDest<'_>, Error> {
        let end = End::new(&self.map);
        let view = self.write_view().map_err(handler)?;
        let view = view.subslice(0..self.bytes()?).unwrap_or(view);
        Ok(MappingDest { view, end })
    }

    /// Returns how many of its bytes the file has now.
    fn bytes(&self) -> Result<usize, Error> {
        let left = self.file().len()?.saturating_sub(self.map.start());
        Ok(usize::try_from(left).map_or(self.len(), |left| left.min(self.len())))
    }
}

fn handler(error: faultin::InstallError) -> Error {
    Error::Memory(Arc::new(error.into()))
}

impl<'m> From<MappingSource<'m>> for ReadSegment<'_, MappingSource<'m>> {
    fn from(source: MappingSource<'m>) -> Self {
        ReadSegment::Memory(source)
    }
}

impl<'m> From<MappingDest<'m>> for WriteSegment<'_, MappingDest<'m>> {
    fn from(dest: MappingDest<'m>) -> Self {
        WriteSegment::Memory(dest)
    }
}

// SAFETY: counted bytes were copied from the buffer, which has them from the view.
#[allow(unsafe_code, reason = "a promise to who copies")]
unsafe impl ReadMemory for MappingSource<'_> {
    fn len(&self) -> usize {
        self.view.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(MappingSource { end: self.end.from(range.start), view: self.view.subslice(range)? })
    }

    fn page_size(&self) -> usize {
        ReadMemory::page_size(&self.view)
    }

    fn to_page_end(&self, offset: usize) -> usize {
        ReadMemory::to_page_end(&self.view, offset)
    }

    fn addr(&self) -> usize {
        self.view.addr()
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        // A copy leaves uncounted bytes in its destination, so the bytes go by way of a buffer.
        let (mut buffer, mut done) = ([0; PIECE], 0);
        while done < dst.len() {
            let piece = &mut buffer[..PIECE.min(dst.len() - done)];
            let copied = self.view.read(piece, offset + done);
            let copied = self.end.check(Access::Read, offset + done, piece.len(), copied);
            let good = copied.map_or_else(|short| short.done, |()| piece.len());
            dst[done..done + good].copy_from_slice(&piece[..good]);
            done += good;
            copied.map_err(|short| Short { done, ..short })?;
        }
        Ok(())
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        let value = self.view.load(offset)?;
        match self.end.within(offset, size_of::<T>()) == size_of::<T>() {
            true => Ok(value),
            false => Err(self.end.cut(Access::Read, offset)),
        }
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.view.fault_in(offset, self.end.has(Access::Read, offset, len)?)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.end.check(Access::Read, offset, len, self.view.probe(range, granularity))
    }
}

impl<'m> WriteMemory for MappingDest<'m> {
    type Read = MappingSource<'m>;

    fn as_read(&self) -> MappingSource<'m> {
        MappingSource { view: self.view.as_read(), end: self.end.clone() }
    }

    fn len(&self) -> usize {
        self.view.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(MappingDest { end: self.end.from(range.start), view: self.view.subslice(range)? })
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.end.check(Access::Write, offset, src.len(), self.view.write(src, offset))
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.end.check(Access::Write, offset, len, self.view.fill(range, byte))
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        self.view.store(offset, value)?;
        match self.end.within(offset, size_of::<T>()) == size_of::<T>() {
            true => Ok(()),
            false => Err(self.end.cut(Access::Write, offset)),
        }
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.view.fault_in(offset, self.end.has(Access::Write, offset, len)?)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.end.check(Access::Write, offset, len, self.view.probe(range, granularity))
    }
}
