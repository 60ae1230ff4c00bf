//! [`MapError`]: the error of an operation on a mapped file that did not do everything.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::errno::{self, CallError};
use crate::fault::{Cause, Fault};
use crate::registry::InstallError;

/// What is unsupported of a file without a known size.
pub(crate) const SIZE_UNKNOWN: &str = "its size is not known, read it as a stream";

/// A change of a file since it was mapped, or since the last [`refresh`](super::FileMap::refresh): of several, the most
/// specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is shorter: it was truncated. The bytes past its end are lost, also if it grows again.
    Shrunk {
        /// Size of the file in bytes when it was mapped.
        from: u64,
        /// Size of the file in bytes when the change was detected.
        to: u64,
    },
    /// It is longer.
    Grown {
        /// Size of the file in bytes when it was mapped.
        from: u64,
        /// Size of the file in bytes when the change was detected.
        to: u64,
    },
    /// The same size, but its data were written (or it was truncated and has grown again).
    Rewritten,
    /// The path that it was opened by leads to another file now: a file was renamed over it.
    Replaced,
    /// Its name was removed.
    Deleted,
    /// Its change time moved, and nothing else: permissions, owner or links were changed, or its data were written and
    /// the time of modification was set back.
    Touched,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Shrunk { from, to } => write!(f, "the file was truncated from {from} to {to} bytes"),
            Change::Grown { from, to } => write!(f, "the file grew from {from} to {to} bytes"),
            Change::Rewritten => f.write_str("the file was rewritten"),
            Change::Replaced => f.write_str("another file took its place"),
            Change::Deleted => f.write_str("the file was deleted"),
            Change::Touched => f.write_str("the file's attributes or data were changed"),
        }
    }
}

/// The reason why an operation on a mapped file stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The file has changed. Bytes that were read may be old, new, or any mixture.
    Changed(Change),
    /// The file cannot be read, written or queried: the kernel's error, with [the name of the call](crate::CallError) if
    /// that was rejected as a whole. After a fault, this is the error of reading the same bytes from the file.
    Io(io::Error),
    /// No space is allocated there, and none can be: the file system is full, or the quota is used up.
    NoSpace,
    /// The range extends past the end of the map, which has this many bytes.
    PastEnd {
        /// Size of the map in bytes, from its start.
        len: u64,
    },
    /// A line is longer than the limit of [`Lines`](super::Lines). It begins at the error's [`offset`](MapError::offset).
    LineTooLong {
        /// Maximum number of bytes of a line.
        limit: usize,
    },
    /// The operation would have had to wait, and must not.
    NotResident,
    /// The memory failed for a reason other than the file.
    Fault(Fault),
    /// Only regular files can be mapped; this is something else.
    NotAFile(std::fs::FileType),
    /// The handler cannot be installed, and [`Backend::Mapped`](super::Backend::Mapped) was requested.
    Handler(InstallError),
    /// This file or its file system has no such operation. A file that cannot be mapped because [its size is not
    /// known](super::has_known_size) is one of these.
    Unsupported(&'static str),
}

/// The error of an operation on a mapped file that did not do everything: the number of bytes done, the file, the position at which
/// it stopped, and the reason.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(file.path(), [7; 5000])?;
/// # let path = file.path();
/// use faultin::{FileMap, MapError, map::Reason};
///
/// let map = FileMap::open(path)?;
/// let error = map.read_exact_at(&mut [0; 64], 4990).unwrap_err();
/// assert!(matches!(error.reason(), Reason::PastEnd { len: 5000 }));
/// assert_eq!((error.done(), error.path()), (10, Some(path)));
///
/// // With `?`, it becomes an `io::Error` that has all of it.
/// let error = std::io::Error::from(error);
/// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
/// assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>()).map(MapError::done), Some(10));
/// # Ok(())
/// # }
/// ```
///
/// [`get_ref`](io::Error::get_ref) leads from the [`io::Error`] back to this error.
pub struct MapError {
    // On the heap: results stay small, and errors are rare.
    inner: Box<Inner>,
}

