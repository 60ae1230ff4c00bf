//! Maps as segments of lists: [`MapSource`] to read from, [`MapDest`] to write to.
//!
//! A view of a mapping ends with a page, and does not know the file: the bytes after the end of the file are zeros that
//! belong to no file. These segments end where the file does, and every copy is checked as by the map's own operations: a
//! change that the map [watches](super::Watch) for is a [`Short`], and its [`MapError`](MapSource::take_error) is kept.

use core::num::NonZeroUsize;
use core::ops::{Range, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Change, MapError, OperationError, Reason};
use super::file::FileMap;
use super::options::Watch;
use super::range::within;
use super::record::Baseline;
use super::shared::SharedMap;
use super::write::FileMapMut;
use crate::fault::Granularity;
use crate::fault::{Access, Cause, Fault, Short};
use crate::iov::{ReadSegment, WriteSegment};
use crate::memory::{ReadMemory, WriteMemory};
use crate::scalar::Scalar;
use crate::{fault_in, page_size, probe};

/// Number of bytes that are copied and checked before they are handed on.
const PIECE: usize = 8 << 10;

/// A part of a [`FileMap`] or a [`SharedMap`] as memory to read from: a segment of an [`IovSource`](crate::iov::IovSource).
///
/// It ends where the file ended when it was made. Bytes are handed on after the map has checked them: so a copy counts no
/// byte of a file that is known to have changed, except those that a truncated file still has.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), [7; 1000])?;
/// # let path = file.path();
/// use faultin::iov::IovSource;
/// use faultin::FileMap;
///
/// let map = FileMap::open(path)?;
/// let mut source = IovSource::one(&map);
/// let mut buffer = [0; 4096];
/// assert_eq!(source.copy_from_iter(&mut buffer)?, 1000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MapSource<'a> {
    map: Readable<'a>,
    part: Part,
}

/// A part of a [`FileMapMut`] or a [`SharedMap`] as memory to write to: a segment of an [`IovDest`](crate::iov::IovDest).
///
/// It ends where the file ended when it was made, and does not extend the file. Bytes stored to a file that was truncated
/// meanwhile do not count.
#[derive(Clone, Debug)]
pub struct MapDest<'a> {
    map: Writable<'a>,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Readable<'a> {
    /// The map, and its baseline when the source was made.
    File(&'a FileMap, Baseline),
    Shared(&'a SharedMap),
}

#[derive(Clone, Copy, Debug)]
enum Writable<'a> {
    File(&'a FileMapMut),
    Shared(&'a SharedMap),
}

/// The range of a map, and its last error.
#[derive(Clone, Debug)]
struct Part {
    start: u64,
    len: usize,
    /// Offset in the file where the map begins.
    base: u64,
    error: Arc<Mutex<Option<MapError>>>,
}

impl FileMap {
    /// Returns a range of the map to read from, as a segment of a list. A range that ends after the map ends with it.
    pub fn source(&self, range: impl RangeBounds<u64>) -> MapSource<'_> {
        let known = self.known();
        let part = Part::new(within(range, self.window().len(known.size)), self.window().start);
        MapSource { map: Readable::File(self, known), part }
    }
}

impl FileMapMut {
    /// Returns a range of the map to write to, as a segment of a list. A range that ends after the map ends with it.
    pub fn dest(&self, range: impl RangeBounds<u64>) -> MapDest<'_> {
        let part = Part::new(within(range, self.len()), self.window().start);
        MapDest { map: Writable::File(self), part }
    }
}

impl SharedMap {
    /// Returns a range of the map to read from, as a segment of a list. A range that ends after the map ends with it.
    pub fn source(&self, range: impl RangeBounds<u64>) -> MapSource<'_> {
        MapSource { map: Readable::Shared(self), part: Part::new(within(range, self.len() as u64), self.offset()) }
    }

    /// Returns a range of the map to write to, as a segment of a list. A range that ends after the map ends with it.
    pub fn dest(&self, range: impl RangeBounds<u64>) -> MapDest<'_> {
        MapDest { map: Writable::Shared(self), part: Part::new(within(range, self.len() as u64), self.offset()) }
    }
}

impl<'m> From<&'m FileMap> for ReadSegment<'_, MapSource<'m>> {
    fn from(map: &'m FileMap) -> Self {
        map.source(..).into()
    }
}

impl<'m> From<&'m SharedMap> for ReadSegment<'_, MapSource<'m>> {
    fn from(map: &'m SharedMap) -> Self {
        map.source(..).into()
    }
}

impl<'m> From<MapSource<'m>> for ReadSegment<'_, MapSource<'m>> {
    fn from(source: MapSource<'m>) -> Self {
        ReadSegment::Memory(source)
    }
}

impl<'m> From<&'m FileMapMut> for WriteSegment<'_, MapDest<'m>> {
    fn from(map: &'m FileMapMut) -> Self {
        map.dest(..).into()
    }
}

impl<'m> From<&'m SharedMap> for WriteSegment<'_, MapDest<'m>> {
    fn from(map: &'m SharedMap) -> Self {
        map.dest(..).into()
    }
}

