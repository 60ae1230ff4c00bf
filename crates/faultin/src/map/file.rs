//! [`FileMap`]: reading a mapped file.

use core::ops::RangeBounds;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::chunks::Chunks;
use super::error::{Change, MapError, OperationError, Reason};
use super::hints;
use super::mapped::{Mapped, Mapping, Rights, Space};
use super::name::Name;
use super::nowait;
use super::options::{Backend, MapOptions, Watch, Window};
use super::range::within;
use super::reader::MapReader;
use super::record::{Baseline, Record};
use super::size;
use super::stamp::{Freshness, Observation, Stamp};
use super::state::tick;
use crate::fault::Short;
use crate::residency::Residency;
use crate::scalar::Scalar;

/// A mapped file to read from. See the [module](super) for what its operations promise.
///
/// Positions are bytes from the start of the map, which is [`MapOptions::offset`] in the file. Threads share it by
/// reference.
#[derive(Debug)]
pub struct FileMap {
    file: File,
    name: Option<Arc<Name>>,
    options: MapOptions,
    window: Window,
    /// Number of bytes of the mapping before the window.
    lead: usize,
    watch: Watch,
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

    /// Copies bytes from position `at` to `dst`. Returns their number, which is less than `dst.len()` only where the map ends.
    ///
    /// # Errors
    /// [`MapError`] if a byte cannot be read, or the file has changed in a way that the map's [mode](Watch) watches for.
    /// [`done`](MapError::done) bytes of `dst` were copied. Those past them may have been overwritten by bytes that are no longer
    /// the file's.
    #[inline]
    pub fn read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        self.copy(&known, at, &mut dst[..len]).map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// Copies exactly `dst.len()` bytes from position `at`.
    ///
    /// # Errors
    /// [`MapError`] if a byte cannot be read, or the file has changed, as [`read_at`](Self::read_at);
    /// [`PastEnd`](Reason::PastEnd) if the map ends before the range does.
    #[inline]
    pub fn read_exact_at(&self, dst: &mut [u8], at: u64) -> Result<(), MapError> {
        match self.read_at(dst, at)? {
            len if len == dst.len() => Ok(()),
            len => Err(self.error(at, OperationError::new(len, Reason::PastEnd { len: self.len() }))),
        }
    }

    /// As [`read_at`](Self::read_at), of bytes that are in memory already: waits for no disk and no server.
    ///
    /// It asks the kernel to copy (`preadv2(2)` with `RWF_NOWAIT`), because whether a page is in memory cannot be asked
    /// first and relied on afterwards. The kernel promises not to wait for data, and for locks only where it must;
    /// whether it has started to read what it did not have is up to the file system.
    ///
    /// # Errors
    /// [`NotResident`](Reason::NotResident) at the first byte that is not in memory;
    /// [`Unsupported`](Reason::Unsupported) on a file system that cannot promise it (tmpfs, FUSE, and the network ones,
    /// as of 6.18), and on systems other than Linux; otherwise as `read_at`.
    pub fn try_read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        nowait::read(&self.file, &mut dst[..len], self.window.start.saturating_add(at))
            .map_err(|stop| self.ended(&known, at, stop))
            .and_then(|()| match self.watch {
                // The kernel has copied them.
                Watch::Nothing | Watch::Reader => Ok(()),
                // It would have to wait for a server.
                Watch::Appending | Watch::Contents => {
                    self.compare(&known, at, len, self.normal(Stamp::with(&self.file, Freshness::Cached))).map(|_| ())
                }
            })
            .map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// Returns which bytes of a range of the map are in memory, in the kernel's page cache: a snapshot, which does not bring
    /// anything in. It says nothing about what [`read_at`](Self::read_at) waits for otherwise: a page that is in memory may
    /// still have to be mapped, which takes a fault but no disk.
    ///
    /// On Linux it asks `mincore(2)`, which only tells the owner of a file, and those that may write it; to others it answers
    /// that everything is in memory (since 5.2). They are told by `cachestat(2)`, from 6.5 on; from 6.16 on the kernel
    /// refuses that, too. Then, and on other systems, this is an error, and not a wrong answer. Pages that were replaced by
    /// zeros for a [slice](Self::with_slice) count as in memory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [7; 5000])?;
    /// let map = faultin::FileMap::open(file.path())?;
    /// if let Ok(found) = map.resident(1000..) {
    ///     assert_eq!(found.range(), 1000..5000);
    ///     println!("{} of 4000 bytes are in memory", found.bytes());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](Reason::Unsupported) if the kernel does not tell.
    pub fn resident(&self, range: impl RangeBounds<u64>) -> Result<Residency, MapError> {
        let range = within(range, self.len());
        let start = self.window.start;
        let unknown = || self.error(range.start, OperationError::new(0, Reason::Unsupported(hints::UNKNOWN)));
        if range.is_empty() {
            return Ok(Residency::new(range));
        }
        let mapped = self.mapping().map(|mapping| mapping.base().wrapping_add(self.lead + range.start as usize));
        let found = hints::resident(&self.file, start + range.start..start + range.end, mapped);
        let found = found.ok_or_else(unknown)?;
        let mut within_map = Residency::new(range);
        found.runs().iter().for_each(|run| within_map.add(run.start - start..run.end - start));
        Ok(within_map)
    }

