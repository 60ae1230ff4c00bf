//! [`FileMapMut`]: writing to a mapped file.

use core::cell::OnceCell;
use core::ops::{Deref, RangeBounds};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::error::{Change, MapError, OperationError, Reason, is_of_the_file};
use super::file::FileMap;
use super::mapped::{APPENDING, is_appending};
use super::mapping::{Mapping, Rights};
use super::name::Name;
use super::options::{MapOptions, Watch};
use super::range::{asked, in_memory};
use super::record::Baseline;
use crate::backing::Backing;
use crate::errno::CallError;
use crate::fault::Short;
use crate::file_size::without_sigxfsz;
use crate::scalar::Scalar;

/// A mapped file to read from and write to.
///
/// It never extends the file, except by [`allocate`](Self::allocate). It has all operations of a [`FileMap`] (by
/// [`Deref`]), with the errors of `read(2)` ([`Watch::Reader`]): our own stores move the file's times, so a file that only
/// became longer or newer is no error. Concurrent writes by other processes mix with ours byte by byte.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), "to be, or not to be")?;
/// # let path = file.path();
/// use faultin::FileMapMut;
///
/// let map = FileMapMut::open(path)?;
/// if let Some(at) = map.find(b"not", ..)? {
///     map.write_at(b"NOT", at)?;
/// }
/// map.flush()?;
/// # assert_eq!(std::fs::read(path)?, b"to be, or NOT to be");
/// # Ok(())
/// # }
/// ```
///
/// # What a store promises
///
/// `Ok`: the bytes are in the file as every reader on this machine sees it, and the file still extended past them
/// *afterwards*. (A store past the end of a file succeeds in its last page, and is lost, or appears when the file grows
/// again.) A truncation and growth between the store and the check is not detected. The bytes are on the disk after a
/// [`flush`](Self::flush) that succeeded.
///
/// Over [pread](super::Backend::Pread), a write that races with a truncation makes the file longer again, with zeros
/// before it.
///
/// # Without space
///
/// A store to a hole needs space when it is made, and fails with [`NoSpace`](Reason::NoSpace) where there is none: exactly
/// `done` bytes are stored. [`allocate`](Self::allocate) reserves all of it first.
#[derive(Debug)]
pub struct FileMapMut {
    map: FileMap,
}

impl Deref for FileMapMut {
    type Target = FileMap;

    fn deref(&self) -> &FileMap {
        &self.map
    }
}

impl AsRef<FileMap> for FileMapMut {
    fn as_ref(&self) -> &FileMap {
        &self.map
    }
}

impl AsFd for FileMapMut {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl TryFrom<File> for FileMapMut {
    type Error = MapError;

    /// As [`from_file`](Self::from_file).
    fn try_from(file: File) -> Result<Self, MapError> {
        FileMapMut::from_file(file)
    }
}

impl MapOptions {
    /// Opens and maps a file to read and write, as a [`Reader`](Watch::Reader) whatever [`watch`](Self::watch) says, except
    /// [`Nothing`](Watch::Nothing): see [`FileMapMut`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_mut(&self, path: impl AsRef<Path>) -> Result<FileMapMut, MapError> {
        let path = path.as_ref();
        let file = self.file(path, File::options().read(true).write(true))?;
        self.writable().map(file, Some(Arc::new(Name::new(path))), Rights::ReadWrite).map(FileMapMut::new)
    }

    /// Maps a file that is open for reading and writing.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Unsupported`](Reason::Unsupported) over pread for a file that is open for appending,
    /// because `pwrite(2)` would append.
    pub fn from_file_mut(&self, file: File) -> Result<FileMapMut, MapError> {
        self.writable().map(file, None, Rights::ReadWrite).map(FileMapMut::new)
    }

    /// Maps a file that is open for reading and writing, with the path that messages name and [`FileMap::verify`] looks up.
    ///
    /// # Errors
    /// As [`from_file_mut`](Self::from_file_mut).
    pub fn from_file_mut_at(&self, file: File, path: impl AsRef<Path>) -> Result<FileMapMut, MapError> {
        let name = Some(Arc::new(Name::new(path.as_ref())));
        self.writable().map(file, name, Rights::ReadWrite).map(FileMapMut::new)
    }

    /// Our own stores move the stamp, so a moved one cannot be an error.
    fn writable(&self) -> Self {
        let watch = if self.watched() == Watch::Nothing { Watch::Nothing } else { Watch::Reader };
        self.watch(watch)
    }
}