impl<'m> From<MapDest<'m>> for WriteSegment<'_, MapDest<'m>> {
    fn from(dest: MapDest<'m>) -> Self {
        WriteSegment::Memory(dest)
    }
}

impl Part {
    fn new(range: Range<u64>, base: u64) -> Self {
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        Part { start: range.start, len, base, error: Arc::default() }
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let error = Arc::clone(&self.error);
        Some(Part { start: self.start + range.start as u64, len: range.len(), base: self.base, error })
    }

    /// Returns the position in the map of `len` bytes from `offset`.
    fn at(&self, access: Access, offset: usize, len: usize) -> Result<u64, Fault> {
        if offset <= self.len && len <= self.len - offset {
            Ok(self.start + offset as u64)
        } else {
            Err(Fault::rejected_nowhere(access, Cause::OutOfRange))
        }
    }

    fn to_page_end(&self, offset: usize) -> usize {
        let page = page_size();
        page - (self.base.wrapping_add(self.start).wrapping_add(offset as u64) % page as u64) as usize
    }

    /// Keeps the error, after which `done` bytes count, and returns the fault for it.
    #[cold]
    fn short(&self, access: Access, error: MapError, done: usize) -> Short {
        let cause = match error.reason() {
            Reason::NotResident => Cause::NotResident,
            Reason::Unsupported(_) => Cause::Unsupported,
            _ => Cause::Backing,
        };
        let fault = error.fault().unwrap_or_else(|| Fault::rejected_nowhere(access, cause));
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Short { done, fault }
    }

    fn take_error(&self) -> Option<MapError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

macro_rules! common {
    () => {
        /// Returns the number of bytes in it.
        pub fn len(&self) -> usize {
            self.part.len
        }

        /// Returns whether it has no bytes.
        pub fn is_empty(&self) -> bool {
            self.part.len == 0
        }

        /// Returns the map's error of the last access that stopped, of this segment or a part or copy of it: more than its
        /// [`Short`] says. `None` if there was none since the last call.
        pub fn take_error(&self) -> Option<MapError> {
            self.part.take_error()
        }
    };
}

impl MapSource<'_> {
    common!();

    /// Copies bytes and checks them.
    fn piece(&self, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        let copied = match self.map {
            Readable::File(map, known) => {
                map.copy(&map.known_since(&known), at, dst).map_err(|stop: OperationError| map.error(at, stop))
            }
            Readable::Shared(map) => map.read_exact_at(dst, at),
        };
        copied.map_err(|error| {
            let done = match (self.map, error.change()) {
                // They were read from the file.
                (Readable::File(map, _), _) if matches!(map.watch(), Watch::Reader | Watch::Nothing) => error.done(),
                (Readable::File(map, _), Some(Change::Shrunk { .. })) => still_there(map, at, &mut dst[..error.done()]),
                // It is unknown at which moment they were the file's.
                (Readable::File(..), Some(_)) => 0,
                _ => error.done(),
            };
            self.part.short(Access::Read, error, done)
        })
    }

    /// Does the same in pieces, which `each` gets. The buffer is in between because a copy leaves uncounted bytes in its
    /// destination.
    fn pieces(&self, offset: usize, len: usize, mut each: impl FnMut(Range<usize>, &[u8])) -> Result<(), Short> {
        let start = self.part.at(Access::Read, offset, len).map_err(|fault| Short { done: 0, fault })?;
        let (mut buffer, mut done) = ([0; PIECE], 0);
        while done < len {
            // Up to the start of a page.
            let into = (self.part.base + start + done as u64) as usize % PIECE;
            let piece = &mut buffer[..(PIECE - into).min(len - done)];
            let (good, stopped) = match self.piece(start + done as u64, piece) {
                Ok(()) => (piece.len(), None),
                Err(short) => (short.done, Some(short.fault)),
            };
            each(done..done + good, &piece[..good]);
            done += good;
            if let Some(fault) = stopped {
                return Err(Short { done, fault });
            }
        }
        Ok(())
    }
}

/// Handles a file that was truncated: reads the rest of it once more, because the bytes that were read may be zeros from
/// past its end at that time. Returns the number of bytes that are certainly the file's.
#[cold]
fn still_there(map: &FileMap, at: u64, dst: &mut [u8]) -> usize {
    let (known, Ok(before)) = (map.known(), map.now()) else { return 0 };
    let len = map.engine().clamp(before.size, at, dst.len());
    let read = map.pread(&known, at, &mut dst[..len], 0);
    match map.now() {
        Ok(after) if read.is_ok() && after.is_as(&before) => len,
        _ => 0,
    }
}

