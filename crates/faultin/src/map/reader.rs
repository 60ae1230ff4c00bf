//! [`MapReader`]: a mapped file for code that takes a reader; [`FileReader`]: any file for such code.

use core::borrow::Borrow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::{MapError, OperationError};
use super::file::FileMap;
use super::options::{MapOptions, Watch};
use super::record::Baseline;
use crate::errno::CallError;

/// Maximum size of the buffer in bytes. A check of the file after each takes a fiftieth of the copy.
const BUFFER: usize = 256 << 10;

/// Minimum size of the buffer in bytes.
const SMALL: usize = 8 << 10;

/// A reader of a [`FileMap`]: made by [`FileMap::reader`], which borrows the map, by [`FileMap::into_reader`], which owns
/// it, or by [`new`](Self::new) of anything else that leads to a map:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), "to be, or not to be")?;
/// # let path = file.path();
/// use std::io::{Read, Seek, SeekFrom};
/// use std::sync::Arc;
///
/// use faultin::{FileMap, map::MapReader};
///
/// let map = Arc::new(FileMap::open(path)?);
/// let mut reader = MapReader::new(Arc::clone(&map));
/// let read = std::thread::spawn(move || {
///     let mut text = String::new();
///     reader.seek(SeekFrom::Start(7))?;
///     reader.read_to_string(&mut text).map(|_| text)
/// });
/// assert_eq!(read.join().unwrap()?, "or not to be");
/// # Ok(())
/// # }
/// ```
///
/// The file is checked after every piece, before the piece is handed on: where the map's [mode](Watch) has an error, the
/// error is returned and not the bytes. The errors are those of [`MapError::into_io`]: `get_ref` leads to the [`MapError`].
///
/// After a refresh of the map, the reader continues past the old end. A reader under [`Watch::Contents`] does not: it reads
/// the file as it was when the reader was made.
#[derive(Debug)]
pub struct MapReader<M: Borrow<FileMap>> {
    map: M,
    place: Place,
}

/// A reader of any path: over a [`FileMap`] where possible, as a stream otherwise. So it also reads pipes and terminals,
/// and files on proc, sysfs and the like, whose [size is not known](super::has_known_size).
///
/// A mapped file has the errors of [`Watch::Reader`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Read;
///
/// let mut text = String::new();
/// faultin::FileReader::open("/proc/self/status")?.read_to_string(&mut text)?;
/// assert!(text.starts_with("Name:"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileReader {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Mapped(Box<MapReader<FileMap>>),
    Stream(BufReader<File>),
}

impl FileReader {
    /// Opens a file, a pipe or a device to read from its start. Opening a pipe waits for its writer, as `open(2)` does.
    ///
    /// # Errors
    /// Those of [`MapOptions::open`], except for streams.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        let path = path.as_ref();
        let stream = || -> Result<Source, MapError> {
            let file = File::open(path)
                .map_err(|error| MapError::new(Some(path), 0, OperationError::io(0, CallError::name("open", error))))?;
            Ok(Source::Stream(BufReader::with_capacity(BUFFER, file)))
        };
        // A pipe is opened once: if its reader closed it again, the writer would lose it.
        let is_stream = std::fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir());
        let source = match if is_stream { None } else { Some(MapOptions::new().open(path)) } {
            Some(Ok(map)) => Source::Mapped(Box::new(map.into_reader())),
            Some(Err(error)) if !error.is_stream() => return Err(error),
            _ => stream()?,
        };
        Ok(FileReader { source })
    }

    /// Returns the map that it reads from, `None` if it reads a stream.
    pub fn as_map(&self) -> Option<&FileMap> {
        match &self.source {
            Source::Mapped(mapped) => Some(mapped.get_ref()),
            Source::Stream(_) => None,
        }
    }
}

impl Read for FileReader {
    fn read(&mut self, dst: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Mapped(mapped) => mapped.read(dst),
            Source::Stream(stream) => stream.read(dst),
        }
    }
}

impl BufRead for FileReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.source {
            Source::Mapped(mapped) => mapped.fill_buf(),
            Source::Stream(stream) => stream.fill_buf(),
        }
    }

    fn consume(&mut self, len: usize) {
        match &mut self.source {
            Source::Mapped(mapped) => mapped.consume(len),
            Source::Stream(stream) => stream.consume(len),
        }
    }
}

impl FileMap {
    /// Returns a reader from the start of the map: [`Read`](std::io::Read), [`Seek`](std::io::Seek) and
    /// [`BufRead`](std::io::BufRead).
    pub fn reader(&self) -> MapReader<&FileMap> {
        MapReader::new(self)
    }

