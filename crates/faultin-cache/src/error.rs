//! What a cache answers when it cannot do all it was asked for.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use faultin::{CallError, Fault};
use rustix::io::Errno;

use crate::lock::Deadlock;

/// Ranges that a message names.
const NAMED: usize = 8;

/// Why an operation ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The caller's buffer cannot be accessed there.
    Fault(Fault),
    /// The store failed. Cloned, because several may have to be told.
    Store(Arc<io::Error>),
    /// Bytes that the store had taken, and that were no longer in memory when its sync failed, may not have reached the disk.
    /// Each sync fails until they are written again (by a write, not by a store through a mapping), or are no longer in the file.
    Lost {
        /// Where they are, in ascending order. Blocks count as a whole.
        ranges: Vec<Range<u64>>,
        /// The error of the sync.
        store: Arc<io::Error>,
    },
    /// A position or a length that no file can have: more than `i64::MAX` bytes.
    TooLarge {
        /// Where.
        pos: u64,
        /// How much.
        len: u64,
    },
    /// The file would have to grow, or to become shorter, and the store's length [cannot change](crate::store::Store::is_fixed).
    /// Nothing was done.
    FixedLength {
        /// Where.
        pos: u64,
        /// How much.
        len: u64,
        /// The length of the store.
        size: u64,
    },
    /// No memory for a folio: the limit is reached, and nothing can be taken away. The store's error, if the reason is that it
    /// does not take what is dirty. Also if a buffer that is a mapping of the same cache is not accessible for that reason.
    Full {
        /// Bytes that folios have.
        used: usize,
        /// Bytes that they may have.
        limit: usize,
        /// Why something dirty could not be written.
        store: Option<Arc<io::Error>>,
    },
    /// The kernel has no memory for folios.
    Memory(Arc<io::Error>),
    /// A lock would have been waited for for ever.
    Deadlock(Deadlock),
    /// Each of very many attempts moved nothing, although the buffer could be faulted in before each: somebody takes it away
    /// all the time. The fault of the last one.
    NoProgress(Fault),
    /// The [observer](crate::write::Observer) ended it.
    Stopped,
}

impl Error {
    /// The kernel could not be told what a mapping's pages are for.
    pub(crate) fn of_page_table(error: Errno) -> Error {
        Error::Memory(Arc::new(CallError::name("mprotect or ioctl", error.into())))
    }

    /// The errno that the kernel gives for it.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Fault(fault) | Error::NoProgress(fault) => Some(fault.errno()),
            Error::Store(error) | Error::Memory(error) | Error::Lost { store: error, .. } => errno(error),
            Error::TooLarge { .. } => Some(libc::EINVAL),
            Error::FixedLength { .. } => Some(libc::ENOSPC),
            Error::Full { store, .. } => store.as_ref().map_or(Some(libc::ENOMEM), |error| errno(error)),
            Error::Deadlock(_) => Some(libc::EDEADLK),
            Error::Stopped => Some(libc::EINTR),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Fault(fault) => fault.fmt(f),
            Error::Store(error) => write!(f, "the store failed: {error}"),
            Error::Lost { ranges, store } => {
                f.write_str("the store may have lost bytes ")?;
                for (index, Range { start, end }) in ranges.iter().take(NAMED).enumerate() {
                    write!(f, "{}{start} to {end}", if index > 0 { ", " } else { "" })?;
                }
                if let Some(more) = ranges.len().checked_sub(NAMED).filter(|&more| more > 0) {
                    write!(f, " and {more} more ranges")?;
                }
                write!(f, ", which have to be written again: its sync failed: {store}")
            }
            Error::TooLarge { pos, len } => write!(f, "{len} bytes at {pos}: a file has at most {} bytes", i64::MAX),
            Error::FixedLength { pos, len, size } => {
                write!(f, "{len} bytes at {pos}: the store has {size} bytes, and its length cannot change")
            }
            Error::Full { used, limit, store } => {
                write!(f, "{used} of {limit} bytes of folios are in use, and none can be freed")?;
                store.as_ref().map_or(Ok(()), |error| write!(f, ": the store does not take what is dirty: {error}"))
            }
            Error::Memory(error) => write!(f, "no memory for folios: {error}"),
            Error::Deadlock(deadlock) => deadlock.fmt(f),
            Error::NoProgress(fault) => write!(f, "the buffer is taken away again and again: {fault}"),
            Error::Stopped => f.write_str("stopped by the observer"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Fault(fault) | Error::NoProgress(fault) => Some(fault),
            Error::Store(error)
            | Error::Memory(error)
            | Error::Lost { store: error, .. }
            | Error::Full { store: Some(error), .. } => Some(error),
            Error::Deadlock(deadlock) => Some(deadlock),
            Error::TooLarge { .. } | Error::FixedLength { .. } | Error::Full { store: None, .. } | Error::Stopped => {
                None
            }
        }
    }
}

impl From<Deadlock> for Error {
    fn from(deadlock: Deadlock) -> Error {
        Error::Deadlock(deadlock)
    }
}

impl From<io::Error> for Error {
    /// As an error of the store.
    fn from(error: io::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        whole(error.errno(), error)
    }
}

/// Returns the kernel's number for an error, also where it has one of this crate's or [of faultin's](faultin::errno()) in it.
pub fn errno(error: &io::Error) -> Option<i32> {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        return error.errno();
    }
    if let Some(partial) = inner.and_then(|inner| inner.downcast_ref::<Partial>()) {
        return partial.error.errno();
    }
    faultin::errno(error)
}

/// An [`io::Error`] of the kind of `errno` that has all of `error` in it.
pub(crate) fn whole(errno: Option<i32>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    let kind = errno.map_or(io::ErrorKind::Other, |errno| io::Error::from_raw_os_error(errno).kind());
    io::Error::new(kind, error)
}

/// A read or write that ended early.
///
/// ```
/// use faultin_cache::{Cache, Error, store::MemoryStore};
///
/// let file = Cache::new().open(MemoryStore::new([]))?;
/// let partial = file.write_at(b"too far", u64::MAX - 3).unwrap_err();
/// assert_eq!(partial.done, 0);
/// assert!(matches!(partial.error, Error::TooLarge { .. }));
/// assert_eq!(std::io::Error::from(partial).kind(), std::io::ErrorKind::InvalidInput);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Partial {
    /// The number of bytes that were moved, from the first one on. The position of the list of segments is after them. Nothing
    /// past them was touched.
    pub done: usize,
    /// Why it ended.
    pub error: Error,
}

impl Partial {
    /// As a system call answers: the count if there is one, otherwise the error.
    ///
    /// # Errors
    /// If nothing was moved.
    pub fn syscall(self) -> Result<usize, Error> {
        if self.done > 0 { Ok(self.done) } else { Err(self.error) }
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, then: {}", self.done, self.error)
    }
}

impl std::error::Error for Partial {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Partial> for io::Error {
    fn from(partial: Partial) -> io::Error {
        whole(partial.error.errno(), partial)
    }
}
