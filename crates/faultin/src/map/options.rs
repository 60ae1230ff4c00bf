//! How a file is mapped: [`MapOptions`].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::error::{MapError, Reason, Stop};
use super::file::{self, FileMap};
use super::layers;
use super::mapping::{Mapping, Refused, Rights, Space};
use super::name::Name;
use super::size;
use super::stamp::{self, Observation, Stamp};
use super::write::FileMapMut;
use crate::errno::CallError;
use crate::signal::{self, Reached};
use crate::stat::irregular;

/// What counts as a change. The [module](super#what-counts-as-a-change) has a table of what each mode says to each event.
///
/// A map knows a *stamp* of its file: device, inode, size, time of modification and change time. Operations compare it with
/// what `fstat(2)` says after their accesses; a stamp that differs has *moved*. A stamp whose change time lies within a
/// tick of the kernel's clock is *fresh*: a later change may leave the same stamp, so a fresh stamp counts as moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watch {
    /// The errors of `read(2)`, for files that other processes may write to at any time. One system call per operation,
    /// two more after a change.
    ///
    /// A copy whose file has moved meanwhile is read again with `pread(2)`, once, and the new stamp is accepted. A file
    /// that ends before the range does is [`Shrunk`](super::Change::Shrunk), with the exact count; everything else is `Ok`.
    /// Searches look again through what may have moved. Only [`with_slice`](FileMap::with_slice) cannot read again.
    #[default]
    Reader,
    /// For logs: the caller asserts that bytes which are there never change, and that others only append. One system call
    /// per operation.
    ///
    /// A file that grows is `Ok` and its bytes are not read again, also in [`with_slice`](FileMap::with_slice). A smaller
    /// one is [`Shrunk`](super::Change::Shrunk). The same size with another time of modification is
    /// [`Rewritten`](super::Change::Rewritten); the kernel moves the time before the size, so an operation waits up to
    /// 50 ms for the size first. A file that was truncated and has grown beyond its size between two operations has grown.
    /// It may also move the time after the size: at a size that was seen to have grown, a time that moves within two ticks of
    /// the clock is the append's.
    Appending,
    /// For hashes and backups: every byte is of one state of the file. One system call per operation.
    ///
    /// A size or a time of modification that moved is an error. A change time alone that moved is
    /// [`Touched`](super::Change::Touched): permissions, owner, links or name were changed, or the file was written to and
    /// its time of modification was set back, which looks the same. A fresh stamp waits for the end of the tick when the
    /// file is opened or [`refresh`](FileMap::refresh)ed: up to 20 ms, 2 s where the file system has whole seconds.
    Contents,
    /// Nothing: the caller knows that the file stays as it is. No system call. A file that changes all the same gives
    /// wrong bytes without an error, and zeros after its end in its last page; it still does not kill. What faulted is
    /// read from the file as always; [`verify`](FileMap::verify) asks at any time.
    Nothing,
}

/// How bytes get from the file to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// [`Mapped`](Self::Mapped) where mappings and the fault handler are to be had, otherwise [`Pread`](Self::Pread).
    ///
    /// The handler is asked for when the map is opened, and at every [`refresh`](FileMap::refresh). Where another one was
    /// installed after it (by a crash reporter, Python's faulthandler), it is [raised](crate::signal::raise_to_top) above that;
    /// where that cannot be, or the thread that opens the map blocks the signals, it is pread.
    #[default]
    Automatic,
    /// A mapping, and copies that may fault.
    Mapped,
    /// `pread(2)` and `pwrite(2)`: no mapping, no handler.
    Pread,
}

/// What will be read next, for the kernel's read-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing special.
    Normal,
    /// From start to end.
    Sequential,
    /// Here and there: no read-ahead.
    Random,
    /// All of it, soon.
    WillNeed,
}

/// How to map a file. The default: all of it, with the errors of `read(2)` ([`Watch::Reader`]).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # let path = file.path();
/// # std::fs::write(path, [7; 5000])?;
/// use faultin::{map::Advice, MapOptions};
///
/// let map = MapOptions::new().offset(1000).length(2000).advise(Advice::Random).open(path)?;
/// assert_eq!(map.len(), 2000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct MapOptions {
    offset: u64,
    length: Option<u64>,
    populate: bool,
    huge_pages: bool,
    advice: Option<Advice>,
    watch: Watch,
    backend: Backend,
}

