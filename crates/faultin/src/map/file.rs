//! [`FileMap`]: reading a mapped file.

use core::num::NonZeroUsize;
use core::ops::RangeBounds;
use core::sync::atomic::{Ordering, fence};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunks::Chunks;
use super::error::{Change, MapError, Reason, Stop, is_of_the_file};
use super::layers;
use super::mapping::{CopyIn, Mapping, Space};
use super::nowait;
use super::options::{self, Backend, MapOptions, Watch, Window};
use super::reader::MapReader;
use super::size;
use super::stamp::{Freshness, Known, Stamp};
use crate::copy::copy_in;
use crate::fault::Short;
use crate::scalar::Scalar;
use crate::{blocked, fault_in, signal_free};

/// A mapped file to read from. See the [module](super) for what its operations promise.
///
/// Positions are bytes from the start of the map, which is [`MapOptions::offset`] in the file. Threads share it by
/// reference; no operation but [`refresh`](Self::refresh) writes to anything shared.
#[derive(Debug)]
pub struct FileMap {
    file: File,
    path: Option<PathBuf>,
    window: Window,
    /// Bytes of the mapping before the window.
    lead: usize,
    watch: Watch,
    /// How it was asked for.
    asked: Backend,
    /// Whether its bytes may move away from under a mapping.
    may_move: bool,
    /// `None` if it was over pread from the start.
    space: Option<Space>,
    /// A description that could not be mapped. (Closing it would release the process's record locks on the file.)
    _unmapped: Option<File>,
    known: Known,
}

