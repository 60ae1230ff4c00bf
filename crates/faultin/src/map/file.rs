//! [`FileMap`]: a mapped file, and its state. Its operations are in files of their own: [`open`](super::open),
//! [`read`](super::read), [`follow`](super::follow) and others; what they have in common is [`answer`](super::answer).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Window};
use super::error::{Change, MapError, OperationError, Reason};
use super::mapped::{Mapped, Mapping, Space};
use super::name::Name;
use super::options::{Backend, MapOptions, Watch};
use super::record::{Baseline, Record};
use super::stamp::{Freshness, Observation, Stamp};
use super::state::tick;

/// A mapped file to read from. See the [module](super) for what its operations promise.
///
/// Positions are bytes from the start of the map, which is [`MapOptions::offset`] in the file. Threads share it by
/// reference.
#[derive(Debug)]
pub struct FileMap {
    engine: Engine,
    name: Option<Arc<Name>>,
    options: MapOptions,
    /// Whether the file has a different change time at every query, so that it is meaningless.
    restless: bool,
    /// Whether its bytes may move away from under a mapping.
    may_move: bool,
    /// `None` if it was over pread from the start.
    space: Option<Space>,
    /// A description that could not be mapped. (Closing it would release the process's record locks on the file.)
    _unmapped: Option<File>,
    record: Record,
}

impl FileMap {
    /// Returns the size of the map in bytes: of its window, the part that the file had when it was mapped or last
    /// [`refresh`](Self::refresh)ed. Nothing else changes it.
    #[inline]
    pub fn len(&self) -> u64 {
        self.window().len(self.known().size)
    }

    /// Returns whether the map has no bytes. As [`len`](Self::len), it changes by [`refresh`](Self::refresh) only.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the file now, in bytes.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if it cannot be queried.
    pub fn file_len(&self) -> Result<u64, MapError> {
        self.now().map(|stamp| stamp.size).map_err(|error| self.error(0, OperationError::io(0, error)))
    }

    /// Returns the position up to which the file has bytes now, to follow a file that grows. (The kernel raises the size of a file
    /// after the bytes of an append are there.) [`refresh`](Self::refresh) makes them readable.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed) if the file is shorter than it was.
    pub fn valid_up_to(&self) -> Result<u64, MapError> {
        let known = self.known();
        let now = self.now().map_err(|error| self.error(0, OperationError::io(0, error)))?;
        let valid = self.window().len(now.size);
        if now.size < known.size {
            let change = Change::Shrunk { from: known.size, to: now.size };
            return Err(self.error(valid, OperationError::new(0, Reason::Changed(change))));
        }
        Ok(valid)
    }

    /// Returns what operations really check. The change time is left out where the file system returns a different one at
    /// every query, as some FUSE servers do.
    pub fn watches(&self) -> Coverage {
        let looks = self.watch() != Watch::Nothing;
        Coverage {
            mode: self.watch(),
            size: looks,
            modified: looks,
            changed: matches!(self.watch(), Watch::Reader | Watch::Contents) && !self.restless,
            settled: looks && self.watch() != Watch::Appending && self.record.base().settled,
            tick: tick(),
        }
    }

    /// Returns [`Backend::Mapped`] or [`Backend::Pread`].
    pub fn backend(&self) -> Backend {
        if self.mapping().is_some() { Backend::Mapped } else { Backend::Pread }
    }

    /// Returns the path that the file was opened by, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.name.as_ref().map(|name| name.path())
    }

    /// Returns the file.
    pub fn file(&self) -> &File {
        self.engine.file()
    }
}

impl AsRef<FileMap> for FileMap {
    fn as_ref(&self) -> &FileMap {
        self
    }
}

impl AsFd for FileMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

/// The properties that a map [watches](FileMap::watches).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// The mode of the map.
    pub mode: Watch,
    /// Whether each operation checks the size of the file.
    pub size: bool,
    /// Whether each operation checks the time of modification (`st_mtime`).
    pub modified: bool,
    /// Whether each operation checks the change time (`st_ctime`), which the kernel also moves when the time of
    /// modification was set back.
    pub changed: bool,
    /// Whether every change since the file was mapped or last refreshed has moved its stamp. Otherwise it was changed less
    /// than a tick before, and a further change within that tick cannot be detected.
    pub settled: bool,
    /// The tick of the clock that the kernel takes the times of files from.
    pub tick: Duration,
}