impl MapOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where in the file the map begins, in bytes; any number. At most the file's size.
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// How many bytes the map has at most. It ends at the end of the file if that comes first, and then grows with it
    /// (see [`refresh`](FileMap::refresh)) up to this length.
    pub fn length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Brings all of it into memory before `open` returns (over pread, the kernel only begins to). What cannot be brought
    /// in is reported by the access.
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// What will be read next. A hint; one that the kernel does not take is not an error.
    pub fn advise(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }

    /// Asks for huge pages (`MADV_HUGEPAGE`): a hint that tmpfs and some read-only file mappings take.
    pub fn huge_pages(mut self, huge: bool) -> Self {
        self.huge_pages = huge;
        self
    }

    /// What counts as a change.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// How bytes get from the file to the caller.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

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
    /// As [`open`](Self::open).
    pub fn from_file(&self, file: File) -> Result<FileMap, MapError> {
        self.map(file, None, Rights::Read)
    }

    /// Maps a file that is open for reading, with the path that messages name. [`FileMap::verify`] looks the path up, and
    /// [`FileMap::reopen`] opens it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file_at(&self, file: File, path: impl AsRef<Path>) -> Result<FileMap, MapError> {
        self.map(file, Some(Arc::new(Name::new(path.as_ref()))), Rights::Read)
    }

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
        let watch = if self.watch == Watch::Nothing { Watch::Nothing } else { Watch::Reader };
        self.watch(watch)
    }

    fn file(&self, path: &Path, options: &mut std::fs::OpenOptions) -> Result<File, MapError> {
        // Without waiting: a pipe's open waits for the other end. Where somebody holds a lease on a file, opening it
        // without waiting fails; then it is a file, and waiting is right.
        let file = match options.custom_flags(libc::O_NONBLOCK).open(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => options.custom_flags(0).open(path),
            other => other,
        };
        file.map_err(|error| {
            let reason = match std::fs::metadata(path) {
                // A directory to write, a pipe without a reader, a socket: what it is says more than the errno.
                Ok(metadata) if !metadata.is_file() => Reason::NotAFile(metadata.file_type()),
                _ => Reason::Io(CallError::name("open", error)),
            };
            MapError::new(Some(path), self.offset, Stop::new(0, reason))
        })
    }

    pub(super) fn map(&self, file: File, name: Option<Arc<Name>>, rights: Rights) -> Result<FileMap, MapError> {
        let path = name.as_ref().map(|name| name.path());
        let stop = |reason| MapError::new(path, self.offset, Stop::new(0, reason));
        let io = |error| stop(Reason::Io(error));
        if let Some(kind) = irregular(&file).map_err(io)? {
            return Err(stop(Reason::NotAFile(kind)));
        }
        let stamp = Stamp::of(&file).map_err(io)?;
        if !size::has_size(&file, stamp.size).map_err(io)? {
            return Err(stop(Reason::Unsupported(size::UNKNOWN)));
        }
        let restless = self.watch != Watch::Nothing && stamp::is_restless(&file, &stamp);
        let first = self.watch.observe(|| file::ask(&file, restless)).map_err(io)?;
        let size = first.stamp.size;
        if self.offset > size {
            return Err(stop(Reason::PastEnd { len: size }));
        }
        let window = Window { start: self.offset, max: self.length.unwrap_or(u64::MAX) };
        let may_move = rights == Rights::Read && layers::may_move(&file);
        let mut unmapped = None;
        let mapped = || {
            // After the file was asked: what becomes of it from here on is a change.
            let again = || layers::reopen(&file, path, &first.stamp);
            let own = may_move.then(again).transpose().map_err(Refused::Mmap)?;
            match (window.map(own.as_ref().unwrap_or(&file), size, self.watch, rights), own) {
                (Ok(mapping), Some(own)) => Ok(Space::new(mapping.keeping(own))),
                (mapping, own) => {
                    unmapped = own;
                    mapping.map(Space::new)
                }
            }
        };
        let space = self.backend.choose(&file, rights, mapped).map_err(stop)?;
        let map = FileMap::assemble(file, name, *self, window, restless, may_move, (space, unmapped), first);
        self.hint(&map);
        Ok(map)
    }

    /// What counts as a change.
    pub(super) fn watched(&self) -> Watch {
        self.watch
    }

    /// How it was asked for.
    pub(super) fn asked(&self) -> Backend {
        self.backend
    }

    fn hint(&self, map: &FileMap) {
        match map.mapping() {
            Some(mapping) => {
                if self.huge_pages {
                    mapping.advise(libc::MADV_HUGEPAGE);
                }
                if let Some(advice) = self.advice {
                    mapping.advise(match advice {
                        Advice::Normal => libc::MADV_NORMAL,
                        Advice::Sequential => libc::MADV_SEQUENTIAL,
                        Advice::Random => libc::MADV_RANDOM,
                        Advice::WillNeed => libc::MADV_WILLNEED,
                    });
                }
                if self.populate {
                    map.populate();
                }
            }
            None => {
                let advice = match self.advice {
                    Some(Advice::Sequential) => libc::POSIX_FADV_SEQUENTIAL,
                    Some(Advice::Random) => libc::POSIX_FADV_RANDOM,
                    Some(Advice::WillNeed) => libc::POSIX_FADV_WILLNEED,
                    Some(Advice::Normal) | None => libc::POSIX_FADV_NORMAL,
                };
                let start = libc::off_t::try_from(self.offset).unwrap_or(libc::off_t::MAX);
                let len = self.length.and_then(|len| libc::off_t::try_from(len).ok()).unwrap_or(0);
                let ask = |advice| {
                    // SAFETY: a hint about a descriptor we own.
                    unsafe { libc::posix_fadvise(map.file().as_raw_fd(), start, len, advice) }
                };
                if self.advice.is_some() {
                    ask(advice);
                }
                if self.populate {
                    ask(libc::POSIX_FADV_WILLNEED);
                }
            }
        }
    }
}