impl FileMap {
    /// Opens and maps a whole file, watched for changes.
    ///
    /// # Errors
    /// As [`MapOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        MapOptions::new().open(path)
    }

    /// Maps a whole file that is open for reading, watched for changes.
    ///
    /// # Errors
    /// As [`MapOptions::open`].
    pub fn from_file(file: File) -> Result<Self, MapError> {
        MapOptions::new().from_file(file)
    }

    /// Copies bytes from position `at`; returns how many. Fewer than `dst` has only where the map ends.
    ///
    /// # Errors
    /// [`MapError`]: [`done`](MapError::done) bytes of `dst` were copied; those behind them may have been overwritten
    /// by what is no longer the file's.
    #[inline]
    pub fn read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known.get();
        let len = self.clamp(&known, at, dst.len());
        self.prepare();
        self.fetch(&known, at, &mut dst[..len])
            .and_then(|()| self.check(&known, at, len))
            .map_err(|s| self.error(at, s))?;
        Ok(len)
    }

    /// Copies exactly `dst.len()` bytes from position `at`.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at); [`PastEnd`](Reason::PastEnd) if the map ends before.
    #[inline]
    pub fn read_exact_at(&self, dst: &mut [u8], at: u64) -> Result<(), MapError> {
        match self.read_at(dst, at)? {
            len if len == dst.len() => Ok(()),
            len => Err(self.error(at, Stop::new(len, Reason::PastEnd { len: self.mapped_len() }))),
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
        let known = self.known.get();
        let len = self.clamp(&known, at, dst.len());
        nowait::read(&self.file, &mut dst[..len], self.window.start.saturating_add(at))
            .map_err(|stop| self.ended(&known, at, stop))
            .and_then(|()| match self.watch {
                Watch::Nothing => Ok(()),
                // A server would have to be waited for.
                _ => self.compare(&known, at, len, Stamp::with(&self.file, Freshness::Cached)),
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
        let known = self.known.get();
        let len = self.clamp(&known, at, size_of::<T>());
        if len < size_of::<T>() {
            // What is there of it is not half a value.
            return Err(self.error(at, Stop::new(0, Reason::PastEnd { len: self.window.len(known.size) })));
        }
        self.prepare();
        // After a fault, and over pread, bytes are copied: that also finds out why.
        let loaded = self.mapping().and_then(|mapping| mapping.load::<T>(self.lead + at as usize).ok());
        let value = loaded.map_or_else(|| self.load_slowly(&known, at), Ok);
        value.and_then(|value| self.check(&known, at, 0).map(|()| value)).map_err(|stop| self.error(at, stop))
    }

    #[cold]
    fn load_slowly<T: Scalar>(&self, known: &Stamp, at: u64) -> Result<T, Stop> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        self.fetch(known, at, bytes).map_err(|stop| Stop { done: 0, ..stop })?;
        Ok(T::from_bytes(bytes))
    }

    /// The bytes of a range, one after the other, in pieces that fit the CPU's first cache: copies of them, which do
    /// not change any more. Faster than reading the file into a buffer. A range that ends behind the map ends with it.
    pub fn chunks(&self, range: impl RangeBounds<u64>) -> Chunks<'_> {
        Chunks::new(self, range)
    }

    /// A reader from the start of the map: [`Read`](std::io::Read), [`Seek`](std::io::Seek) and
    /// [`BufRead`](std::io::BufRead).
    pub fn reader(&self) -> MapReader<'_> {
        MapReader::new(self)
    }

    /// Bytes in the map: those of its window that the file had when it was mapped or last [`refresh`](Self::refresh)ed.
    #[inline]
    pub fn mapped_len(&self) -> u64 {
        self.window.len(self.known.get().size)
    }

    /// Bytes in the file now.
    ///
    /// # Errors
    /// [`Io`](Reason::Io), if it cannot be asked.
    pub fn file_len(&self) -> Result<u64, MapError> {
        self.now().map(|stamp| stamp.size).map_err(|stop| self.error(0, stop))
    }

    /// Up to which position the file has bytes now, for those who follow one that grows: what an appending writer has
    /// finished (the size of a file is raised after its bytes are there). [`refresh`](Self::refresh) makes them
    /// readable.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed) if the file is shorter than it was.
    pub fn valid_up_to(&self) -> Result<u64, MapError> {
        let known = self.known.get();
        let now = self.now().map_err(|stop| self.error(0, stop))?;
        let valid = self.window.len(now.size);
        if now.size < known.size {
            let change = Change::Shrunk { from: known.size, to: now.size };
            return Err(self.error(valid, Stop::new(0, Reason::Changed(change))));
        }
        Ok(valid)
    }

    /// Takes the file as it is now: what changed since it was mapped or last refreshed, `None` if nothing did. From
    /// here on this is what operations compare with, and how far they reach.
    ///
    /// Those of other threads that are under way go on as they are, and report the change. Nothing is unmapped.
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
        let lock = self.known.lock();
        let before = self.known.get();
        let fresh = || -> Result<Stamp, Stop> {
            let now = self.now()?;
            if now.size == 0 && !size::has_size(&self.file, 0).map_err(|error| Stop::io(0, error))? {
                return Err(Stop::new(0, Reason::Unsupported(size::UNKNOWN)));
            }
            if let Some(space) = &self.space {
                self.renew(space, &before, &now)?;
            }
            Ok(now)
        };
        let now = fresh().map_err(|stop| self.error(0, stop))?;
        // The mapping was published first: whoever sees the size sees addresses for it.
        self.known.set(&lock, &now);
        Ok(now.change_since(&before, self.path()))
    }

    /// Makes the space fit a file that was `before` and is `now`.
    fn renew(&self, space: &Space, before: &Stamp, now: &Stamp) -> Result<(), Stop> {
        if self.asked == Backend::Automatic && !options::faults_reach_us() {
            space.close();
            return Ok(());
        }
        let too_large = || Stop::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
        let needed = self.window.needed(now.size).ok_or_else(too_large)?;
        let wanted = self.window.wanted(needed);
        if !self.may_move || now.is_as(before) {
            return match space.grow(&self.file, needed, wanted) {
                Err(_) if self.asked == Backend::Automatic => {
                    space.close();
                    Ok(())
                }
                grown => grown.map_err(|refused| Stop::new(0, refused.into())),
            };
        }
        // What stands behind the mapping may be another file by now. `now` was asked for first.
        let wanted = if self.watch == Watch::Shrinking { wanted } else { needed };
        let again = if space.is_replaceable() { layers::reopen(&self.file, self.path(), now).ok() } else { None };
        let replaced = again.is_some_and(|again| space.replace(again, needed, wanted).is_ok());
        if !replaced {
            // Reading the descriptor gives what is there now.
            space.close();
            if self.asked == Backend::Mapped {
                return Err(Stop::new(0, Reason::Changed(Change::Replaced)));
            }
        }
        Ok(())
    }

    /// Whether the file is still the one that was mapped or last refreshed, whatever [`Watch`] says: asks the server if
    /// it is on a network, and whether the path it was opened by still leads to it.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed), or [`Io`](Reason::Io) if it cannot be asked.
    pub fn verify(&self) -> Result<(), MapError> {
        let known = self.known.get();
        let verdict = Stamp::with(&self.file, Freshness::Server).map_err(|error| Stop::io(0, error)).and_then(|now| {
            match now.change_since(&known, self.path()) {
                None => Ok(()),
                Some(change) => Err(Stop::new(0, Reason::Changed(change))),
            }
        });
        verdict.map_err(|stop| self.error(0, stop))
    }

    /// Which of [`Backend::Mapped`] and [`Backend::Pread`] it is.
    pub fn backend(&self) -> Backend {
        if self.mapping().is_some() { Backend::Mapped } else { Backend::Pread }
    }

    /// The path the file was opened by, if it was.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for FileMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the parts of this module share.