// SAFETY: `pieces` hands on what it counts, and `dst` takes all of it.
unsafe impl ReadMemory for MapSource<'_> {
    fn len(&self) -> usize {
        self.part.len
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(MapSource { map: self.map, part: self.part.subslice(range)? })
    }

    fn page_size(&self) -> usize {
        page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        self.part.to_page_end(offset)
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.pieces(offset, dst.len(), |range, bytes| dst[range].copy_from_slice(bytes))
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        let at = self.part.at(Access::Read, offset, size_of::<T>())?;
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        self.piece(at, bytes).map_err(|short| short.fault)?;
        Ok(T::from_bytes(bytes))
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let at = self.part.at(Access::Read, offset, len.get())?;
        // A read takes from the file what the mapping does not deliver: so the first byte decides.
        self.piece(at, &mut [0]).map_err(|short| short.fault)?;
        let Readable::File(map, _) = self.map else { return Ok(len) };
        let Some(mapping) = map.mapping() else { return Ok(len) };
        let Ok(src) = mapping.range(map.lead() + at as usize, len.get()) else { return Ok(NonZeroUsize::MIN) };
        // SAFETY: within the mapping, whose invariants are the preconditions.
        Ok(unsafe { fault_in::fault_in_readable(src.0, len) }.unwrap_or(NonZeroUsize::MIN))
    }

    fn probe(&self, range: Range<usize>, _granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        // Every byte is loaded, which proves it at any granularity.
        self.pieces(offset, len, |_, _| ())
    }
}

impl MapDest<'_> {
    common!();

    /// Checks that the file still has the first of these bytes, and returns how many of the others it has.
    fn reaches(&self, at: u64, len: usize) -> Result<usize, Fault> {
        let end = match self.map {
            Writable::File(map) => map.valid_up_to(),
            Writable::Shared(map) => map.verify().map(|()| map.len() as u64),
        };
        match end {
            Ok(end) if end > at => Ok(usize::try_from(end - at).map_or(len, |left| left.min(len))),
            Ok(_) => Err(Fault::rejected_nowhere(Access::Write, Cause::Backing)),
            Err(error) => match error.change() {
                // It ends now within these bytes, or before them.
                Some(Change::Shrunk { to, .. }) if to > self.part.base + at => {
                    Ok(usize::try_from(to - self.part.base - at).map_or(len, |left| left.min(len)))
                }
                _ => Err(self.part.short(Access::Write, error, 0).fault),
            },
        }
    }
}

impl<'a> WriteMemory for MapDest<'a> {
    type Read = MapSource<'a>;

    fn as_read(&self) -> MapSource<'a> {
        let map = match self.map {
            Writable::File(map) => Readable::File(map, map.known()),
            Writable::Shared(map) => Readable::Shared(map),
        };
        MapSource { map, part: self.part.clone() }
    }

    fn len(&self) -> usize {
        self.part.len
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(MapDest { map: self.map, part: self.part.subslice(range)? })
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        let at = self.part.at(Access::Write, offset, src.len()).map_err(|fault| Short { done: 0, fault })?;
        let written = match self.map {
            Writable::File(map) => map.write_at(src, at),
            Writable::Shared(map) => map.write_at(src, at),
        };
        written.map_err(|error| {
            let done = error.done();
            self.part.short(Access::Write, error, done)
        })
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        let at = self.part.at(Access::Write, offset, len).map_err(|fault| Short { done: 0, fault })?;
        let range = at..at.saturating_add(len as u64);
        let filled = match self.map {
            Writable::File(map) => map.fill(range, byte),
            Writable::Shared(map) => map.fill(range, byte),
        };
        filled.map_err(|error| {
            let done = error.done();
            self.part.short(Access::Write, error, done)
        })
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        let at = self.part.at(Access::Write, offset, size_of::<T>())?;
        let stored = match self.map {
            Writable::File(map) => map.store(at, value),
            Writable::Shared(map) => map.store(at, value),
        };
        stored.map_err(|error| self.part.short(Access::Write, error, 0).fault)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let at = self.part.at(Access::Write, offset, len.get())?;
        let len = NonZeroUsize::new(self.reaches(at, len.get())?).unwrap_or(NonZeroUsize::MIN);
        match self.place(at, len.get()) {
            // SAFETY: within the mapping, whose invariants are the preconditions.
            Some(place) => unsafe { fault_in::fault_in_writeable(place, len) },
            None => Ok(len),
        }
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        let at = self.part.at(Access::Write, offset, len).map_err(|fault| Short { done: 0, fault })?;
        if len == 0 {
            return Ok(());
        }
        let reached = self.reaches(at, len).map_err(|fault| Short { done: 0, fault })?;
        if let Some(place) = self.place(at, reached) {
            // SAFETY: as above.
            unsafe { probe::probe_write(place, reached, granularity) }?;
        }
        match reached == len {
            true => Ok(()),
            false => Err(Short { done: reached, fault: Fault::rejected_nowhere(Access::Write, Cause::Backing) }),
        }
    }
}

impl MapDest<'_> {
    /// Returns the address of these bytes, if they are mapped and the mapping shows the file.
    fn place(&self, at: u64, len: usize) -> Option<*mut u8> {
        let (mapping, at) = match self.map {
            Writable::File(map) => (map.mapping()?, map.lead() + at as usize),
            Writable::Shared(map) => (map.mapping()?, map.lead() + at as usize),
        };
        // (Where a scan's zeros are mapped, the file is written to.)
        let place = mapping.range(at, len).ok().filter(|_| !mapping.is_damaged())?;
        Some(place.0.cast_mut())
    }
}
