//! [`MapOptions`]: how a file is mapped.

use std::io;

use super::engine::Window;
#[cfg(doc)]
use super::error::Reason;
use super::stamp::{Observation, Stamp};
#[cfg(doc)]
use crate::{FileMap, MapError};

/// What counts as a change. The [module](super#what-counts-as-a-change) has a table of the result of each mode for each
/// event.
///
/// A map knows a *stamp* of its file: device, inode, size, time of modification and change time. Operations compare it with
/// the result of `fstat(2)` after their accesses; a stamp that differs has *moved*. A stamp whose change time is within a
/// tick of the kernel's clock is *fresh*: a later change may leave the same stamp, so a fresh stamp counts as moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Watch {
    /// The errors of `read(2)`, for files that other processes may write to at any time. One system call per operation,
    /// two more after a change.
    ///
    /// A copy whose file has moved meanwhile is read again with `pread(2)`, once, and the new stamp is accepted. A file
    /// that ends before the range does is [`Shrunk`](super::Change::Shrunk), with the exact count; everything else is `Ok`.
    /// Searches repeat the part that may have moved. Only [`with_slice`](FileMap::with_slice) cannot read again.
    #[default]
    Reader,
    /// For logs: the caller asserts that existing bytes never change, and that other processes only append. One system call
    /// per operation.
    ///
    /// A file that grows is `Ok` and its bytes are not read again, also in [`with_slice`](FileMap::with_slice). A smaller
    /// one is [`Shrunk`](super::Change::Shrunk). The same size with another time of modification is
    /// [`Rewritten`](super::Change::Rewritten). An append may move the time before the size, so an operation first waits up
    /// to 50 ms for the size. It may also move the time after the size: at a size that was seen to have grown, a time that
    /// moves within two ticks of the clock belongs to the append. A file that was truncated and has grown past its previous
    /// size between two operations counts as grown.
    Appending,
    /// For hashes and backups: every byte is of one state of the file. One system call per operation.
    ///
    /// A size or a time of modification that moved is an error. A change time alone that moved is
    /// [`Touched`](super::Change::Touched): permissions, owner, links or name were changed, or the file was written to and
    /// its time of modification was set back, which looks the same. A fresh stamp waits for the end of the tick when the
    /// file is opened or [`refresh`](FileMap::refresh)ed: up to 20 ms, 2 s where the file system has whole seconds.
    Contents,
    /// Nothing: the caller knows that the file does not change. No system call. A file that changes all the same gives
    /// wrong bytes without an error, and zeros past its end in its last page; it still does not kill the process. After a
    /// fault the file is read as always; [`verify`](FileMap::verify) checks at any time.
    Nothing,
}

/// Sets how bytes get from the file to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// [`Mapped`](Self::Mapped) where mappings and the fault handler are available, otherwise [`Pread`](Self::Pread).
    ///
    /// The handler is checked when the map is opened, and at every [`refresh`](FileMap::refresh). Where another handler was
    /// installed after it (by a crash reporter, Python's faulthandler), ours is [raised](crate::signal::raise_to_top) above
    /// that. Where this is not possible, or the thread that opens the map blocks the signals, pread is used.
    #[default]
    Automatic,
    /// A mapping, and copies that may fault. On systems other than Linux there is none: opening fails with
    /// [`Handler`](Reason::Handler).
    Mapped,
    /// `pread(2)` and `pwrite(2)`: no mapping, no handler.
    Pread,
}

/// The expected order of reads, for the kernel's readahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// No expectation.
    Normal,
    /// From start to end.
    Sequential,
    /// At random positions: no readahead.
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
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the offset in the file where the map begins, in bytes; any number up to the file's size.
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Sets the maximum size of the map in bytes. It ends at the end of the file if that comes first, and then grows with
    /// the file (see [`refresh`](FileMap::refresh)) up to this size.
    pub fn length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Faults in the whole map before `open` returns (over pread, the kernel only begins to read). Pages that cannot be
    /// faulted in are reported by the access.
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// What will be read next. A hint; one that the kernel does not take is not an error. (Systems other than Linux are
    /// given none.)
    pub fn advise(mut self, advice: Advice) -> Self {
        self.advice = Some(advice);
        self
    }

    /// Asks for huge pages (`MADV_HUGEPAGE`): a hint that tmpfs and some read-only file mappings take.
    pub fn huge_pages(mut self, huge: bool) -> Self {
        self.huge_pages = huge;
        self
    }

    /// Returns what counts as a change.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// Sets how bytes get from the file to the caller.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Returns what counts as a change.
    #[inline]
    pub(super) fn watched(&self) -> Watch {
        self.watch
    }

    /// Returns the part of a file that is mapped.
    pub(super) fn window(&self) -> Window {
        Window { start: self.offset, max: self.length.unwrap_or(u64::MAX) }
    }

    /// Returns the requested backend.
    pub(super) fn asked(&self) -> Backend {
        self.backend
    }

    /// What is hinted: what will be read, whether all of it is to be brought in, and whether in huge pages.
    pub(super) fn hints(&self) -> (Option<Advice>, bool, bool) {
        (self.advice, self.populate, self.huge_pages)
    }
}

impl Watch {
    /// Queries a stamp as the baseline, and waits until it is settled if the mode needs that.
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
