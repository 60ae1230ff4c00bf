//! [`Chunks`]: the bytes of a range as copies that fit the CPU's L1 cache.
//!
//! A file's bytes may change while they are processed; a copy does not. It costs little if the copy is still in the cache
//! when it is used: so pieces are small, and share one buffer.

use core::ops::{Range, RangeBounds};

use super::error::{MapError, OperationError, Reason};
use super::file::FileMap;
use super::options::Watch;
use super::range::within;
use super::record::Baseline;

/// Size of a chunk in bytes: with its source, half of the smallest L1 cache.
const CHUNK: usize = 8 << 10;

/// Size of a chunk in bytes under [`Watch::Reader`], where each needs a system call, which then takes a twentieth of the
/// copy.
const CONFIRMED: usize = 64 << 10;

/// Size of a chunk in bytes over pread, where each is a longer system call.
const READ: usize = 1 << 20;

/// Number of bytes between two checks of the file: often enough to end soon, seldom enough to cost nothing.
const LOOK: usize = 1 << 20;

/// An iterator over copies of a range's bytes, made by [`FileMap::chunks`]. It lends its buffer, so it is not an
/// [`Iterator`]:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), [1; 100_000])?;
/// # let path = file.path();
/// let map = faultin::FileMap::open(path)?;
/// let (mut sum, mut chunks) = (0, map.chunks(..));
/// while let Some(chunk) = chunks.next_chunk()? {
///     sum += chunk.iter().map(|&byte| u64::from(byte)).sum::<u64>();
/// }
/// // Only now is it known that the file did not change in between.
/// assert_eq!(sum, 100_000);
/// # Ok(())
/// # }
/// ```
///
/// Under [`Watch::Reader`] each chunk is the file's when it is handed out, and all of them are what successive `read(2)`
/// calls would have returned: a chunk is confirmed before, or read again.
///
/// Under [`Watch::Appending`] and [`Watch::Contents`] the file is checked every mebibyte, whenever a copy stops, and before
/// the end is reported: a range that was read to its end without an error did not change (the [module](super) lists what
/// can be detected). Results from chunks before an error may be of a mixture of contents.
#[derive(Debug)]
pub struct Chunks<'a> {
    map: &'a FileMap,
    known: Baseline,
    at: u64,
    end: u64,
    buffer: Buffer,
    /// Size of a chunk in bytes.
    size: usize,
    /// Number of bytes handed out since the last check.
    unseen: usize,
    /// The error after the chunk that was handed out last.
    pending: Option<OperationError>,
    finished: bool,
}

/// The destination of copies: it begins at the start of a page, as their source does.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
}

impl Buffer {
    const ALIGNMENT: usize = 4 << 10;

    fn new(len: usize) -> Self {
        let bytes = vec![0; len + Self::ALIGNMENT].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        Buffer { bytes, start }
    }

    fn get(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len]
    }
}

impl FileMap {
    /// Returns the bytes of a range in order, in pieces that fit the CPU's L1 cache: copies, which do not change any more.
    /// Faster than reading the file into a buffer. A range that ends past the map ends with it.
    pub fn chunks(&self, range: impl RangeBounds<u64>) -> Chunks<'_> {
        Chunks::new(self, range)
    }
}

impl<'a> Chunks<'a> {
    pub(super) fn new(map: &'a FileMap, range: impl RangeBounds<u64>) -> Self {
        let known = map.known();
        let len = map.window().len(known.size);
        let Range { start: at, end } = within(range, len);
        map.prepare();
        let size = match map.mapping() {
            None => READ,
            Some(_) if map.watch() == Watch::Reader => CONFIRMED,
            Some(_) => CHUNK,
        };
        let longest = usize::try_from(end - at).map_or(size, |len| len.min(size));
        Chunks { map, known, at, end, buffer: Buffer::new(longest), size, unseen: 0, pending: None, finished: false }
    }