    /// Loads the value at position `at`, in this machine's byte order: over a mapping, one load of its bytes.
    ///
    /// # Errors
    /// As [`read_exact_at`](Self::read_exact_at).
    #[inline]
    pub fn load<T: Scalar>(&self, at: u64) -> Result<T, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, size_of::<T>());
        if len < size_of::<T>() {
            // A part of the value is past the end, and half a value is none.
            return Err(self.error(at, OperationError::new(0, Reason::PastEnd { len: self.window.len(known.size) })));
        }
        let loaded = self.mapping().map(|mapping| {
            self.prepare();
            mapping.load::<T>(self.lead + at as usize)
        });
        match loaded {
            Some(Ok(value)) => match self.ask(&known, at, len) {
                Ok(Answer::Unmoved) => Ok(value),
                asked => self.load_slowly(at, |bytes| match asked {
                    Ok(_) => self.read_again(&known, at, bytes),
                    Err(stop) => Err(stop),
                }),
            },
            // Bytes are copied instead, which also determines the reason.
            Some(Err(fault)) => self.load_slowly(at, |bytes| self.explain(&known, at, bytes, Short { done: 0, fault })),
            None => self.load_slowly(at, |bytes| self.copy_from_file(&known, at, bytes)),
        }
    }

    #[cold]
    fn load_slowly<T: Scalar>(
        &self,
        at: u64,
        copy: impl FnOnce(&mut [u8]) -> Result<(), OperationError>,
    ) -> Result<T, MapError> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        copy(bytes).map_err(|stop| self.error(at, OperationError { done: 0, ..stop }))?;
        Ok(T::from_bytes(bytes))
    }

    /// Returns the bytes of a range in order, in pieces that fit the CPU's L1 cache: copies, which do not change any more.
    /// Faster than reading the file into a buffer. A range that ends past the map ends with it.
    pub fn chunks(&self, range: impl RangeBounds<u64>) -> Chunks<'_> {
        Chunks::new(self, range)
    }

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

    /// Returns the size of the map in bytes: of its window, the part that the file had when it was mapped or last
    /// [`refresh`](Self::refresh)ed. Nothing else changes it.
    #[inline]
    pub fn len(&self) -> u64 {
        self.window.len(self.known().size)
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
        let valid = self.window.len(now.size);
        if now.size < known.size {
            let change = Change::Shrunk { from: known.size, to: now.size };
            return Err(self.error(valid, OperationError::new(0, Reason::Changed(change))));
        }
        Ok(valid)
    }

    /// Accepts the current state of the file, and returns what changed since it was mapped or last refreshed, `None` if
    /// nothing did. From now on operations compare with this state, and reach to its end. On a network file system this
    /// queries the server.
    ///
    /// The file stays the same: its name is not looked up. [`reopen`](Self::reopen) follows the name. Operations of other
    /// threads that are under way continue unchanged. Nothing is unmapped.
    ///
    /// On overlayfs the mapping may show another file by then: a file of a lower layer is copied when it is opened for
    /// writing. So a file that has changed is opened and mapped again there. After the eighth time the map continues over
    /// [pread](Backend::Pread), which always reads the file's bytes; so it does where the file cannot be opened.
    ///
    /// A map of [`Backend::Automatic`] also makes sure that its faults are still recovered, as when it was opened. It
    /// continues over pread where they are not, and where there are no addresses for the file's new size.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be queried, or there are no addresses for its new size; the map is unchanged.
    /// [`Changed`](Reason::Changed) with [`Replaced`](Change::Replaced) where another mapping is needed and not available,
    /// and [`Backend::Mapped`] was requested: until it is available, the map reads the file.
    /// [`Unsupported`](Reason::Unsupported) if [its size is not known](super::has_known_size) any more.
    pub fn refresh(&self) -> Result<Option<Change>, MapError> {
        let lock = self.record.lock();
        let before = self.record.base().stamp;
        let fresh = || -> Result<Observation, OperationError> {
            let io = |error| OperationError::io(0, error);
            let now = self.watch.observe(|| self.synchronised()).map_err(io)?;
            if now.stamp.size == 0 && !size::has_size(&self.file, 0).map_err(io)? {
                return Err(OperationError::new(0, Reason::Unsupported(size::UNKNOWN)));
            }
            if let Some(space) = &self.space {
                self.renew(space, &before, &now.stamp)?;
            }
            Ok(now)
        };
        let now = fresh().map_err(|stop| self.error(0, stop))?;
        // The mapping was published first: a thread that sees the size sees addresses for it.
        self.record.set(&lock, &now);
        Ok(now.stamp.change_since(&before))
    }

    /// Returns `Ok` if the file is the one that was mapped or last [`refresh`](Self::refresh)ed, has not changed since, and
    /// its name still leads to it: by the rules of [`Watch::Contents`], whatever the map watches. On a network file system
    /// this queries the server. The name is looked up in the directory that contained it when the map was opened.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("log");
    /// # std::fs::write(&path, "old\n")?;
    /// use faultin::{FileMap, map::Change};
    ///
    /// let map = FileMap::open(&path)?;
    /// map.verify()?;
    /// // The log is rotated.
    /// std::fs::rename(&path, path.with_extension("1"))?;
    /// std::fs::write(&path, "new\n")?;
    /// assert_eq!(map.verify().unwrap_err().change(), Some(Change::Replaced));
    /// assert_eq!(map.find(b"old", ..)?, Some(0)); // the map keeps the file that it has
    /// assert_eq!(map.reopen()?.find(b"new", ..)?, Some(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A change that operations have accepted meanwhile is still a change. If a file was changed within a tick of the clock
    /// before it was mapped, a further change within that tick is not detected (see [`watches`](Self::watches)), unless the
    /// map is of [`Watch::Contents`], which has waited.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed): a size or a time of modification that moved comes first, then a name that leads to
    /// another file ([`Replaced`](Change::Replaced)) or to none ([`Deleted`](Change::Deleted)), then a change time that
    /// moved ([`Touched`](Change::Touched)). [`Io`](Reason::Io) if the file cannot be queried.
    pub fn verify(&self) -> Result<(), MapError> {
        let base = self.record.base();
        let now = self.synchronised().map_err(|error| self.error(0, OperationError::io(0, error)))?;
        let change = match now.change_since(&base.stamp) {
            None | Some(Change::Touched) => {
                let name = self.name.as_ref().and_then(|name| name.change_from(&now));
                name.or_else(|| now.change_since(&base.stamp))
            }
            change => change,
        };
        match change {
            None => Ok(()),
            Some(change) => Err(self.error(0, OperationError::new(0, Reason::Changed(change)))),
        }
    }

    /// Opens the file that the name leads to now, in the directory that contained it when this map was opened, and maps it
    /// with the same [options](MapOptions), to read: for a log that was rotated.
    ///
    /// # Errors
    /// As [`MapOptions::open`]; [`Unsupported`](Reason::Unsupported) if this map was made of a file without a name.
    pub fn reopen(&self) -> Result<FileMap, MapError> {
        let Some(name) = &self.name else {
            return Err(
                self.error(0, OperationError::new(0, Reason::Unsupported("opening it by a name that is not known")))
            );
        };
        let file = name.open().map_err(|error| self.error(0, OperationError::io(0, error)))?;
        self.options.map(file, Some(Arc::clone(name)), Rights::Read)
    }

    /// Returns what operations really check. The change time is left out where the file system returns a different one at
    /// every query, as some FUSE servers do.
    pub fn watches(&self) -> Coverage {
        let looks = self.watch != Watch::Nothing;
        Coverage {
            mode: self.watch,
            size: looks,
            modified: looks,
            changed: matches!(self.watch, Watch::Reader | Watch::Contents) && !self.restless,
            settled: looks && self.watch != Watch::Appending && self.record.base().settled,
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
        &self.file
    }
}

