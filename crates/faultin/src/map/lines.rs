//! [`Lines`]: the lines of a range, as copies.

use core::ops::RangeBounds;

use super::chunks::Chunks;
use super::error::MapError;
use super::file::FileMap;
use crate::scan::{Plain, over};

/// A line, without the `\n` it ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where in the map it begins.
    pub at: u64,
    /// Its bytes. They are a copy and do not change.
    pub bytes: &'a [u8],
}

/// An iterator over a range's lines, made by [`FileMap::lines`]. It lends its buffer, so it is not an [`Iterator`]:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), "one\ntwo\nthree")?;
/// # let path = file.path();
/// let map = faultin::map::FileMap::open(path)?;
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
/// A line takes as much memory as it has bytes; one that lies within a [chunk](Chunks) is not copied a second time.
#[derive(Debug)]
pub struct Lines<'a> {
    chunks: Chunks<'a>,
    /// Bytes of the chunk that was copied last, and how many of them belong to lines that were handed out.
    len: usize,
    used: usize,
    /// The start of a line that goes on behind the chunk, or did.
    begun: Vec<u8>,
    /// Whether `begun` was handed out.
    done: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(map: &'a FileMap, range: impl RangeBounds<u64>) -> Self {
        Lines { chunks: Chunks::new(map, range), len: 0, used: 0, begun: Vec::new(), done: true }
    }

    /// The next line; `None` after the last one, as [`Chunks::next_chunk`] says it. The bytes behind the last `\n` are a
    /// line, if there are any.
    ///
    /// After an error, the next call tries again where it stopped; the line goes on with the bytes before.
    ///
    /// # Errors
    /// As [`Chunks::next_chunk`].
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, MapError> {
        if self.done {
            self.begun.clear();
            self.done = false;
        }
        loop {
            let rest = &self.chunks.current(self.len)[self.used..];
            // SAFETY: a slice.
            let end = unsafe { over::find_any(Plain(rest.as_ptr()), rest.len(), [b'\n']) };
            if let Ok(Some(end)) = end {
                let start = self.used;
                self.used += end + 1;
                let at = self.chunks.position() - (self.len - start) as u64 - self.begun.len() as u64;
                self.done = true;
                if self.begun.is_empty() {
                    return Ok(Some(Line { at, bytes: &self.chunks.current(self.len)[start..start + end] }));
                }
                self.begun.extend_from_slice(&self.chunks.current(self.len)[start..start + end]);
                return Ok(Some(Line { at, bytes: &self.begun }));
            }
            self.begun.extend_from_slice(rest);
            (self.len, self.used) = (0, 0);
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
}
