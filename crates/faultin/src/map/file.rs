//! [`FileMap`]: reading a mapped file.

use core::num::NonZeroUsize;
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
use super::error::{Change, MapError, Reason, Stop};
use super::layers;
use super::mapping::{CopyIn, Mapping, Rights, Space};
use super::name::Name;
use super::nowait;
use super::options::{self, Backend, MapOptions, Watch, Window};
use super::reader::MapReader;
use super::record::{Baseline, Record};
use super::size;
use super::stamp::{Freshness, Observation, Stamp};
use crate::copy::copy_in;
use crate::fault::Short;
use crate::scalar::Scalar;
use crate::{blocked, fault_in, signal_free};

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
    /// Bytes of the mapping before the window.
    lead: usize,
    watch: Watch,
    /// Whether the file has another change time at every question, so that it says nothing.
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
            len => Err(self.error(at, Stop::new(len, Reason::PastEnd { len: self.len() }))),
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
    /// as of 6.18); otherwise as `read_at`.
    pub fn read_at_nowait(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        nowait::read(&self.file, &mut dst[..len], self.window.start.saturating_add(at))
            .map_err(|stop| self.ended(&known, at, stop))
            .and_then(|()| match self.watch {
                // The kernel has copied them.
                Watch::Nothing | Watch::Reader => Ok(()),
                // A server would have to be waited for.
                Watch::Appending | Watch::Contents => {
                    self.compare(&known, at, len, self.normal(Stamp::with(&self.file, Freshness::Cached))).map(|_| ())
                }
            })
            .map_err(|stop| self.error(at, stop))?;
        Ok(len)
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
            // What is there of it is not half a value.
            return Err(self.error(at, Stop::new(0, Reason::PastEnd { len: self.window.len(known.size) })));
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
            // Bytes are copied instead, which also finds out why.
            Some(Err(fault)) => self.load_slowly(at, |bytes| self.explain(&known, at, bytes, Short { done: 0, fault })),
            None => self.load_slowly(at, |bytes| self.copy_from_file(&known, at, bytes)),
        }
    }

    #[cold]
    fn load_slowly<T: Scalar>(&self, at: u64, copy: impl FnOnce(&mut [u8]) -> Result<(), Stop>) -> Result<T, MapError> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        copy(bytes).map_err(|stop| self.error(at, Stop { done: 0, ..stop }))?;
        Ok(T::from_bytes(bytes))
    }

    /// The bytes of a range, one after the other, in pieces that fit the CPU's first cache: copies of them, which do
    /// not change any more. Faster than reading the file into a buffer. A range that ends behind the map ends with it.
    pub fn chunks(&self, range: impl RangeBounds<u64>) -> Chunks<'_> {
        Chunks::new(self, range)
    }

    /// A reader from the start of the map: [`Read`](std::io::Read), [`Seek`](std::io::Seek) and
    /// [`BufRead`](std::io::BufRead).
    pub fn reader(&self) -> MapReader<&FileMap> {
        MapReader::new(self)
    }

    /// A reader from the start of the map that owns it: to return it, or to move it to another thread. A reader of an
    /// `Arc<FileMap>` is made by [`MapReader::new`].
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

    /// Bytes in the map: those of its window that the file had when it was mapped or last [`refresh`](Self::refresh)ed.
    /// Nothing else changes it.
    #[inline]
    pub fn len(&self) -> u64 {
        self.window.len(self.known().size)
    }

    /// Returns whether the map has no bytes. As [`len`](Self::len), it changes by [`refresh`](Self::refresh) only.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in the file now.
    ///
    /// # Errors
    /// [`Io`](Reason::Io), if it cannot be asked.
    pub fn file_len(&self) -> Result<u64, MapError> {
        self.now().map(|stamp| stamp.size).map_err(|error| self.error(0, Stop::io(0, error)))
    }

    /// Returns the position up to which the file has bytes now, to follow a file that grows. (The kernel raises the size of a file
    /// after the bytes of an append are there.) [`refresh`](Self::refresh) makes them readable.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed) if the file is shorter than it was.
    pub fn valid_up_to(&self) -> Result<u64, MapError> {
        let known = self.known();
        let now = self.now().map_err(|error| self.error(0, Stop::io(0, error)))?;
        let valid = self.window.len(now.size);
        if now.size < known.size {
            let change = Change::Shrunk { from: known.size, to: now.size };
            return Err(self.error(valid, Stop::new(0, Reason::Changed(change))));
        }
        Ok(valid)
    }

    /// Accepts the file as it is now, and returns what changed since it was mapped or last refreshed, `None` if nothing did.
    /// From here on this is what operations compare with, and how far they reach. A server is asked if the file is on a
    /// network.
    ///
    /// It is the same file: where its name leads to by now is not asked. [`reopen`](Self::reopen) follows the name.
    /// Operations of other threads that are under way go on as they are. Nothing is unmapped.
    ///
    /// On overlayfs another file may stand behind the mapping by then: a file of a lower layer is copied when it is opened
    /// for writing. So a file that has changed is opened and mapped again there. After the eighth time the map goes on over
    /// [pread](Backend::Pread), which always reads what the file has; so it does where the file cannot be opened.
    ///
    /// A map of [`Backend::Automatic`] also makes sure that its faults are still recovered, as when it was opened. It goes
    /// on over pread where they are not, and where there are no addresses for what the file has grown to.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be asked, or there are no addresses for what it has grown to; the map is
    /// as before. [`Changed`](Reason::Changed) with [`Replaced`](Change::Replaced) where another mapping would be needed
    /// and is not to be had, and [`Backend::Mapped`] was asked for: until it is, the map reads the file.
    /// [`Unsupported`](Reason::Unsupported) if [its size is not known](super::has_known_size) any more.
    pub fn refresh(&self) -> Result<Option<Change>, MapError> {
        let lock = self.record.lock();
        let before = self.record.base().stamp;
        let fresh = || -> Result<Observation, Stop> {
            let io = |error| Stop::io(0, error);
            let now = self.watch.observe(|| self.synchronised()).map_err(io)?;
            if now.stamp.size == 0 && !size::has_size(&self.file, 0).map_err(io)? {
                return Err(Stop::new(0, Reason::Unsupported(size::UNKNOWN)));
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

    /// Makes the space fit a file that was `before` and is `now`.
    fn renew(&self, space: &Space, before: &Stamp, now: &Stamp) -> Result<(), Stop> {
        if self.options.asked() == Backend::Automatic && !options::faults_reach_us() {
            space.close();
            return Ok(());
        }
        let too_large = || Stop::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
        let needed = self.window.needed(now.size).ok_or_else(too_large)?;
        let wanted = self.window.wanted(needed);
        if !self.may_move || now.is_as(before) {
            return match space.grow(&self.file, needed, wanted) {
                Err(_) if self.options.asked() == Backend::Automatic => {
                    space.close();
                    Ok(())
                }
                grown => grown.map_err(|refused| Stop::new(0, refused.into())),
            };
        }
        // What stands behind the mapping may be another file by now. `now` was asked for first.
        let wanted = if self.watch == Watch::Appending { wanted } else { needed };
        let again = if space.is_replaceable() { layers::reopen(&self.file, self.path(), now).ok() } else { None };
        let replaced = again.is_some_and(|again| space.replace(again, needed, wanted).is_ok());
        if !replaced {
            // Reading the descriptor gives what is there now.
            space.close();
            if self.options.asked() == Backend::Mapped {
                return Err(Stop::new(0, Reason::Changed(Change::Replaced)));
            }
        }
        Ok(())
    }

    /// Returns `Ok` if the file is the one that was mapped or last [`refresh`](Self::refresh)ed, has not changed since, and its
    /// name still leads to it: by the rules of [`Watch::Contents`], whatever the map watches. A server is asked if the file
    /// is on a network. The name is looked up in the directory that it lay in when the map was opened.
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
    /// What operations have accepted since is a change all the same. Of a file that was changed within a tick of the clock
    /// before it was mapped, a further change within that tick is not seen (see [`watches`](Self::watches)), unless the map
    /// is of [`Watch::Contents`], which has waited.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed): a size or a time of modification that moved comes first, then a name that leads to
    /// another file ([`Replaced`](Change::Replaced)) or to none ([`Deleted`](Change::Deleted)), then a change time that
    /// moved ([`Touched`](Change::Touched)). [`Io`](Reason::Io) if the file cannot be asked.
    pub fn verify(&self) -> Result<(), MapError> {
        let base = self.record.base();
        let now = self.synchronised().map_err(|error| self.error(0, Stop::io(0, error)))?;
        let change = match now.change_since(&base.stamp) {
            None | Some(Change::Touched) => {
                let name = self.name.as_ref().and_then(|name| name.change_from(&now));
                name.or_else(|| now.change_since(&base.stamp))
            }
            change => change,
        };
        match change {
            None => Ok(()),
            Some(change) => Err(self.error(0, Stop::new(0, Reason::Changed(change)))),
        }
    }

    /// Opens the file that the name leads to now, in the directory that it lay in when this map was opened, and maps it
    /// with the same [options](MapOptions), to read: for a log that was rotated.
    ///
    /// # Errors
    /// As [`MapOptions::open`]; [`Unsupported`](Reason::Unsupported) if this map was made of a file without a name.
    pub fn reopen(&self) -> Result<FileMap, MapError> {
        let Some(name) = &self.name else {
            return Err(self.error(0, Stop::new(0, Reason::Unsupported("opening it by a name that is not known"))));
        };
        let file = name.open().map_err(|error| self.error(0, Stop::io(0, error)))?;
        self.options.map(file, Some(Arc::clone(name)), Rights::Read)
    }

    /// What operations really look for. The change time is left out where the file system gives another one at every
    /// question, as some FUSE servers do.
    pub fn watches(&self) -> Coverage {
        let looks = self.watch != Watch::Nothing;
        Coverage {
            mode: self.watch,
            size: looks,
            modified: looks,
            changed: matches!(self.watch, Watch::Reader | Watch::Contents) && !self.restless,
            settled: looks && self.watch != Watch::Appending && self.record.base().settled,
            tick: super::stamp::tick(),
        }
    }

    /// Which of [`Backend::Mapped`] and [`Backend::Pread`] it is.
    pub fn backend(&self) -> Backend {
        if self.mapping().is_some() { Backend::Mapped } else { Backend::Pread }
    }

    /// The path the file was opened by, if it was.
    pub fn path(&self) -> Option<&Path> {
        self.name.as_ref().map(|name| name.path())
    }

    /// The file.
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

/// What a map [watches](FileMap::watches).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// The mode it is in.
    pub mode: Watch,
    /// Whether each operation looks at the size of the file.
    pub size: bool,
    /// Whether it looks at the time of modification (`st_mtime`).
    pub modified: bool,
    /// Whether it looks at the change time (`st_ctime`), which the kernel moves when the time of modification was set back,
    /// too.
    pub changed: bool,
    /// Whether every change since the file was mapped or last refreshed has moved its stamp. Otherwise it was changed less
    /// than a tick before, and a further change within that tick cannot be seen.
    pub settled: bool,
    /// The tick of the clock that the kernel takes the times of files from.
    pub tick: Duration,
}

/// The stamp of a file.
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

/// What the parts of this module share.
impl FileMap {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn assemble(
        file: File,
        name: Option<Arc<Name>>,
        options: MapOptions,
        window: Window,
        restless: bool,
        may_move: bool,
        (space, _unmapped): (Option<Space>, Option<File>),
        first: Observation,
    ) -> Self {
        let (lead, watch, record) = (window.lead(), options.watched(), Record::new(first));
        FileMap { file, name, options, window, lead, watch, restless, may_move, space, _unmapped, record }
    }

    /// The newest mapping, `None` over pread.
    #[inline]
    pub(super) fn mapping(&self) -> Option<&Mapping> {
        self.space.as_ref().and_then(Space::newest)
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

    /// What an operation that begins now goes by.
    #[inline]
    pub(super) fn known(&self) -> Baseline {
        self.record.get()
    }

    /// What a part of an operation goes by that began with `before`: contents are those of then, to the end.
    #[inline]
    pub(super) fn known_since(&self, before: &Baseline) -> Baseline {
        match self.watch {
            Watch::Contents | Watch::Nothing => *before,
            Watch::Reader | Watch::Appending => Baseline { size: before.size, ..self.known() },
        }
    }

    /// How many of `len` bytes from `at` the map has.
    #[inline]
    pub(super) fn clamp(&self, known: &Baseline, at: u64, len: usize) -> usize {
        self.clamp_to(known.size, at, len)
    }

    /// The same of a file of `size` bytes.
    #[inline]
    pub(super) fn clamp_to(&self, size: u64, at: u64, len: usize) -> usize {
        let left = self.window.len(size).saturating_sub(at);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// An error of an operation that began at `at`.
    #[cold]
    pub(super) fn error(&self, at: u64, stop: Stop) -> MapError {
        let offset = self.window.start.saturating_add(at).saturating_add(stop.done as u64);
        MapError::new(self.path(), offset, stop)
    }

    /// The file's stamp.
    #[inline]
    pub(super) fn now(&self) -> io::Result<Stamp> {
        ask(&self.file, self.restless)
    }

    /// The same as the server has it.
    fn synchronised(&self) -> io::Result<Stamp> {
        self.normal(Stamp::with(&self.file, Freshness::Server))
    }

    fn normal(&self, stamp: io::Result<Stamp>) -> io::Result<Stamp> {
        normal(self.restless, stamp)
    }

    /// The file's stamp, and whether it is fresh.
    pub(super) fn observe(&self) -> Result<Observation, Stop> {
        Observation::of(|| self.now()).map_err(|error| Stop::io(0, error))
    }

    /// From here on operations compare with this. Not where the mapping is no longer the file that was observed: there,
    /// everything is read from the file until the map is [refreshed](Self::refresh).
    pub(super) fn accept(&self, known: &Baseline, now: &Observation) {
        if self.may_move && !now.stamp.is_as(&known.last.stamp) {
            return;
        }
        let size = now.stamp.size;
        // Of a log that grows, the longest is accepted: what is shorter later was truncated.
        self.record.accept(now, |last| self.watch == Watch::Appending && last.stamp.size > size);
    }

    /// Copies bytes of the map and asks the file.
    #[inline]
    pub(super) fn copy(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), Stop> {
        let Some(mapping) = self.mapping() else { return self.copy_from_file(known, at, dst) };
        self.prepare();
        match self.fetch(mapping, copy_in, at, dst) {
            Ok(()) => self.confirm(known, at, dst),
            Err(short) => self.explain(known, at, dst, short),
        }
    }

    /// Copies bytes of the mapping.
    #[inline(always)]
    pub(super) fn fetch(&self, mapping: &Mapping, copy_in: CopyIn, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        // (An empty range may begin anywhere.)
        if dst.is_empty() { Ok(()) } else { mapping.read_by(copy_in, self.lead + at as usize, dst) }
    }

    /// Reads bytes from the file, which has errors of its own.
    pub(super) fn copy_from_file(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), Stop> {
        self.pread(known, at, dst, 0)?;
        match self.watch {
            Watch::Reader | Watch::Nothing => Ok(()),
            Watch::Appending | Watch::Contents => self.ask(known, at, dst.len()).map(|_| ()),
        }
    }

    /// Reads what is missing of `dst` behind `done` from the file.
    pub(super) fn pread(&self, known: &Baseline, at: u64, dst: &mut [u8], mut done: usize) -> Result<(), Stop> {
        while done < dst.len() {
            match self.file.read_at(&mut dst[done..], self.window.start + at + done as u64) {
                Ok(0) => return Err(self.ended(known, at, Stop::new(done, Reason::PastEnd { len: 0 }))),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::io_there(done, "pread64", error)),
            }
        }
        Ok(())
    }

    /// Brings in what can be brought in.
    pub(super) fn populate(&self) {
        let (Some(mapping), len) = (self.mapping(), self.len()) else { return };
        let Some(len) = usize::try_from(len).ok().map(|len| len.min(mapping.len() - self.lead)) else { return };
        let mut at = 0;
        while let Some(rest) = NonZeroUsize::new(len - at) {
            let start = mapping.base().wrapping_add(self.lead + at);
            // SAFETY: within the mapping, whose invariants are `fault_in`'s preconditions.
            let faulted_in = unsafe {
                match blocked::is_fatal() {
                    true => signal_free::fault_in_readable(start, rest),
                    false => fault_in::fault_in_readable(start, rest),
                }
            };
            match faulted_in {
                Ok(brought) => at += brought.get(),
                Err(_) => return,
            }
        }
    }
}
