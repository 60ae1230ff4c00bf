//! Opening and mapping a file to read.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::engine::Engine;
use super::error::{MapError, OperationError, Reason, SIZE_UNKNOWN};
use super::file::{self, FileMap};
use super::mapped::{Mapped, Rights};
use super::name::Name;
use super::options::{MapOptions, Watch};
use super::size;
use super::stamp::{self, Stamp};
use crate::errno::CallError;
use crate::stat::irregular;

impl MapOptions {
    /// Opens and maps a file to read.
    ///
    /// # Errors
    /// [`MapError`], with the reason [`Io`](Reason::Io) if it cannot be opened or mapped,
    /// [`NotAFile`](Reason::NotAFile) if it is a directory, a pipe, a socket or a device (which is not waited for),
    /// [`Unsupported`](Reason::Unsupported) if [its size is not known](super::has_known_size),
    /// [`PastEnd`](Reason::PastEnd) if it is shorter than [`offset`](Self::offset).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileMap, MapError> {
        let path = path.as_ref();
        let file = self.file(path, File::options().read(true))?;
        self.map(file, Some(Arc::new(Name::new(path))), Rights::Read)
    }

    /// Maps a file that is open for reading.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn from_file(&self, file: File) -> Result<FileMap, MapError> {
        self.map(file, None, Rights::Read)
    }

    /// Maps a file that is open for reading, with the path that messages name. [`FileMap::verify`] looks the path up, and
    /// [`FileMap::reopen`] opens it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn from_file_at(&self, file: File, path: impl AsRef<Path>) -> Result<FileMap, MapError> {
        self.map(file, Some(Arc::new(Name::new(path.as_ref()))), Rights::Read)
    }

    pub(super) fn file(&self, path: &Path, options: &mut std::fs::OpenOptions) -> Result<File, MapError> {
        // Without waiting: opening a pipe waits for the other end. Where a process holds a lease on a file, opening it
        // without waiting fails; then it is a file, and waiting is right.
        let file = match options.custom_flags(libc::O_NONBLOCK).open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => options.custom_flags(0).open(path),
            other => other,
        };
        file.map_err(|error| {
            let reason = match std::fs::metadata(path) {
                // A directory to write, a pipe without a reader, a socket: the type says more than the errno.
                Ok(metadata) if !metadata.is_file() => Reason::NotAFile(metadata.file_type()),
                _ => Reason::Io(CallError::name("open", error)),
            };
            MapError::new(Some(path), self.window().start, OperationError::new(0, reason))
        })
    }

    pub(super) fn map(&self, file: File, name: Option<Arc<Name>>, rights: Rights) -> Result<FileMap, MapError> {
        let (path, window) = (name.as_ref().map(|name| name.path()), self.window());
        let stop = |reason| MapError::new(path, window.start, OperationError::new(0, reason));
        let io = |error| stop(Reason::Io(error));
        if let Some(kind) = irregular(&file).map_err(io)? {
            return Err(stop(Reason::NotAFile(kind)));
        }
        let stamp = Stamp::of(&file).map_err(io)?;
        if !size::has_size(&file, stamp.size).map_err(io)? {
            return Err(stop(Reason::Unsupported(SIZE_UNKNOWN)));
        }
        let restless = self.watched() != Watch::Nothing && stamp::is_restless(&file, &stamp);
        let first = self.watched().observe(|| file::ask(&file, restless)).map_err(io)?;
        let size = first.stamp.size;
        if window.start > size {
            return Err(stop(Reason::PastEnd { len: size }));
        }
        let mapped = Mapped::new(self, &file, path, window, &first.stamp, rights).map_err(stop)?;
        let map = FileMap::new(Engine::new(file, window, window.lead()), name, *self, restless, mapped, first);
        self.hint(map.engine(), map.mapping(), map.len());
        Ok(map)
    }
}

impl FileMap {
    /// Opens and maps a whole file, with the errors of `read(2)` ([`Watch::Reader`]).
    ///
    /// # Errors
    /// As [`MapOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        MapOptions::new().open(path)
    }

    /// Maps a whole file that is open for reading, with the errors of `read(2)` ([`Watch::Reader`]).
    ///
    /// # Errors
    /// As [`MapOptions::open`].
    pub fn from_file(file: File) -> Result<Self, MapError> {
        MapOptions::new().from_file(file)
    }

    /// Maps a whole file that is open for reading, with the path that messages name. [`verify`](Self::verify) looks the path up,
    /// and [`reopen`](Self::reopen) opens it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # let path = file.path();
    /// use faultin::FileMap;
    ///
    /// let map = FileMap::from_file_at(std::fs::File::open(path)?, path)?;
    /// let error = map.read_exact_at(&mut [0; 4], 0).unwrap_err();
    /// assert_eq!(error.to_string(), format!("{}: at byte 0: beyond the end: the map has 0 bytes", path.display()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`MapOptions::open`].
    pub fn from_file_at(file: File, path: impl AsRef<Path>) -> Result<Self, MapError> {
        MapOptions::new().from_file_at(file, path)
    }
}

impl TryFrom<File> for FileMap {
    type Error = MapError;

    /// As [`from_file`](Self::from_file).
    fn try_from(file: File) -> Result<Self, MapError> {
        FileMap::from_file(file)
    }
}