    /// Returns the next bytes; `None` after the last ones, if the file did not change in a way that the map watches for.
    /// After an error, the next call tries again at the byte where it stopped.
    ///
    /// # Errors
    /// [`MapError`], with [`done`](MapError::done) 0: the bytes before its [`offset`](MapError::offset) were handed
    /// out, except that under [`Watch::Appending`] and [`Watch::Contents`] a file which [`Changed`](Reason::Changed) is
    /// reported as soon as it is seen.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, MapError> {
        Ok(self.advance()?.map(|len| &*self.buffer.get(len)))
    }

    /// Advances as [`next_chunk`](Self::next_chunk) does, and returns the number of bytes in [`current`](Self::current).
    pub(super) fn advance(&mut self) -> Result<Option<usize>, MapError> {
        match self.step() {
            Ok(0) => Ok(None),
            Ok(len) => Ok(Some(len)),
            Err(stop) => Err(self.map.error(self.at, stop)),
        }
    }

    pub(super) fn map(&self) -> &'a FileMap {
        self.map
    }

    /// Returns the first `len` bytes of the last chunk.
    pub(super) fn current(&self, len: usize) -> &[u8] {
        &self.buffer.bytes[self.buffer.start..self.buffer.start + len]
    }

    /// Sets the size of chunks in bytes, rounded up to a power of two, 4 KiB to 16 MiB: for consumers that are faster with
    /// more at once, such as hashes with wide registers. 64 KiB fit the L2 cache.
    pub fn of(mut self, len: usize) -> Self {
        self.size = len.clamp(4 << 10, 16 << 20).next_power_of_two();
        let longest = usize::try_from(self.end - self.at).map_or(self.size, |len| len.min(self.size));
        self.buffer = Buffer::new(longest);
        self
    }

    /// Calls `consume` with the bytes of the range, in order; returns their number.
    ///
    /// # Errors
    /// Those of [`next_chunk`](Self::next_chunk).
    pub fn for_each(self, mut consume: impl FnMut(&[u8])) -> Result<u64, MapError> {
        self.try_for_each(|chunk| {
            consume(chunk);
            Ok(())
        })
    }

    /// Calls `consume` with the bytes of the range, in order, until it fails; returns the number of bytes. The closure's error
    /// is of any type that a [`MapError`] converts to.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let (file, mut copy) = (tempfile::NamedTempFile::new()?, tempfile::tempfile()?);
    /// # std::fs::write(file.path(), [1; 100_000])?;
    /// # let path = file.path();
    /// use std::io::Write;
    ///
    /// let map = faultin::FileMap::open(path)?;
    /// let len = map.chunks(..).try_for_each(|chunk| copy.write_all(chunk))?;
    /// assert_eq!(len, 100_000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The closure's first error; or an error of [`next_chunk`](Self::next_chunk), converted.
    pub fn try_for_each<E: From<MapError>>(
        mut self,
        mut consume: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let start = self.at;
        while let Some(chunk) = self.next_chunk()? {
            consume(chunk)?;
        }
        Ok(self.at - start)
    }

    /// Returns the baseline to compare with.
    pub(super) fn known(&self) -> Baseline {
        self.known
    }

    /// Returns the position in the map where the next chunk begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Copies the next bytes into the buffer and advances: returns their number, 0 at the end.
    fn step(&mut self) -> Result<usize, OperationError> {
        if let Some(stop) = self.pending.take() {
            return Err(stop);
        }
        if self.at == self.end {
            if !self.finished {
                self.look()?;
                self.finished = true;
            }
            return Ok(0);
        }
        if self.unseen >= LOOK {
            self.look()?;
        }
        let len = self.len();
        let (done, stop) = match self.copy(len) {
            Ok(()) => (len, None),
            Err(stop) => (stop.done, Some(OperationError { done: 0, ..stop })),
        };
        match stop {
            Some(stop) if done == 0 || self.is_reported_at_once(&stop) => return Err(stop),
            stop => self.pending = stop,
        }
        self.at += done as u64;
        self.unseen += done;
        Ok(done)
    }

    /// Returns the number of bytes of the next chunk: up to a multiple of the size in the file, where pages begin.
    fn len(&self) -> usize {
        let into = (self.map.window().start.wrapping_add(self.at) % self.size as u64) as usize;
        let left = usize::try_from(self.end - self.at).unwrap_or(self.size);
        (self.size - into).min(left)
    }

    /// Copies the next `len` bytes into the buffer.
    fn copy(&mut self, len: usize) -> Result<(), OperationError> {
        let (map, at, dst) = (self.map, self.at, self.buffer.get(len));
        let Some(mapping) = map.mapping() else { return map.copy_from_file(&self.known, at, dst) };
        let asks = map.watch() == Watch::Reader;
        if asks {
            self.known = map.known_since(&self.known);
            map.prepare();
        }
        match map.fetch_ahead(mapping, at, dst) {
            Ok(()) if asks => map.confirm(&self.known, at, dst),
            Ok(()) => Ok(()),
            Err(short) => map.explain(&self.known, at, dst, short),
        }
    }

    /// Returns whether the bytes copied before it may be of another state of the file.
    fn is_reported_at_once(&self, stop: &OperationError) -> bool {
        matches!(stop.reason, Reason::Changed(_)) && matches!(self.map.watch(), Watch::Appending | Watch::Contents)
    }

    fn look(&mut self) -> Result<(), OperationError> {
        self.unseen = 0;
        if self.map.watch() == Watch::Reader {
            return Ok(());
        }
        self.known = self.map.known_since(&self.known);
        self.map.prepare();
        self.map.ask(&self.known, self.at, 0).map(|_| ())
    }
}
