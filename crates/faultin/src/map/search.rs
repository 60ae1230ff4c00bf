//! Searching a mapped file without copying it: [`find`](FileMap::find) and related functions.
//!
//! A range is searched in windows, and the file is checked after each: so a search in a large file that was truncated ends
//! soon. A window that may have moved, or whose mapping fails, is read from the file instead, which returns the reason.

use core::ops::{Range, RangeBounds};

use super::answer::Answer;
use super::error::{MapError, OperationError, Reason};
use super::file::FileMap;
use super::lines::Lines;
use super::options::Watch;
use super::range::within;
use super::record::Baseline;
use crate::fault::{Fault, Short};
use crate::scan::{Bytes, Plain, over};

/// Size of a window in bytes.
const WINDOW: usize = 32 << 20;

/// Number of bytes read at once.
const READ: usize = 256 << 10;

/// Number of bytes read first, because the needle may be near.
const FIRST: usize = 16 << 10;

/// Number of bytes read at once when a larger read has failed: the unit in which file systems read or fail.
const SMALLEST: usize = 4 << 10;

/// The operation on each window, or on copies of its parts.
pub(super) trait Pass: Clone {
    /// Whether it proceeds backwards.
    const BACKWARDS: bool = false;

    /// Searches `len` bytes that begin at `at` in the map; returns whether that was enough. An error has the offset of a
    /// byte that could not be loaded.
    ///
    /// # Safety
    /// `bytes` has `len` bytes.
    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)>;
}

/// The result of searching a window.
struct WindowResult {
    /// Whether the result is sufficient.
    enough: bool,
    /// Whether the window was read from the file.
    in_the_file: bool,
}

pub(super) fn forwards(short: Short) -> (usize, Fault) {
    (short.done, short.fault)
}

#[derive(Clone)]
struct FindAny<const N: usize>([u8; N], Option<u64>);

impl<const N: usize> Pass for FindAny<N> {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: forwarded; so for all that follow.
        let found = unsafe { over::find_any(bytes, len, self.0) }.map_err(forwards)?;
        self.1 = found.map(|i| at + i as u64);
        Ok(found.is_some())
    }
}

#[derive(Clone)]
struct Find<'n>(&'n [u8], Option<u64>);

impl Pass for Find<'_> {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: as above.
        let found = unsafe { over::find(bytes, len, self.0) }.map_err(forwards)?;
        self.1 = found.map(|i| at + i as u64);
        Ok(found.is_some())
    }
}

#[derive(Clone)]
struct FindLast<'n>(&'n [u8], Option<u64>);

impl Pass for FindLast<'_> {
    const BACKWARDS: bool = true;

    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: as above.
        let found = unsafe { over::rfind(bytes, len, self.0) }?;
        self.1 = found.map(|i| at + i as u64);
        Ok(found.is_some())
    }
}

#[derive(Clone)]
struct Count(u8, u64);

impl Pass for Count {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, _at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: as above.
        self.1 += unsafe { over::count_byte(bytes, len, self.0) }.map_err(forwards)? as u64;
        Ok(false)
    }
}

#[derive(Clone)]
struct Zeroed(bool);

impl Pass for Zeroed {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, _at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: as above.
        self.0 = unsafe { over::is_zeroed(bytes, len) }.map_err(forwards)?;
        Ok(!self.0)
    }
}

#[derive(Clone)]
struct Checksum(u32);

impl Pass for Checksum {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, _at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: as above.
        self.0 = unsafe { over::crc32c(self.0, bytes, len) }.map_err(forwards)?;
        Ok(false)
    }
}

/// The difference of two contents: `with` has the bytes from `start` on.
#[derive(Clone)]
struct Compare<'b> {
    with: &'b [u8],
    start: u64,
    differs: bool,
}

impl Pass for Compare<'_> {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        let with = &self.with[(at - self.start) as usize..][..len];
        // SAFETY: as above; a slice of `len` bytes.
        let differs = unsafe { over::compare(bytes, Plain(with.as_ptr()), len) }.map_err(forwards)?;
        self.differs = differs.is_some();
        Ok(self.differs)
    }
}