impl Watch {
    /// Asks for a stamp to go by, and waits until it is worth what the mode needs.
    pub(super) fn observe(self, ask: impl Fn() -> io::Result<Stamp>) -> io::Result<Observation> {
        let first = Observation::of(&ask)?;
        match self {
            Watch::Contents => first.settle(ask, |_| true),
            Watch::Reader => Ok(first),
            // Where bytes are not read again, it makes no difference.
            Watch::Appending | Watch::Nothing => Ok(Observation { settled: true, ..first }),
        }
    }
}

impl Backend {
    /// The mapping that is to be had of `file`, or `None` over pread.
    pub(super) fn choose<M>(
        self,
        file: &File,
        rights: Rights,
        map: impl FnOnce() -> Result<M, Refused>,
    ) -> Result<Option<M>, Reason> {
        let mapped = match self {
            Backend::Pread => None,
            // The kernel would do the copying, and it does it better from the file.
            Backend::Automatic if !crate::arch::HAS_TABLE || !faults_are_recovered() => None,
            Backend::Automatic => map().ok(),
            Backend::Mapped => Some(map()?),
        };
        if rights == Rights::ReadWrite && mapped.is_none() && is_appending(file) {
            return Err(Reason::Unsupported(APPENDING));
        }
        Ok(mapped)
    }
}

/// Whether a fault in this thread would come to us, as far as can be told. See [`faults_reach_us`].
fn faults_are_recovered() -> bool {
    faults_reach_us() && signal::blocked() == [false; 2]
}

/// Whether the handler has both signals, or the host has said that it passes them on. A handler that was installed after
/// ours, which may keep to itself what it does not know, is stood upon; so are the default action and "ignore". All of
/// them still get what is not ours.
pub(super) fn faults_reach_us() -> bool {
    let reached = || {
        let status = signal::status();
        [status.segv, status.bus].iter().all(|reached| matches!(reached, Reached::Directly | Reached::ByHost))
    };
    crate::install().is_ok() && (reached() || signal::raise_to_top().is_ok() && reached())
}

/// What cannot be done then.
pub(super) const APPENDING: &str = "writing at a position over pread, when it is open for appending,";

/// Whether every write goes to the end of the file, wherever `pwrite(2)` is told to put it.
pub(super) fn is_appending(file: &File) -> bool {
    // SAFETY: asks for the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_APPEND != 0
}

/// Which part of a file a map is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Where in the file it begins.
    pub start: u64,
    /// How many bytes it has at most.
    pub max: u64,
}

/// Bytes that a map of a growing file reserves at least.
const RESERVE: usize = 64 << 20;

impl Window {
    /// Bytes of it that a file of this size has.
    #[inline]
    pub(super) fn len(&self, size: u64) -> u64 {
        size.saturating_sub(self.start).min(self.max)
    }

    /// Bytes between the start of the mapping, which is a page's, and the start of the window.
    #[inline]
    pub(super) fn lead(&self) -> usize {
        (self.start % crate::page_size() as u64) as usize
    }

    /// Bytes of mapping that a file of this size needs; `None` if no address space has them.
    pub(super) fn needed(&self, size: u64) -> Option<usize> {
        usize::try_from(self.len(size)).ok()?.checked_add(self.lead())
    }

    /// Bytes of mapping to ask for, so that the file can grow.
    pub(super) fn wanted(&self, needed: usize) -> usize {
        let most = usize::try_from(self.max).unwrap_or(usize::MAX).saturating_add(self.lead());
        needed.saturating_mul(2).max(RESERVE).min(most).max(needed)
    }

    fn map(&self, file: &File, size: u64, watch: Watch, rights: Rights) -> Result<Mapping, Refused> {
        let too_large = || Refused::Mmap(io::Error::from_raw_os_error(libc::ENOMEM));
        let needed = self.needed(size).ok_or_else(too_large)?;
        let offset = self.start - self.lead() as u64;
        let exact = |len| Mapping::new(file, offset, len, rights);
        match watch == Watch::Appending || rights == Rights::ReadWrite {
            true => exact(self.wanted(needed)).or_else(|_| exact(needed)),
            false => exact(needed),
        }
    }
}
