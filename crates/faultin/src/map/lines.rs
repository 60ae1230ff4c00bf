//! [`Lines`]: the lines of a range, as copies.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::RangeBounds;
use std::io;

use super::chunks::Chunks;
use super::error::{MapError, OperationError, Reason};
use super::file::FileMap;
use crate::scan::over;

/// A line, without the `\n` that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Position in the map where it begins.
    pub at: u64,
    /// Its bytes. They are a copy and do not change.
    pub bytes: &'a [u8],
}

/// An iterator over a range's lines, made by [`FileMap::lines`]. As an [`Iterator`] it returns each line as a `Vec<u8>`,
/// without its `\n`, and ends after an error.
///
/// [`next_line`](Self::next_line) lends its buffer instead, and also returns the position of the line: no allocation for
/// each line.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), "one\ntwo\nthree")?;
/// # let path = file.path();
/// let map = faultin::FileMap::open(path)?;
/// let mut lines = map.lines(..);
/// while let Some(line) = lines.next_line()? {
///     if line.bytes.starts_with(b"t") {
///         println!("{}: {}", line.at, line.bytes.escape_ascii());
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// A line takes memory in proportion to its length, up to a [limit](Self::limit) of 64 MiB; a line within one
/// [chunk](Chunks) is not copied a second time.
#[derive(Debug)]
pub struct Lines<'a> {
    chunks: Chunks<'a>,
    /// Size in bytes of the chunk that was copied last, and how many of them belong to lines that were handed out.
    len: usize,
    used: usize,
    /// Where lines end in the chunk.
    ends: Ends,
    /// The start of a line that continues after the chunk, or did.
    begun: Vec<u8>,
    /// Whether `begun` was handed out.
    done: bool,
    /// Maximum number of bytes of a line.
    limit: usize,
    /// Whether the [`Iterator`] has ended.
    ended: bool,
}

/// Maximum number of bytes of a line, unless another [limit](Lines::limit) is set.
const LIMIT: usize = 64 << 20;

impl<'a> Lines<'a> {
    pub(super) fn new(map: &'a FileMap, range: impl RangeBounds<u64>) -> Self {
        Lines {
            chunks: Chunks::new(map, range),
            len: 0,
            used: 0,
            ends: Ends::new(),
            begun: Vec::new(),
            done: true,
            limit: LIMIT,
            ended: false,
        }
    }

    /// Sets the maximum number of bytes of a line, without its `\n`: 64 MiB by default. The limit bounds the memory that
    /// the iterator takes, whatever is in the file.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Returns the next line; `None` after the last one, as [`Chunks::next_chunk`] does. Bytes after the last `\n` are a
    /// line, if there are any.
    ///
    /// After an error, the next call tries again where it stopped; the line includes the bytes before.
    ///
    /// # Errors
    /// Those of [`Chunks::next_chunk`]. [`LineTooLong`](Reason::LineTooLong), with the [`offset`](MapError::offset) of its
    /// first byte, if the line has more bytes than the [limit](Self::limit); each further call returns the same error.
    /// [`Io`](Reason::Io) with `ENOMEM` if there is no memory for the line.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, MapError> {
        if self.done {
            self.begun.clear();
            self.done = false;
        }
        loop {
            if let Some(end) = self.ends.next(self.chunks.current(self.len)) {
                self.fits(end - self.used)?;
                let start = self.used;
                self.used = end + 1;
                self.ends.advance();
                let at = self.chunks.position() - (self.len - start) as u64 - self.begun.len() as u64;
                self.done = true;
                if self.begun.is_empty() {
                    return Ok(Some(Line { at, bytes: &self.chunks.current(self.len)[start..end] }));
                }
                // (There is room: `fits` has made it.)
                self.begun.extend_from_slice(&self.chunks.current(self.len)[start..end]);
                return Ok(Some(Line { at, bytes: &self.begun }));
            }
            self.fits(self.len - self.used)?;
            self.begun.extend_from_slice(&self.chunks.current(self.len)[self.used..]);
            (self.len, self.used) = (0, 0);
            self.ends.clear();
            match self.chunks.advance()? {
                Some(len) => self.len = len,
                None if self.begun.is_empty() => return Ok(None),
                None => {
                    self.done = true;
                    let at = self.chunks.position() - self.begun.len() as u64;
                    return Ok(Some(Line { at, bytes: &self.begun }));
                }
            }
        }
    }

    fn next_owned(&mut self) -> Result<Option<Vec<u8>>, MapError> {
        let map = self.chunks.map();
        let Some(Line { at, bytes }) = self.next_line()? else { return Ok(None) };
        let mut line = Vec::new();
        if line.try_reserve_exact(bytes.len()).is_err() {
            return Err(map.error(at, OperationError::io(0, io::Error::from_raw_os_error(libc::ENOMEM))));
        }
        line.extend_from_slice(bytes);
        Ok(Some(line))
    }

    /// Makes room for `more` bytes of the line that was begun, if one was; fails if they exceed the limit.
    fn fits(&mut self, more: usize) -> Result<(), MapError> {
        let len = self.begun.len();
        let reason = if more > self.limit.saturating_sub(len) {
            Reason::LineTooLong { limit: self.limit }
        } else if len == 0 && more < self.len - self.used {
            // The line ends in the chunk and stays there.
            return Ok(());
        } else if self.begun.try_reserve(more).is_err() {
            Reason::Io(io::Error::from_raw_os_error(libc::ENOMEM))
        } else {
            return Ok(());
        };
        let at = self.chunks.position() - (self.len - self.used) as u64 - len as u64;
        Err(self.chunks.map().error(at, OperationError::new(0, reason)))
    }
}

/// The positions of `\n` in a chunk, found many at a time: searching for each one would take longer than to copy the line.
struct Ends {
    /// Positions in the chunk; those from `next` to `count` are ahead.
    found: Box<[u32; Ends::ROOM]>,
    next: usize,
    count: usize,
    /// Number of bytes of the chunk that were searched.
    searched: usize,
}

impl Ends {
    /// Few enough to stay in the L1 cache beside the chunk.
    const ROOM: usize = 4 * over::ENOUGH;

    fn new() -> Self {
        Ends { found: Box::new([0; Ends::ROOM]), next: 0, count: 0, searched: 0 }
    }

    /// Returns the next position in `chunk`; `None` if there is none.
    #[inline]
    fn next(&mut self, chunk: &[u8]) -> Option<usize> {
        if self.next == self.count {
            self.search(chunk);
        }
        self.found[..self.count].get(self.next).map(|&end| end as usize)
    }

    /// Finds further positions, if there are any.
    #[inline(never)]
    fn search(&mut self, chunk: &[u8]) {
        (self.next, self.count) = (0, 0);
        while self.count == 0 && self.searched < chunk.len() {
            (self.count, self.searched) = over::positions(chunk, b'\n', self.searched, &mut *self.found);
        }
    }

    /// Advances to the position after the next one.
    #[inline]
    fn advance(&mut self) {
        self.next += 1;
    }

    /// Forgets the chunk.
    fn clear(&mut self) {
        (self.next, self.count, self.searched) = (0, 0, 0);
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.found[self.next..self.count]).finish()
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Vec<u8>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.next_owned().transpose();
        self.ended = !matches!(line, Some(Ok(_)));
        line
    }
}

impl FusedIterator for Lines<'_> {}