impl TryFrom<File> for FileMap {
    type Error = MapError;

    /// As [`from_file`](Self::from_file).
    fn try_from(file: File) -> Result<Self, MapError> {
        FileMap::from_file(file)
    }
}

impl AsRef<FileMap> for FileMap {
    fn as_ref(&self) -> &FileMap {
        self
    }
}

impl AsFd for FileMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
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
    pub(super) fn assemble(
        file: File,
        name: Option<Arc<Name>>,
        options: MapOptions,
        window: Window,
        restless: bool,
        mapped: Mapped,
        first: Observation,
    ) -> Self {
        let Mapped { space, may_move, unmapped: _unmapped } = mapped;
        let (lead, watch, record) = (window.lead(), options.watched(), Record::new(first));
        FileMap { file, name, options, window, lead, watch, restless, may_move, space, _unmapped, record }
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
        self.window
    }

    pub(super) fn lead(&self) -> usize {
        self.lead
    }

    #[inline]
    pub(super) fn watch(&self) -> Watch {
        self.watch
    }

    /// Returns the baseline of an operation that begins now.
    #[inline]
    pub(super) fn known(&self) -> Baseline {
        self.record.get()
    }

    /// Returns the baseline of a part of an operation that began with `before`: its contents are those of then, to the end.
    #[inline]
    pub(super) fn known_since(&self, before: &Baseline) -> Baseline {
        match self.watch {
            Watch::Contents | Watch::Nothing => *before,
            Watch::Reader | Watch::Appending => Baseline { size: before.size, ..self.known() },
        }
    }

    /// Returns how many of `len` bytes from `at` the map has.
    #[inline]
    pub(super) fn clamp(&self, known: &Baseline, at: u64, len: usize) -> usize {
        self.clamp_to(known.size, at, len)
    }

    /// Returns the same for a file of `size` bytes.
    #[inline]
    pub(super) fn clamp_to(&self, size: u64, at: u64, len: usize) -> usize {
        let left = self.window.len(size).saturating_sub(at);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// Makes an error of an operation that began at `at`.
    #[cold]
    pub(super) fn error(&self, at: u64, stop: OperationError) -> MapError {
        let offset = self.window.start.saturating_add(at).saturating_add(stop.done as u64);
        MapError::new(self.path(), offset, stop)
    }

    /// Queries the file's stamp.
    #[inline]
    pub(super) fn now(&self) -> io::Result<Stamp> {
        ask(&self.file, self.restless)
    }

    /// Queries the stamp, synchronised with the server.
    fn synchronised(&self) -> io::Result<Stamp> {
        self.normal(Stamp::with(&self.file, Freshness::Server))
    }

    fn normal(&self, stamp: io::Result<Stamp>) -> io::Result<Stamp> {
        normal(self.restless, stamp)
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
        self.record.accept(now, |last| self.watch == Watch::Appending && last.stamp.size > size);
    }

    /// Copies bytes of the map and checks the file.
    #[inline]
    pub(super) fn copy(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        let Some(mapping) = self.mapping() else { return self.copy_from_file(known, at, dst) };
        self.prepare();
        match self.fetch(mapping, at, dst) {
            Ok(()) => self.confirm(known, at, dst),
            Err(short) => self.explain(known, at, dst, short),
        }
    }

    /// Copies bytes of the mapping.
    #[inline(always)]
    pub(super) fn fetch(&self, mapping: &Mapping, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        // (An empty range may begin anywhere.)
        if dst.is_empty() { Ok(()) } else { mapping.read(self.lead + at as usize, dst) }
    }

    /// As [`fetch`](Self::fetch), for bytes that are read one after the other.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, mapping: &Mapping, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        if dst.is_empty() { Ok(()) } else { mapping.read_ahead(self.lead + at as usize, dst) }
    }

    /// Reads bytes from the file, which has its own errors.
    pub(super) fn copy_from_file(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        self.pread(known, at, dst, 0)?;
        match self.watch {
            Watch::Reader | Watch::Nothing => Ok(()),
            Watch::Appending | Watch::Contents => self.ask(known, at, dst.len()).map(|_| ()),
        }
    }

    /// Reads from the file what is missing of `dst` after `done`.
    pub(super) fn pread(
        &self,
        known: &Baseline,
        at: u64,
        dst: &mut [u8],
        mut done: usize,
    ) -> Result<(), OperationError> {
        while done < dst.len() {
            match self.file.read_at(&mut dst[done..], self.window.start + at + done as u64) {
                Ok(0) => return Err(self.ended(known, at, OperationError::new(done, Reason::PastEnd { len: 0 }))),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(OperationError::io_there(done, "pread64", error)),
            }
        }
        Ok(())
    }
}