/// Searches, without a copy of the bytes. Positions are bytes from the start of the map, also those of ranges. A range that
/// ends past the end of the map ends with it.
///
/// A result describes bytes that the file had, each at some moment of the operation. Under [`Watch::Reader`], bytes that
/// may have moved are searched again, in the file. A file that ends before the range does is an error, unless the search
/// has found its result before the end. Under the other modes, `Ok` means that no change has happened that they watch for.
/// An error's [`done`](MapError::done) counts the bytes from the start of the range that were searched without a result (of
/// [`rfind`](Self::rfind): from its end).
impl FileMap {
    /// Returns the position of the first `needle` in a range, `None` if there is none. An empty needle is found at the
    /// start of the range.
    ///
    /// Takes time in proportion to the range, whatever its bytes are.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), "to be, or not to be")?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// assert_eq!(map.find(b"be", ..)?, Some(3));
    /// assert_eq!(map.find(b"be", 4..)?, Some(17));
    /// assert_eq!(map.find(b"question", ..)?, None); // every byte could be read
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MapError`] if a byte before the first `needle` cannot be read, or the file has changed in a way that the map's
    /// [mode](Watch) watches for. The byte is at its [`offset`](MapError::offset).
    #[doc(alias = "memmem")]
    pub fn find(&self, needle: &[u8], range: impl RangeBounds<u64>) -> Result<Option<u64>, MapError> {
        let range = within(range, self.len());
        if needle.is_empty() {
            return Ok(Some(range.start));
        }
        let mut find = Find(needle, None);
        self.pass(range, needle.len() - 1, &mut find)?;
        Ok(find.1)
    }

    /// Returns the position of the last `needle` in a range, `None` if there is none. An empty needle is found at the end
    /// of the range.
    ///
    /// # Errors
    /// [`MapError`] if a byte after the last `needle` cannot be read, or the file has changed, as [`find`](Self::find). The bytes
    /// [`done`](MapError::done) are those at the end of the range.
    pub fn rfind(&self, needle: &[u8], range: impl RangeBounds<u64>) -> Result<Option<u64>, MapError> {
        let range = within(range, self.len());
        if needle.is_empty() {
            return Ok(Some(range.end));
        }
        let mut find = FindLast(needle, None);
        self.pass(range, needle.len() - 1, &mut find)?;
        Ok(find.1)
    }

    /// Returns the position of the first byte in a range that is one of `bytes`, `None` if there is none. Fast for up to four.
    ///
    /// # Errors
    /// [`MapError`] if a byte before that one cannot be read, or the file has changed, as [`find`](Self::find).
    #[doc(alias = "memchr")]
    pub fn find_any<const N: usize>(
        &self,
        bytes: [u8; N],
        range: impl RangeBounds<u64>,
    ) -> Result<Option<u64>, MapError> {
        let mut find = FindAny(bytes, None);
        self.pass(within(range, self.len()), 0, &mut find)?;
        Ok(find.1)
    }

    /// Counts the bytes of a range that are `byte`.
    ///
    /// # Errors
    /// [`MapError`] if a byte of the range cannot be read, or the file has changed, as [`find`](Self::find).
    pub fn count_byte(&self, byte: u8, range: impl RangeBounds<u64>) -> Result<u64, MapError> {
        let mut count = Count(byte, 0);
        self.pass(within(range, self.len()), 0, &mut count)?;
        Ok(count.1)
    }

    /// Returns whether all bytes of a range are zero; `true` for an empty range. Holes of a file are zeros.
    ///
    /// # Errors
    /// [`MapError`] if a byte before the first one that is not zero cannot be read, or the file has changed, as
    /// [`find`](Self::find).
    pub fn is_zeroed(&self, range: impl RangeBounds<u64>) -> Result<bool, MapError> {
        let mut zeroed = Zeroed(true);
        self.pass(within(range, self.len()), 0, &mut zeroed)?;
        Ok(zeroed.0)
    }

    /// Returns the CRC-32C (Castagnoli) of a range, which iSCSI, ext4, btrfs and many formats use.
    ///
    /// # Errors
    /// [`MapError`] if a byte of the range cannot be read, or the file has changed, as [`find`](Self::find).
    pub fn crc32c(&self, range: impl RangeBounds<u64>) -> Result<u32, MapError> {
        let mut sum = Checksum(0);
        self.pass(within(range, self.len()), 0, &mut sum)?;
        Ok(sum.0)
    }

    /// Returns whether `bytes` are those at position `offset`. `false` if the map ends before they do.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn has_at(&self, bytes: &[u8], offset: u64) -> Result<bool, MapError> {
        let range = within(offset..offset.saturating_add(bytes.len() as u64), self.len());
        if range.end - range.start != bytes.len() as u64 {
            return Ok(false);
        }
        let mut compare = Compare { with: bytes, start: range.start, differs: false };
        self.pass(range, 0, &mut compare)?;
        Ok(!compare.differs)
    }

    /// Returns whether two maps have equal length and contents.
    ///
    /// # Errors
    /// [`MapError`] if a byte of one of them cannot be read, or one has changed, as [`find`](Self::find). The error names that
    /// file.
    pub fn content_eq(&self, other: &FileMap) -> Result<bool, MapError> {
        let len = self.len();
        if len != other.len() {
            return Ok(false);
        }
        // If both files may fail, one is read through its window into copies, which do not fail: so each error names its
        // file.
        let known = other.known();
        let mut mine = self.chunks(..);
        loop {
            let at = mine.position();
            let Some(chunk) = mine.next_chunk()? else { break };
            let range = at..at + chunk.len() as u64;
            let mut compare = Compare { with: chunk, start: at, differs: false };
            // A reader's map is checked after each part; the others once.
            let asks = other.watch() == Watch::Reader;
            other.pass_since(&known, range, 0, &mut compare, asks)?;
            if compare.differs {
                break;
            }
            if mine.position() == len {
                other.look(&known)?;
                return mine.next_chunk().map(|_| true);
            }
        }
        // A difference may be due to a change of one of them.
        other.look(&known)?;
        self.look(&mine.known())?;
        Ok(len == 0)
    }

    /// Returns an iterator over the lines of a range, as copies. A line is all between two `\n`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), "one\ntwo\nthree")?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// for line in map.lines(..) {
    ///     println!("{}", String::from_utf8(line?)?);
    /// }
    /// # assert_eq!(map.lines(4..).map(Result::unwrap).collect::<Vec<_>>(), [&b"two"[..], b"three"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lines(&self, range: impl RangeBounds<u64>) -> Lines<'_> {
        Lines::new(self, range)
    }

    /// Checks that the file has not changed, for the modes that need it.
    fn look(&self, known: &Baseline) -> Result<(), MapError> {
        self.ask(&self.known_since(known), 0, 0).map(|_| ()).map_err(|stop| self.error(0, stop))
    }

    /// Searches a range, whose parts share `overlap` bytes, and checks the file.
    fn pass<P: Pass>(&self, range: Range<u64>, overlap: usize, pass: &mut P) -> Result<(), MapError> {
        self.pass_since(&self.known(), range, overlap, pass, true)
    }

    /// Does the same for an operation that began with `known`; `asks` tells whether the file is checked.
    pub(super) fn pass_since<P: Pass>(
        &self,
        known: &Baseline,
        range: Range<u64>,
        overlap: usize,
        pass: &mut P,
        asks: bool,
    ) -> Result<(), MapError> {
        let step = WINDOW.max(overlap.saturating_mul(2));
        let enough = parts(range.clone(), step, overlap, P::BACKWARDS, |window| {
            let known = &self.known_since(known);
            self.window_since(Search { known, range: &range, overlap }, window, pass, asks)
        })?;
        // An empty range is checked, too.
        if range.is_empty() && !enough && asks { self.look(known) } else { Ok(()) }
    }

    /// Searches one window, and once more in the file if it may have moved.
    fn window_since<P: Pass>(
        &self,
        search: Search<'_>,
        window: Range<u64>,
        pass: &mut P,
        asks: bool,
    ) -> Result<bool, MapError> {
        let Search { known, range, .. } = search;
        let before = pass.clone();
        let seen = self.look_through(search, window.clone(), pass)?;
        if !asks || seen.in_the_file && self.watch() == Watch::Reader {
            return Ok(seen.enough);
        }
        // The bytes before the file's current end are done.
        let from = if P::BACKWARDS { window.start } else { range.start };
        let len = usize::try_from(window.end - from).unwrap_or(usize::MAX);
        let answer = self.ask(known, from, len).map_err(|stop| {
            let done = if P::BACKWARDS { 0 } else { stop.done };
            self.error(from, OperationError { done, ..stop })
        })?;
        if answer == Answer::Unmoved {
            return Ok(seen.enough);
        }
        let now = self.observe().map_err(|stop| self.error(from, stop))?;
        *pass = before;
        let enough = self.look_through_file(search, window, pass, None)?;
        self.accept(known, &now);
        Ok(enough)
    }

    /// Searches the mapping of a window, or, if there is none or it fails, copies of the file.
    fn look_through<P: Pass>(
        &self,
        search: Search<'_>,
        window: Range<u64>,
        pass: &mut P,
    ) -> Result<WindowResult, MapError> {
        let len = (window.end - window.start) as usize;
        let mut fault = None;
        self.prepare();
        if let Some(mapping) = self.mapping().filter(|mapping| mapping.is_searchable()) {
            let mut attempt = pass.clone();
            let before = mapping.epoch();
            let mapped = mapping.range(self.lead() + window.start as usize, len).map_err(|fault| (0, fault));
            let looked = mapped.and_then(|bytes| {
                // SAFETY: the mapping has these bytes, and its invariants are the preconditions of loads.
                let enough = unsafe { attempt.part(bytes, window.start, len) }?;
                mapping.whole_since(before, bytes.0).map(|()| enough).map_err(|fault| (0, fault))
            });
            match looked {
                Ok(enough) => {
                    *pass = attempt;
                    return Ok(WindowResult { enough, in_the_file: false });
                }
                Err((done, why)) => {
                    let (at, short) = (window.start, Short { done, fault: why });
                    self.attribute(search.known, at, short).map_err(|stop| self.failed::<P>(search.range, at, stop))?;
                    fault = Some(why);
                }
            }
        }
        let enough = self.look_through_file(search, window, pass, fault)?;
        Ok(WindowResult { enough, in_the_file: true })
    }

    /// Searches copies of the file; `fault` is the reason.
    fn look_through_file<P: Pass>(
        &self,
        search: Search<'_>,
        window: Range<u64>,
        pass: &mut P,
        fault: Option<Fault>,
    ) -> Result<bool, MapError> {
        // A small part first: the needle may be near.
        let (first, rest) = split(window, FIRST, search.overlap, P::BACKWARDS);
        Ok(self.look_through_copies(search, first, pass, fault)?
            || self.look_through_copies(search, rest, pass, fault)?)
    }

    fn look_through_copies<P: Pass>(
        &self,
        search: Search<'_>,
        window: Range<u64>,
        pass: &mut P,
        fault: Option<Fault>,
    ) -> Result<bool, MapError> {
        let Search { known, range, overlap } = search;
        let len = (window.end - window.start) as usize;
        let failed = |at: u64, stop: OperationError| self.failed::<P>(range, at, OperationError { fault, ..stop });
        let mut buffer = vec![0; len.min(READ.max(overlap.saturating_mul(2)))];
        parts(window, buffer.len(), overlap, P::BACKWARDS, |piece| {
            let bytes = &mut buffer[..(piece.end - piece.start) as usize];
            let (read, failure) = match self.pread(known, piece.start, bytes, 0) {
                Ok(()) => return Ok(self.copied(pass, piece.start, bytes)),
                // A search backwards needs the last bytes: those that can be read at the end.
                Err(_) if P::BACKWARDS => self.pread_backwards(known, piece.start, bytes),
                Err(stop) => (0..stop.done, Some(stop)),
            };
            // The part that was read may contain the result.
            let enough = self.copied(pass, piece.start + read.start as u64, &bytes[read]);
            match failure {
                Some(stop) if !enough => Err(failed(piece.start, stop)),
                _ => Ok(enough),
            }
        })
    }

    /// Reads from `at` on, the last bytes first; returns which of them could be read, and the error.
    #[cold]
    fn pread_backwards(&self, known: &Baseline, at: u64, bytes: &mut [u8]) -> (Range<usize>, Option<OperationError>) {
        let len = bytes.len();
        let mut start = len;
        while start > 0 {
            // Back to the start of a unit that is read or fails as a whole.
            let into = (self.window().start + at + start as u64 - 1) as usize % SMALLEST;
            let from = start - (into + 1).min(start);
            if let Err(stop) = self.pread(known, at + from as u64, &mut bytes[from..start], 0) {
                // Whether the file has ended or this part of it cannot be read, its last byte is the first missing one.
                let done = if matches!(stop.reason, Reason::Changed(_)) { from + stop.done } else { start - 1 };
                return (start..len, Some(OperationError { done, ..stop }));
            }
            start = from;
        }
        (0..len, None)
    }

    /// Searches a copy.
    fn copied<P: Pass>(&self, pass: &mut P, at: u64, bytes: &[u8]) -> bool {
        // SAFETY: a slice, which does not fault.
        unsafe { pass.part(Plain(bytes.as_ptr()), at, bytes.len()) }.unwrap_or(false)
    }

    /// Makes an error at byte `stop.done` after `at`.
    #[cold]
    fn failed<P: Pass>(&self, range: &Range<u64>, at: u64, stop: OperationError) -> MapError {
        let byte = at.saturating_add(stop.done as u64);
        let done = match stop.reason {
            // Bytes past its end were not the file's.
            Reason::Changed(_) if P::BACKWARDS => 0,
            _ if P::BACKWARDS => range.end.saturating_sub(byte + 1),
            _ => byte - range.start,
        };
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        MapError::new(self.path(), self.window().start.saturating_add(byte), OperationError { done, ..stop })
    }
}

/// The data that all parts of a pass share.
#[derive(Clone, Copy)]
struct Search<'a> {
    known: &'a Baseline,
    range: &'a Range<u64>,
    /// Number of bytes that adjacent parts share.
    overlap: usize,
}

/// Splits a window into its first `len` bytes and the rest, which share `overlap` bytes; into its last ones and the rest if
/// `backwards`. The first part is the whole if that is not much more.
fn split(window: Range<u64>, len: usize, overlap: usize, backwards: bool) -> (Range<u64>, Range<u64>) {
    let (len, overlap, Range { start, end }) = (len as u64, overlap as u64, window);
    if end - start <= 2 * len || overlap * 2 > len {
        return (start..end, if backwards { start..start } else { end..end });
    }
    if backwards {
        (end - len..end, start..end - len + overlap)
    } else {
        (start..start + len, start + len - overlap..end)
    }
}

/// Calls `each` with the parts of a range, `step` bytes long and more than `overlap`, until one is enough.
fn parts(
    range: Range<u64>,
    step: usize,
    overlap: usize,
    backwards: bool,
    mut each: impl FnMut(Range<u64>) -> Result<bool, MapError>,
) -> Result<bool, MapError> {
    let (step, overlap) = (step as u64, overlap as u64);
    let Range { mut start, mut end } = range;
    while start < end {
        let part = if backwards { end.saturating_sub(step).max(start)..end } else { start..end.min(start + step) };
        let last = part == (start..end);
        if each(part.clone())? {
            return Ok(true);
        }
        if last {
            break;
        }
        if backwards {
            end = part.start + overlap;
        } else {
            start = part.end - overlap;
        }
    }
    Ok(false)
}