    /// Returns a reader from the start of the map that owns it: to return it, or to move it to another thread.
    /// [`MapReader::new`] makes a reader of an `Arc<FileMap>`.
    ///
    /// ```
    /// use std::io::{self, BufRead};
    /// use std::path::Path;
    ///
    /// fn headers(path: &Path) -> io::Result<impl BufRead + Send + 'static> {
    ///     Ok(faultin::FileMap::open(path)?.into_reader())
    /// }
    /// # fn main() -> io::Result<()> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), "a: b\n")?;
    /// # assert_eq!(headers(file.path())?.lines().next().unwrap()?, "a: b");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_reader(self) -> MapReader<FileMap> {
        MapReader::new(self)
    }
}

impl<M: Borrow<FileMap>> MapReader<M> {
    /// Makes a reader from the start of a map: of a `&FileMap`, a `FileMap`, an `Arc<FileMap>` and the like.
    pub fn new(map: M) -> Self {
        let place = Place::new(map.borrow());
        MapReader { map, place }
    }

    /// Returns the map that it reads from.
    pub fn get_ref(&self) -> &FileMap {
        self.map.borrow()
    }

    /// Returns the map that the reader was made of. The buffer is dropped.
    pub fn into_inner(self) -> M {
        self.map
    }

    /// Returns the position of the next byte in the map.
    pub fn position(&self) -> u64 {
        self.place.position
    }
}

impl<M: Borrow<FileMap>> Read for MapReader<M> {
    fn read(&mut self, dst: &mut [u8]) -> io::Result<usize> {
        self.place.read(self.map.borrow(), dst)
    }
}

impl<M: Borrow<FileMap>> BufRead for MapReader<M> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.place.fill_buf(self.map.borrow())
    }

    fn consume(&mut self, len: usize) {
        self.place.consume(len);
    }
}

impl<M: Borrow<FileMap>> Seek for MapReader<M> {
    /// Moves the position; `End` is the end of the map as this reader knows it. The buffer is dropped.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.place.seek(self.map.borrow(), to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position())
    }
}

/// The position of a reader, and its buffer.
#[derive(Debug)]
struct Place {
    known: Baseline,
    position: u64,
    buffer: Vec<u8>,
    /// `buffer[taken..filled]` are the bytes at `position`.
    taken: usize,
    filled: usize,
}

impl Place {
    fn new(map: &FileMap) -> Self {
        Place { known: map.known(), position: 0, buffer: Vec::new(), taken: 0, filled: 0 }
    }

    fn known(&mut self, map: &FileMap) -> Baseline {
        if map.watch() != Watch::Contents {
            self.known = map.known();
        }
        self.known
    }

    fn read(&mut self, map: &FileMap, dst: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled && dst.len() >= BUFFER {
            let known = self.known(map);
            let len = match take(map, &known, self.position, dst) {
                Ok(len) => len,
                // As below.
                Err(error) if error.done() > 0 && is_before_it(map, &error) => error.done(),
                Err(error) => return Err(error.into_io()),
            };
            self.position += len as u64;
            return Ok(len);
        }
        let bytes = self.fill_buf(map)?;
        let len = bytes.len().min(dst.len());
        dst[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Ok(len)
    }

    fn fill_buf(&mut self, map: &FileMap) -> io::Result<&[u8]> {
        if self.taken == self.filled {
            let known = self.known(map);
            (self.taken, self.filled) = (0, 0);
            let wanted = map.clamp(&known, self.position, BUFFER).max(SMALL);
            if self.buffer.len() < wanted {
                self.buffer = vec![0; wanted];
            }
            self.filled = match take(map, &known, self.position, &mut self.buffer) {
                Ok(len) => len,
                // The good bytes first; the next call reports the rest, as `read(2)` does.
                Err(error) if error.done() > 0 && is_before_it(map, &error) => error.done(),
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

    fn seek(&mut self, map: &FileMap, to: SeekFrom) -> io::Result<u64> {
        let known = self.known(map);
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => map.window().len(known.size).checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let to = to.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the map, or beyond 2^64")
        })?;
        (self.taken, self.filled) = (0, 0);
        self.position = to;
        Ok(to)
    }
}

/// Returns whether the bytes before an error are the file's.
fn is_before_it(map: &FileMap, error: &MapError) -> bool {
    error.change().is_none() || matches!(map.watch(), Watch::Reader | Watch::Nothing)
}

/// Copies the available bytes from `at`.
fn take(map: &FileMap, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<usize, MapError> {
    let len = map.clamp(known, at, dst.len());
    map.copy(known, at, &mut dst[..len]).map_err(|stop| map.error(at, stop))?;
    Ok(len)
}