/// Queries the stamp of a file.
#[inline]
pub(super) fn ask(file: &File, restless: bool) -> io::Result<Stamp> {
    normal(restless, Stamp::of(file))
}

#[inline]
fn normal(restless: bool, stamp: io::Result<Stamp>) -> io::Result<Stamp> {
    match stamp {
        Ok(stamp) if restless => Ok(stamp.without_change_time()),
        stamp => stamp,
    }
}

/// Functions that the parts of this module share.
impl FileMap {
    pub(super) fn new(
        engine: Engine,
        name: Option<Arc<Name>>,
        options: MapOptions,
        restless: bool,
        mapped: Mapped,
        first: Observation,
    ) -> Self {
        let Mapped { space, may_move, unmapped: _unmapped } = mapped;
        FileMap { engine, name, options, restless, may_move, space, _unmapped, record: Record::new(first) }
    }

    #[inline]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn name(&self) -> Option<&Arc<Name>> {
        self.name.as_ref()
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the newest mapping, `None` over pread.
    #[inline]
    pub(super) fn mapping(&self) -> Option<&Mapping> {
        self.space.as_ref().and_then(Space::newest)
    }

    /// Returns the requested backend.
    pub(super) fn options(&self) -> &MapOptions {
        &self.options
    }

    /// Whether its bytes may move away from under a mapping.
    pub(super) fn may_move(&self) -> bool {
        self.may_move
    }

    pub(super) fn space(&self) -> Option<&Space> {
        self.space.as_ref()
    }

    pub(super) fn window(&self) -> Window {
        self.engine.window()
    }

    #[inline]
    pub(super) fn lead(&self) -> usize {
        self.engine.lead()
    }

    #[inline]
    pub(super) fn watch(&self) -> Watch {
        self.options.watched()
    }

    /// Returns the baseline of an operation that begins now.
    #[inline]
    pub(super) fn known(&self) -> Baseline {
        self.record.get()
    }

    /// Returns the baseline of a part of an operation that began with `before`: its contents are those of then, to the end.
    #[inline]
    pub(super) fn known_since(&self, before: &Baseline) -> Baseline {
        match self.watch() {
            Watch::Contents | Watch::Nothing => *before,
            Watch::Reader | Watch::Appending => Baseline { size: before.size, ..self.known() },
        }
    }

    /// Returns how many of `len` bytes from `at` the map has.
    #[inline]
    pub(super) fn clamp(&self, known: &Baseline, at: u64, len: usize) -> usize {
        self.engine.clamp(known.size, at, len)
    }

    /// Makes an error of an operation that began at `at`.
    #[cold]
    pub(super) fn error(&self, at: u64, stop: OperationError) -> MapError {
        self.engine.error(self.path(), at, stop)
    }

    /// Queries the file's stamp.
    #[inline]
    pub(super) fn now(&self) -> io::Result<Stamp> {
        ask(self.file(), self.restless)
    }

    /// Queries the stamp, with the server or without waiting for it.
    pub(super) fn now_as(&self, freshness: Freshness) -> io::Result<Stamp> {
        normal(self.restless, Stamp::with(self.file(), freshness))
    }

    /// Queries the file's stamp, and whether it is fresh.
    pub(super) fn observe(&self) -> Result<Observation, OperationError> {
        Observation::of(|| self.now()).map_err(|error| OperationError::io(0, error))
    }

    /// Makes operations compare with `now` from here on. Not where the mapping is no longer the file that was observed:
    /// there, everything is read from the file until the map is [refreshed](Self::refresh).
    pub(super) fn accept(&self, known: &Baseline, now: &Observation) {
        if self.may_move && !now.stamp.is_as(&known.last.stamp) {
            return;
        }
        let size = now.stamp.size;
        // Of a log that grows, the longest state is accepted: a shorter one later means that it was truncated.
        self.record.accept(now, |last| self.watch() == Watch::Appending && last.stamp.size > size);
    }
}
