//! [`MapReader`]: a mapped file for code that takes a reader.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use super::error::MapError;
use super::file::FileMap;
use super::options::Watch;
use super::stamp::Stamp;

/// Bytes of the buffer at most. A look at the file after each costs a fiftieth of the copy.
const BUFFER: usize = 256 << 10;

/// Bytes of the buffer at least.
const SMALL: usize = 8 << 10;

/// A reader of a [`FileMap`]: made by [`FileMap::reader`].
///
/// Every piece is looked at before it is handed on: bytes of a file that is known to have changed are not returned, an
/// error is. The errors are what [`MapError::into_io`] makes: `get_ref` leads to the [`MapError`].
///
/// It compares with the file as it was when the reader was made, whoever refreshes the map; a reader of a map that is
/// watched for [`Shrinking`](Watch::Shrinking) only goes on after its end once the map was refreshed.
#[derive(Debug)]
pub struct MapReader<'a> {
    map: &'a FileMap,
    known: Stamp,
    position: u64,
    buffer: Vec<u8>,
    /// `buffer[taken..filled]` are the bytes at `position`.
    taken: usize,
    filled: usize,
}

impl<'a> MapReader<'a> {
    pub(super) fn new(map: &'a FileMap) -> Self {
        MapReader { map, known: map.known(), position: 0, buffer: Vec::new(), taken: 0, filled: 0 }
    }

    /// Where the next byte comes from, in the map.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn known(&mut self) -> Stamp {
        if self.map.watch() == Watch::Shrinking {
            self.known = self.map.known();
        }
        self.known
    }
}

/// Copies what there is from `at`, and looks whether it is to be had.
fn take(map: &FileMap, known: &Stamp, at: u64, dst: &mut [u8]) -> Result<usize, MapError> {
    let len = map.clamp(known, at, dst.len());
    map.fetch(known, at, &mut dst[..len])
        .and_then(|()| map.check(known, at, len))
        .map_err(|stop| map.error(at, stop))?;
    Ok(len)
}

impl Read for MapReader<'_> {
    fn read(&mut self, dst: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled && dst.len() >= BUFFER {
            let known = self.known();
            let len = take(self.map, &known, self.position, dst).map_err(MapError::into_io)?;
            self.position += len as u64;
            return Ok(len);
        }
        let bytes = self.fill_buf()?;
        let len = bytes.len().min(dst.len());
        dst[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for MapReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.filled {
            let known = self.known();
            (self.taken, self.filled) = (0, 0);
            let wanted = self.map.clamp(&known, self.position, BUFFER).max(SMALL);
            if self.buffer.len() < wanted {
                self.buffer = vec![0; wanted];
            }
            self.filled = match take(self.map, &known, self.position, &mut self.buffer) {
                Ok(len) => len,
                // The good bytes first; the next call finds out about the rest, as `read(2)` has it.
                Err(error) if error.done() > 0 && error.change().is_none() => error.done(),
                Err(error) => return Err(error.into_io()),
            };
        }
        Ok(&self.buffer[self.taken..self.filled])
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.filled - self.taken);
        self.taken += len;
        self.position += len as u64;
    }
}

impl Seek for MapReader<'_> {
    /// `End` is the end of the map as this reader knows it. What is buffered is dropped.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let known = self.known();
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.map.window().len(known.size).checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let to = to.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the map, or beyond 2^64")
        })?;
        (self.taken, self.filled) = (0, 0);
        self.position = to;
        Ok(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}