struct Inner {
    path: Option<PathBuf>,
    offset: u64,
    /// Whether the error is at `offset`.
    is_there: bool,
    done: usize,
    reason: Reason,
    fault: Option<Fault>,
}

impl MapError {
    #[cold]
    pub(super) fn new(path: Option<&Path>, offset: u64, stop: OperationError) -> Self {
        let OperationError { done, reason, fault, is_there } = stop;
        let is_there = match reason {
            // Concerns the file as a whole, or has no position in it.
            Reason::Changed(_) | Reason::NotAFile(_) | Reason::Handler(_) | Reason::Unsupported(_) => false,
            Reason::PastEnd { .. } | Reason::LineTooLong { .. } | Reason::NotResident | Reason::Fault(_) => true,
            Reason::Io(_) | Reason::NoSpace => is_there || fault.is_some(),
        };
        MapError { inner: Box::new(Inner { path: path.map(Path::to_owned), offset, is_there, done, reason, fault }) }
    }

    /// Returns the reason why the operation stopped.
    pub fn reason(&self) -> &Reason {
        &self.inner.reason
    }

    /// Returns the number of bytes done, from the start of the range. They are the file's. After
    /// [`Changed`](Reason::Changed) they are within its present size, but may be of different moments.
    pub fn done(&self) -> usize {
        self.inner.done
    }

    /// Returns the position *in the file* of the first byte that was not done.
    pub fn offset(&self) -> u64 {
        self.inner.offset
    }

    /// Returns the path that the file was opened by, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// Returns the fault that stopped the operation, if one did: over a mapping; reads and writes of the file have none.
    pub fn fault(&self) -> Option<Fault> {
        self.inner.fault
    }

    /// The change that was detected, if that is the reason.
    pub fn change(&self) -> Option<Change> {
        match self.inner.reason {
            Reason::Changed(change) => Some(change),
            _ => None,
        }
    }

    /// Returns whether the bytes can be read sequentially, but not mapped: a pipe, a socket, a character device, or a file
    /// whose [size is not known](super::has_known_size). [`FileReader`](super::FileReader) reads them.
    pub fn is_stream(&self) -> bool {
        match self.inner.reason {
            Reason::NotAFile(kind) => !kind.is_dir(),
            Reason::Unsupported(what) => what == SIZE_UNKNOWN,
            _ => false,
        }
    }

    /// Returns the kernel's error number: `ESTALE` for a file that changed, `ENOSPC` without space, `EMSGSIZE` for a line
    /// past the limit, `EAGAIN` where it would have had to wait, `EISDIR` or `ESPIPE` for something other than a regular
    /// file, otherwise the kernel's own. `None` past the end, for which the kernel has no error.
    pub fn errno(&self) -> Option<i32> {
        match &self.inner.reason {
            Reason::Changed(_) => Some(libc::ESTALE),
            Reason::Io(error) => Some(errno::errno(error).unwrap_or(libc::EIO)),
            Reason::NoSpace => Some(libc::ENOSPC),
            Reason::PastEnd { .. } => None,
            Reason::LineTooLong { .. } => Some(libc::EMSGSIZE),
            Reason::NotResident => Some(libc::EAGAIN),
            Reason::Fault(fault) => Some(fault.errno()),
            Reason::NotAFile(kind) if kind.is_dir() => Some(libc::EISDIR),
            Reason::NotAFile(_) => Some(libc::ESPIPE),
            Reason::Handler(_) => Some(libc::ENOSYS),
            Reason::Unsupported(_) => Some(libc::EOPNOTSUPP),
        }
    }

