//! [`Cursor`]: a cached file for code that takes a reader, a writer, or a position.

#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::error::Partial;
use crate::file::CachedFile;

/// A position in a [`CachedFile`], with [`Read`], [`Write`] and [`Seek`]: made by [`CachedFile::cursor`], which borrows the file,
/// or by [`new`](Self::new) of anything that leads to one (a `CachedFile`, which it owns, or an `Arc<CachedFile>`).
///
/// ```
/// use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
///
/// use faultin_cache::{Cache, store::MemoryStore};
///
/// let file = Cache::new().open(MemoryStore::new([]))?;
/// let mut cursor = file.cursor();
/// writeln!(cursor, "to be")?;
/// writeln!(cursor, "or not")?;
/// cursor.flush()?; // the store has it
///
/// cursor.seek(SeekFrom::Start(3))?;
/// let lines: Vec<String> = BufReader::new(cursor).lines().collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["be", "or not"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It buffers nothing: the cache does. Each call is one [`read_at`](CachedFile::read_at) or
/// [`write_at`](CachedFile::write_at), whose count is returned if a part succeeded; the next call reports the error of the
/// rest, as with system calls. Errors contain the [`Error`](crate::Error) ([`errno`](crate::errno) returns its number). A
/// write after the end of the file fills the gap with zeros.
///
/// [`flush`](Write::flush) writes back the dirty blocks of the whole file, and does not wait for them to be durable;
/// [`sync_all`](CachedFile::sync_all) does.
#[derive(Clone, Debug)]
pub struct Cursor<F: Borrow<CachedFile>> {
    file: F,
    position: u64,
}

impl<F: Borrow<CachedFile>> Cursor<F> {
    /// Makes a cursor at the start of a file.
    pub fn new(file: F) -> Self {
        Cursor { file, position: 0 }
    }

    /// Returns the file.
    pub fn get_ref(&self) -> &CachedFile {
        self.file.borrow()
    }

    /// Returns the file that the cursor was made of.
    pub fn into_inner(self) -> F {
        self.file
    }

    /// Returns the position of the next read or write.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// Converts to the result that a system call would have.
fn answer(moved: Result<usize, Partial>) -> io::Result<usize> {
    moved.or_else(Partial::syscall).map_err(io::Error::from)
}

impl<F: Borrow<CachedFile>> Read for Cursor<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = answer(self.get_ref().read_at(buf, self.position))?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<F: Borrow<CachedFile>> Write for Cursor<F> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = answer(self.get_ref().write_at(buf, self.position))?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.get_ref().write_back(0..u64::MAX).map_err(io::Error::from)
    }
}

impl<F: Borrow<CachedFile>> Seek for Cursor<F> {
    /// Moves to any position up to the longest file, also after the end of this one.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.get_ref().len()?.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let to = to.filter(|&to| i64::try_from(to).is_ok()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the file, or beyond 2^63")
        })?;
        self.position = to;
        Ok(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

impl CachedFile {
    /// Returns a cursor at the start of the file: [`Read`], [`Write`] and [`Seek`].
    pub fn cursor(&self) -> Cursor<&CachedFile> {
        Cursor::new(self)
    }

    /// Reads exactly `buf.len()` bytes from `pos`, as `read_exact_at` of [`FileExt`](std::os::unix::fs::FileExt) does.
    ///
    /// ```
    /// use faultin_cache::{Cache, store::MemoryStore};
    ///
    /// let file = Cache::new().open(MemoryStore::new(*b"to be"))?;
    /// let mut word = [0; 2];
    /// file.read_exact_at(&mut word, 3)?;
    /// assert_eq!(&word, b"be");
    /// assert_eq!(file.read_exact_at(&mut word, 4).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the file ends before; otherwise an error that contains the
    /// [`Partial`]. The start of `buf` may have been overwritten.
    pub fn read_exact_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        let len = buf.len();
        match self.read_at(buf, pos)? {
            read if read == len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes all of `buf` at `pos`, as `write_all_at` of [`FileExt`](std::os::unix::fs::FileExt) does:
    /// [`write_at`](Self::write_at) for code that has `io::Error`s.
    ///
    /// # Errors
    /// Those of `write_at`: an error that contains the [`Partial`], which counts the bytes that were written.
    pub fn write_all_at(&self, buf: &[u8], pos: u64) -> io::Result<()> {
        self.write_at(buf, pos).map(|_| ()).map_err(io::Error::from)
    }
}
