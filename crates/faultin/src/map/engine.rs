//! [`Engine`]: the file of a map of any kind: where the map is in it, transfers that do not use the mapping, and checks of its
//! length.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(not(faultin_portable))]
use super::error::Change;
use super::error::{MapError, OperationError, Reason};
#[cfg(not(faultin_portable))]
use super::stamp::Stamp;
#[cfg(not(faultin_portable))]
use crate::file_size::without_sigxfsz;

/// The part of a file that a map is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Offset in the file where it begins.
    pub start: u64,
    /// Maximum size in bytes.
    pub max: u64,
}

impl Window {
    /// Returns the size in bytes of the part that a file of this size has.
    #[inline]
    pub(super) fn len(&self, size: u64) -> u64 {
        size.saturating_sub(self.start).min(self.max)
    }
}

/// The file of a map. Positions are bytes from the start of the map.
#[derive(Debug)]
pub(super) struct Engine {
    file: File,
    window: Window,
    /// Number of bytes of the mapping before the window.
    lead: usize,
}

impl Engine {
    pub(super) fn new(file: File, window: Window, lead: usize) -> Self {
        Engine { file, window, lead }
    }

    #[inline]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    #[inline]
    pub(super) fn window(&self) -> Window {
        self.window
    }

    #[inline]
    pub(super) fn lead(&self) -> usize {
        self.lead
    }

    /// Returns the offset in the file of a position.
    #[inline]
    pub(super) fn offset(&self, at: u64) -> u64 {
        self.window.start.saturating_add(at)
    }

    /// Returns how many of `len` bytes from `at` a file of `size` bytes has.
    #[inline]
    pub(super) fn clamp(&self, size: u64, at: u64, len: usize) -> usize {
        let left = self.window.len(size).saturating_sub(at);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// Makes an error of an operation that began at `at`.
    #[cold]
    pub(super) fn error(&self, path: Option<&Path>, at: u64, stop: OperationError) -> MapError {
        MapError::new(path, self.offset(at).saturating_add(stop.done as u64), stop)
    }

    /// Reads what is missing of `dst` after `done`, by at most `calls` calls of `pread(2)`. Where the file ends, the error is
    /// [`PastEnd`](Reason::PastEnd), which the caller explains.
    pub(super) fn read(&self, at: u64, dst: &mut [u8], mut done: usize, calls: usize) -> Result<(), OperationError> {
        for _ in 0..calls {
            if done == dst.len() {
                return Ok(());
            }
            match self.file.read_at(&mut dst[done..], self.offset(at + done as u64)) {
                Ok(0) => return Err(OperationError::new(done, Reason::PastEnd { len: 0 })),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(OperationError::io_there(done, "pread64", error)),
            }
        }
        is_whole(done, dst.len())
    }
}

/// Returns an error for a transfer that used up its calls.
fn is_whole(done: usize, len: usize) -> Result<(), OperationError> {
    if done == len { Ok(()) } else { Err(OperationError::io(done, io::Error::from_raw_os_error(libc::EINTR))) }
}

/// For maps that are written to, and those whose peer may truncate the file.
#[cfg(not(faultin_portable))]
impl Engine {
    /// Writes what is missing of `len` bytes after `done`, by at most `calls` calls of `write(file, offset, done)`. The
    /// caller has checked that the file reaches there: writing past its end would extend it.
    pub(super) fn write(
        &self,
        at: u64,
        len: usize,
        mut done: usize,
        calls: usize,
        write: impl Fn(&File, u64, usize) -> io::Result<usize>,
    ) -> Result<(), OperationError> {
        for _ in 0..calls {
            if done == len {
                return Ok(());
            }
            match without_sigxfsz(|| write(&self.file, self.offset(at + done as u64), done)) {
                Ok(0) => {
                    let error = io::Error::from_raw_os_error(libc::EIO);
                    return Err(OperationError::io_there(done, "pwrite64", error));
                }
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(OperationError::io_there(done, "pwrite64", error)),
            }
        }
        is_whole(done, len)
    }

    /// Queries the size of the file in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        Stamp::of(&self.file).map(|stamp| stamp.size)
    }

    /// Checks that the file, which had `before` bytes, has `len` bytes from `at`.
    #[inline]
    pub(super) fn reaches(&self, at: u64, len: usize, before: u64) -> Result<(), OperationError> {
        let size = self.size().map_err(|error| OperationError::io(len, error))?;
        if self.clamp(size, at, len) == len { Ok(()) } else { Err(self.shrunk(at, len, before, size)) }
    }

    /// Checks that the file has the byte that failed, after `done` bytes from `at`.
    pub(super) fn has(&self, at: u64, done: usize, before: u64) -> Result<(), OperationError> {
        let reached = self.reaches(at, done + 1, before);
        reached.map_err(|stop| OperationError { done: stop.done.min(done), ..stop })
    }

    /// Makes the error for a file of `before` bytes that has `size` now: of `done` bytes from `at`, those within it count.
    #[cold]
    pub(super) fn shrunk(&self, at: u64, done: usize, before: u64, size: u64) -> OperationError {
        let change = Change::Shrunk { from: before, to: size };
        OperationError::new(self.clamp(size, at, done), Reason::Changed(change))
    }
}