    /// Converts to an [`io::Error`] of the kind that [`errno`](Self::errno) has, with all of this error in it, as `?` does
    /// where an `io::Error` is expected. Its `get_ref` is this value, its `raw_os_error` is `None`;
    /// [`faultin::errno`](crate::errno()) returns the number.
    pub fn into_io(self) -> io::Error {
        io::Error::new(self.kind(), self)
    }

    /// Returns the kind of [`errno`](Self::errno); [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) past the end.
    pub fn kind(&self) -> io::ErrorKind {
        self.errno().map_or(io::ErrorKind::UnexpectedEof, |errno| io::Error::from_raw_os_error(errno).kind())
    }
}

impl From<MapError> for io::Error {
    fn from(error: MapError) -> Self {
        error.into_io()
    }
}

impl fmt::Debug for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, offset, done, reason, fault, .. } = &*self.inner;
        f.debug_struct("MapError")
            .field("path", path)
            .field("offset", offset)
            .field("done", done)
            .field("reason", reason)
            .field("fault", fault)
            .finish()
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, offset, is_there, reason, .. } = &*self.inner;
        match path {
            Some(path) => write!(f, "{}: ", path.display())?,
            None => f.write_str("mapped file: ")?,
        }
        if *is_there {
            write!(f, "at byte {offset}: ")?;
        }
        match reason {
            Reason::Changed(change) => change.fmt(f),
            Reason::Io(error) => error.fmt(f),
            Reason::NoSpace => f.write_str("no space left for it"),
            Reason::PastEnd { len } => write!(f, "beyond the end: the map has {len} bytes"),
            Reason::LineTooLong { limit } => write!(f, "a line begins that has more than {limit} bytes, the limit"),
            Reason::NotResident => f.write_str("not in memory, and waiting was not allowed"),
            Reason::Fault(fault) => fault.fmt(f),
            Reason::NotAFile(kind) if kind.is_dir() => f.write_str("is a directory; only regular files can be mapped"),
            Reason::NotAFile(_) => f.write_str("not a regular file; read it as a stream instead"),
            Reason::Handler(error) => write!(f, "{error}; Backend::Automatic would have used pread"),
            Reason::Unsupported(SIZE_UNKNOWN) => write!(f, "unsupported: {SIZE_UNKNOWN}"),
            Reason::Unsupported(what) => write!(f, "{what} is not supported for this file"),
        }
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.reason {
            Reason::Io(error) => Some(error),
            Reason::Fault(fault) => Some(fault),
            Reason::Handler(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns whether a fault means that the file behind the memory failed: then querying the file tells more.
pub(super) fn is_of_the_file(fault: &Fault) -> bool {
    matches!(fault.cause(), Cause::Backing | Cause::Poison { .. } | Cause::Other)
}

/// The reason why an operation stopped, before its position in the file is known.
#[derive(Debug)]
pub(super) struct OperationError {
    pub done: usize,
    pub reason: Reason,
    pub fault: Option<Fault>,
    /// Whether the first byte that was not done could not be read or written.
    pub is_there: bool,
}

impl OperationError {
    #[cold]
    pub(super) fn new(done: usize, reason: Reason) -> Self {
        OperationError { done, reason, fault: None, is_there: false }
    }

    /// Makes the stop of a fault at the first byte that was not done.
    #[cold]
    pub(super) fn faulted(done: usize, reason: Reason, fault: Fault) -> Self {
        OperationError { fault: Some(fault), ..OperationError::new(done, reason) }
    }

    /// Makes the stop of a failed call to read or write the file, at the first byte that was not done.
    #[cold]
    pub(super) fn io_there(done: usize, call: &'static str, error: io::Error) -> Self {
        OperationError { is_there: true, ..OperationError::io(done, CallError::name(call, error)) }
    }

    #[cold]
    pub(super) fn io(done: usize, error: io::Error) -> Self {
        let reason = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Reason::NoSpace,
            Some(libc::EAGAIN) => Reason::NotResident,
            _ => Reason::Io(error),
        };
        OperationError::new(done, reason)
    }
}