impl FileMap {
    pub(super) fn assemble(
        file: File,
        path: Option<&Path>,
        window: Window,
        (watch, asked): (Watch, Backend),
        may_move: bool,
        (space, unmapped): (Option<Space>, Option<File>),
        stamp: Stamp,
    ) -> Self {
        let (path, known) = (path.map(Path::to_owned), Known::new(stamp));
        FileMap { file, path, window, lead: window.lead(), watch, asked, may_move, space, _unmapped: unmapped, known }
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

    pub(super) fn watch(&self) -> Watch {
        self.watch
    }

    #[inline]
    pub(super) fn known(&self) -> Stamp {
        self.known.get()
    }

    /// How many of `len` bytes from `at` the map has.
    #[inline]
    pub(super) fn clamp(&self, known: &Stamp, at: u64, len: usize) -> usize {
        let left = self.window.len(known.size).saturating_sub(at);
        usize::try_from(left).map_or(len, |left| left.min(len))
    }

    /// An error of an operation that began at `at`.
    #[cold]
    pub(super) fn error(&self, at: u64, stop: Stop) -> MapError {
        let offset = self.window.start.saturating_add(at).saturating_add(stop.done as u64);
        MapError::new(self.path(), offset, stop)
    }

    pub(super) fn now(&self) -> Result<Stamp, Stop> {
        Stamp::of(&self.file).map_err(|error| Stop::io(0, error))
    }

    /// Copies bytes of the map. Does not look for changes, unless it stops.
    #[inline]
    pub(super) fn fetch(&self, known: &Stamp, at: u64, dst: &mut [u8]) -> Result<(), Stop> {
        self.fetch_by(copy_in, known, at, dst)
    }

    /// The same by one of the copies that [`copy`](mod@crate::copy) has from foreign memory.
    #[inline(always)]
    pub(super) fn fetch_by(&self, copy_in: CopyIn, known: &Stamp, at: u64, dst: &mut [u8]) -> Result<(), Stop> {
        match self.mapping() {
            Some(mapping) if !dst.is_empty() => match mapping.read_by(copy_in, self.lead + at as usize, dst) {
                Ok(()) => Ok(()),
                Err(short) => self.explain(known, at, dst, short),
            },
            Some(_) => Ok(()),
            None => self.pread(known, at, dst, 0),
        }
    }

    /// Before an access that a [`check`](Self::check) follows: with that system call, one that asks whether a fault would be
    /// fatal in this thread.
    #[inline]
    pub(super) fn prepare(&self) {
        if self.watch != Watch::Nothing && self.space.is_some() {
            blocked::ask();
        }
    }

    /// After `len` bytes from `at` were accessed: whether the file is still what it was.
    #[inline]
    pub(super) fn check(&self, known: &Stamp, at: u64, len: usize) -> Result<(), Stop> {
        match self.watch {
            Watch::Nothing => Ok(()),
            _ => {
                // The bytes first, then what the kernel says of them: also on CPUs that reorder loads.
                fence(Ordering::Acquire);
                self.compare(known, at, len, Stamp::of(&self.file))
            }
        }
    }

    #[inline]
    fn compare(&self, known: &Stamp, at: u64, len: usize, now: std::io::Result<Stamp>) -> Result<(), Stop> {
        match now {
            Ok(now) if self.is_unchanged(known, &now) => Ok(()),
            now => Err(self.changed(known, at, len, now)),
        }
    }

    #[inline]
    fn is_unchanged(&self, known: &Stamp, now: &Stamp) -> bool {
        match self.watch {
            Watch::Changes => now.is_as(known),
            Watch::Shrinking | Watch::Nothing => now.size >= known.size,
        }
    }

    /// The change that was seen after `done` bytes from `at`, of which those within the file count.
    #[cold]
    fn changed(&self, known: &Stamp, at: u64, done: usize, now: std::io::Result<Stamp>) -> Stop {
        let now = match now {
            Ok(now) => now,
            Err(error) => return Stop::io(done, error),
        };
        let within = self.clamp(&now, at, done);
        // The path may be asked a moment later, and have changed back.
        Stop::new(within, Reason::Changed(now.change_since(known, self.path()).unwrap_or(Change::Touched)))
    }

    /// A copy from the mapping came back short. Either the file has changed, or it is asked for the rest in the way
    /// that has errors: what reading it says is the reason, and if it delivers after all (it healed; or the mapping
    /// needs memory that reading does not), so do we. One attempt, so a file that changes for ever costs no more.
    #[cold]
    fn explain(&self, known: &Stamp, at: u64, dst: &mut [u8], short: Short) -> Result<(), Stop> {
        self.attribute(known, at, short)?;
        self.pread(known, at, dst, short.done).map_err(|stop| Stop { fault: Some(short.fault), ..stop })
    }

    /// Whether a fault was the file's, and the file is what it was: then reading it tells more.
    #[cold]
    pub(super) fn attribute(&self, known: &Stamp, at: u64, short: Short) -> Result<(), Stop> {
        let Short { done, fault } = short;
        let with_fault = |stop: Stop| Stop { fault: Some(fault), ..stop };
        if !is_of_the_file(&fault) {
            return Err(with_fault(Stop::new(done, Reason::Fault(fault))));
        }
        match Stamp::of(&self.file) {
            Ok(now) if self.is_unchanged(known, &now) => Ok(()),
            now => Err(with_fault(self.changed(known, at, done, now))),
        }
    }

    /// Reads what is missing of `dst` behind `done` from the file.
    pub(super) fn pread(&self, known: &Stamp, at: u64, dst: &mut [u8], mut done: usize) -> Result<(), Stop> {
        while done < dst.len() {
            match self.file.read_at(&mut dst[done..], self.window.start + at + done as u64) {
                Ok(0) => return Err(self.ended(known, at, Stop::new(done, Reason::PastEnd { len: 0 }))),
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::io(done, error)),
            }
        }
        Ok(())
    }

    /// A read of the file ended before the known size: it was shorter at that moment, whatever it is now.
    #[cold]
    fn ended(&self, known: &Stamp, at: u64, stop: Stop) -> Stop {
        if !matches!(stop.reason, Reason::PastEnd { .. }) {
            return stop;
        }
        match Stamp::of(&self.file) {
            Ok(now) if self.is_unchanged(known, &now) => {
                let to = self.window.start + at + stop.done as u64;
                Stop::new(stop.done, Reason::Changed(Change::Shrunk { from: known.size, to }))
            }
            now => self.changed(known, at, stop.done, now),
        }
    }

    /// Brings in what can be brought in.
    pub(super) fn populate(&self) {
        let (Some(mapping), len) = (self.mapping(), self.mapped_len()) else { return };
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