impl FileMapMut {
    pub(super) fn new(map: FileMap) -> Self {
        FileMapMut { map }
    }

    /// Opens and maps a whole file to read and write.
    ///
    /// # Errors
    /// Those of [`MapOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        MapOptions::new().open_mut(path)
    }

    /// Maps a whole file that is open for reading and writing.
    ///
    /// # Errors
    /// Those of [`MapOptions::open`].
    pub fn from_file(file: File) -> Result<Self, MapError> {
        MapOptions::new().from_file_mut(file)
    }

    /// Maps as [`from_file`](Self::from_file) does, with the path that messages name and [`verify`](FileMap::verify) looks
    /// up.
    ///
    /// # Errors
    /// Those of [`MapOptions::open`].
    pub fn from_file_at(file: File, path: impl AsRef<Path>) -> Result<Self, MapError> {
        MapOptions::new().from_file_mut_at(file, path)
    }

    /// Copies `src` to position `at`.
    ///
    /// # Errors
    /// [`MapError`]: [`done`](MapError::done) bytes are stored and within the file. [`PastEnd`](Reason::PastEnd) if the map
    /// ends before `src` does (the bytes that fit are stored); [`Changed`](Reason::Changed) if the file has become shorter;
    /// [`NoSpace`](Reason::NoSpace) if no space is left; [`Io`](Reason::Io) if the page had to be read first and could not
    /// be.
    pub fn write_at(&self, src: &[u8], at: u64) -> Result<(), MapError> {
        let store = |mapping: &Mapping, place, from, len| mapping.write(place, &src[from..from + len]);
        let write = |file: &File, offset, from, len| file.write_at(&src[from..from + len], offset);
        self.put(at, src.len(), store, write).map_err(|stop| self.map.error(at, stop))
    }

    /// Fills a range with `byte`. A range without an end ends with the map.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [1; 100])?;
    /// # let path = file.path();
    /// let map = faultin::FileMapMut::open(path)?;
    /// map.fill(90.., b' ')?;
    /// assert_eq!(map.count_byte(b' ', ..)?, 10);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at); [`PastEnd`](Reason::PastEnd) also if the range ends after the map.
    pub fn fill(&self, range: impl RangeBounds<u64>, byte: u8) -> Result<(), MapError> {
        let (at, len) = asked(range, self.map.len());
        let len = in_memory(len);
        const PIECE: usize = 16 << 10;
        let store = |mapping: &Mapping, place, _, len| mapping.fill(place, byte, len);
        let piece = OnceCell::new();
        let write = |file: &File, offset, _, left: usize| {
            let piece = piece.get_or_init(|| vec![byte; PIECE.min(len)]);
            file.write_at(&piece[..left.min(piece.len())], offset)
        };
        self.put(at, len, store, write).map_err(|stop| self.map.error(at, stop))
    }

    /// Stores a value at position `at`, in this machine's byte order: over a mapping, one store of its bytes.
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at); nothing is stored where not all of it fits.
    pub fn store<T: Scalar>(&self, at: u64, value: T) -> Result<(), MapError> {
        let (known, len) = (self.map.known(), size_of::<T>());
        let stop = if self.map.clamp(&known, at, len) < len {
            OperationError::new(0, Reason::PastEnd { len: self.map.len() })
        } else {
            let store =
                |mapping: &Mapping, place, _, _| mapping.store(place, value).map_err(|fault| Short { done: 0, fault });
            let mut bytes = [0; 16];
            value.put_bytes(&mut bytes[..len]);
            let write = |file: &File, offset, from, len| file.write_at(&bytes[from..from + len], offset);
            match self.put(at, len, store, write) {
                Ok(()) => return Ok(()),
                Err(stop) => stop,
            }
        };
        Err(self.map.error(at, stop))
    }

    /// Waits until all stored bytes are on the disk, with the metadata that is needed to find them.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) or [`NoSpace`](Reason::NoSpace) if a writeback has failed since this file was opened, *whichever
    /// process* had stored the bytes, and whether or not this map requested it. The kernel reports each such failure once
    /// to each open file (duplicated descriptors count as one), and marks the pages clean: a second `flush` succeeds
    /// although the bytes are lost. Store the bytes again if they matter. [`Changed`](Reason::Changed) if the file has
    /// become shorter.
    pub fn flush(&self) -> Result<(), MapError> {
        let flushed = match self.map.mapping() {
            Some(mapping) => self.sync(mapping, 0, usize::MAX),
            None => self.sync_data(),
        };
        let known = self.map.known();
        flushed
            .map_err(|error| OperationError::io(0, error))
            .and_then(|()| self.still_reaches(&known, 0, usize::MAX))
            .map_err(|stop| self.map.error(0, OperationError { done: 0, ..stop }))
    }

    /// Flushes a range as [`flush`](Self::flush) does; whole pages are written. File systems may write more. A range that
    /// ends after the map ends with it.
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush). A failure is the file's, not the range's.
    pub fn flush_range(&self, range: impl RangeBounds<u64>) -> Result<(), MapError> {
        let known = self.map.known();
        let (at, len) = asked(range, self.map.window().len(known.size));
        let within = self.map.clamp(&known, at, in_memory(len));
        let flushed = match self.map.mapping() {
            _ if within == 0 => Ok(()),
            Some(mapping) => self.sync(mapping, self.map.lead() + at as usize, within),
            None => self.sync_data(),
        };
        flushed
            .map_err(|error| OperationError::io(0, error))
            .and_then(|()| self.still_reaches(&known, at, within))
            .map_err(|stop| self.map.error(at, OperationError { done: 0, ..stop }))
    }

    fn sync(&self, mapping: &Mapping, at: usize, len: usize) -> io::Result<()> {
        let before = mapping.epoch();
        let synced = mapping.sync(at, len);
        // Where a scan's zeros are mapped instead of the file, there was nothing to write back.
        if mapping.whole_since(before, mapping.base()).is_ok() { synced } else { self.sync_data() }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.map.file().sync_data().map_err(|error| CallError::name("fdatasync", error))
    }

    /// Allocates space for a range, so that stores to it need none; existing bytes stay. The file grows if it ends before,
    /// and the map with it. A range without an end ends with the map.
    ///
    /// Afterwards a store can still fail: with an I/O error where a page has to be read first; where the file is truncated
    /// or a hole is punched into it; and for lack of space on file systems that write to a new place each time (btrfs, a
    /// reflinked file on XFS), on thinly provisioned disks, and on tmpfs where the memory of the control group is
    /// exhausted.
    ///
    /// # Errors
    /// [`NoSpace`](Reason::NoSpace), before anything is stored (a part may have been allocated);
    /// [`Unsupported`](Reason::Unsupported) where the file system cannot; [`PastEnd`](Reason::PastEnd) if
    /// [`length`](MapOptions::length) is less.
    pub fn allocate(&self, range: impl RangeBounds<u64>) -> Result<(), MapError> {
        let (at, len) = asked(range, self.map.len());
        if len == 0 {
            return Ok(());
        }
        self.reserve(at, len).map_err(|stop| self.map.error(at, stop))?;
        self.map.refresh().map(|_| ())
    }

    fn reserve(&self, at: u64, len: u64) -> Result<(), OperationError> {
        let window = self.map.window();
        if at.checked_add(len).is_none_or(|end| end > window.max) {
            return Err(OperationError::new(0, Reason::PastEnd { len: window.max }));
        }
        let too_large = || OperationError::io(0, io::Error::from_raw_os_error(libc::EFBIG));
        let start = window.start.checked_add(at).and_then(|start| libc::off_t::try_from(start).ok());
        let (start, len) = start.zip(libc::off_t::try_from(len).ok()).ok_or_else(too_large)?;
        loop {
            // SAFETY: a descriptor we own.
            let allocate = || match unsafe { libc::fallocate(self.map.file().as_raw_fd(), 0, start, len) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
            let Err(error) = without_sigxfsz(allocate) else { return Ok(()) };
            return Err(match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                    OperationError::new(0, Reason::Unsupported("allocating space"))
                }
                _ => OperationError::io(0, CallError::name("fallocate", error)),
            });
        }
    }

    /// Stores `len` bytes from position `at`: by `store(mapping, place, from, len)` for those after the first `from`, or by
    /// `write` to the file.
    fn put(
        &self,
        at: u64,
        len: usize,
        store: impl Fn(&Mapping, usize, usize, usize) -> Result<(), Short>,
        write: impl Fn(&File, u64, usize, usize) -> io::Result<usize>,
    ) -> Result<(), OperationError> {
        let map = &self.map;
        let known = map.known();
        let within = map.clamp(&known, at, len);
        map.prepare();
        match map.mapping() {
            _ if within == 0 => {}
            Some(mapping) => {
                let go_on = |from: usize| store(mapping, map.lead() + at as usize + from, from, within - from);
                match go_on(0) {
                    Ok(()) => {}
                    // A scan's zeros are mapped there, and cannot be written to: the file can.
                    Err(first) if mapping.is_damaged() && !is_appending(map.file()) => {
                        self.write_to_file(&known, at, within, first.done, write)?
                    }
                    Err(first) => self.explain(&known, at, first, go_on)?,
                }
            }
            // (It was mapped when it was opened; otherwise opening it would have failed.)
            None if map.space().is_some() && is_appending(map.file()) => {
                return Err(OperationError::new(0, Reason::Unsupported(APPENDING)));
            }
            None => self.write_to_file(&known, at, within, 0, write)?,
        }
        // Bytes that were stored past a new end are lost.
        if within > 0 {
            self.still_reaches(&known, at, within)?;
        }
        if within < len {
            return Err(OperationError::new(within, Reason::PastEnd { len: map.window().len(known.size) }));
        }
        Ok(())
    }

    /// Writes to the file what is missing of `len` bytes after `done`.
    fn write_to_file(
        &self,
        known: &Baseline,
        at: u64,
        len: usize,
        done: usize,
        write: impl Fn(&File, u64, usize, usize) -> io::Result<usize>,
    ) -> Result<(), OperationError> {
        let engine = self.map.engine();
        // Writing past its end would extend the file: check first. Changes in between cannot be undone.
        let reached = engine.reaches(at, len, known.size);
        reached.map_err(|stop| OperationError { done: stop.done.min(done), ..stop })?;
        engine.write(at, len, done, usize::MAX, |file, offset, done| write(file, offset, done, len - done))
    }

    /// Checks those that the map has, if it [watches](Watch) its file.
    fn still_reaches(&self, known: &Baseline, at: u64, len: usize) -> Result<(), OperationError> {
        match self.map.watch() {
            Watch::Nothing => Ok(()),
            _ => self.map.engine().reaches(at, self.map.clamp(known, at, len), known.size),
        }
    }

    /// Handles a short store: determines the reason by the file; if that has no error, tries once more.
    #[cold]
    fn explain(
        &self,
        known: &Baseline,
        at: u64,
        first: Short,
        go_on: impl Fn(usize) -> Result<(), Short>,
    ) -> Result<(), OperationError> {
        let mut done = first.done;
        let mut fault = first.fault;
        for last in [false, true] {
            let stop = |reason| Err(OperationError::faulted(done, reason, fault));
            if let Err(short) = self.map.engine().has(at, done, known.size) {
                return Err(OperationError { fault: Some(fault), ..short });
            }
            if !is_of_the_file(&fault) {
                return stop(Reason::Fault(fault));
            }
            match fault.diagnose(self.map.file(), self.map.engine().offset(at + done as u64)) {
                Ok(Some(Backing::PastEnd { size })) => {
                    return stop(Reason::Changed(Change::Shrunk { from: known.size, to: size }));
                }
                Ok(Some(Backing::Io(error))) => return stop(Reason::Io(error)),
                Ok(Some(Backing::NoSpace)) => return stop(Reason::NoSpace),
                Ok(Some(Backing::Healthy) | None) if last => {
                    return stop(if is_full(self.map.file()) { Reason::NoSpace } else { Reason::Fault(fault) });
                }
                Ok(Some(Backing::Healthy) | None) => {}
                Err(error) => return stop(Reason::Io(error)),
            }
            match go_on(done) {
                Ok(()) => return Ok(()),
                Err(short) => {
                    done += short.done;
                    fault = short.fault;
                }
            }
        }
        Err(OperationError::faulted(done, Reason::Fault(fault), fault))
    }
}

/// Returns whether the file system has no space left: the only remaining reason where a store failed at an allocated place.
/// A file system without a limit (that of memfds) reports no blocks at all.
pub(crate) fn is_full(file: &File) -> bool {
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a descriptor we own, and a `statvfs` to write.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded and has written all of it.
    let stat = unsafe { stat.assume_init() };
    stat.f_blocks > 0 && stat.f_bavail == 0
}
