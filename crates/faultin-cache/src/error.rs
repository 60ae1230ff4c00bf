//! Errors of a cache.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use faultin::{CallError, Fault};
use rustix::io::Errno;

use crate::lock::Deadlock;

/// Number of ranges that a message names.
const NAMED: usize = 8;

/// The reason why an operation ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The caller's buffer cannot be accessed there.
    Fault(Fault),
    /// The store failed. Clonable, because several handles may report it.
    Store(Arc<io::Error>),
    /// Bytes that the store had taken, and that were no longer in memory when its sync failed, may not have reached the
    /// disk. Each sync fails until they are written again (by a write, not by a store through a mapping), or are no longer
    /// in the file.
    Lost {
        /// Their positions, in ascending order. Blocks count as a whole.
        ranges: Vec<Range<u64>>,
        /// The error of the sync.
        store: Arc<io::Error>,
    },
    /// A position or a length that no file can have: more than `i64::MAX` bytes.
    TooLarge {
        /// The position.
        pos: u64,
        /// The length.
        len: u64,
    },
    /// The file would have to grow or shrink, and the store's length [cannot change](crate::store::Store::is_fixed).
    /// Nothing was done.
    FixedLength {
        /// The position.
        pos: u64,
        /// The length of the operation.
        len: u64,
        /// The length of the store.
        size: u64,
    },
    /// There is no memory for a folio: the limit is reached, and nothing can be evicted. `store` is the store's error, if
    /// the reason is that it does not take dirty blocks. Also if a buffer that is a mapping of the same cache is
    /// inaccessible for that reason.
    Full {
        /// Size of all folios in bytes.
        used: usize,
        /// Limit of the size of all folios in bytes.
        limit: usize,
        /// The reason why a dirty folio could not be written.
        store: Option<Arc<io::Error>>,
    },
    /// The kernel has no memory for folios.
    Memory(Arc<io::Error>),
    /// Waiting for a lock would have been a deadlock.
    Deadlock(Deadlock),
    /// Each of very many attempts moved nothing, although the buffer could be faulted in before each: another thread evicts
    /// it repeatedly. The fault of the last attempt.
    NoProgress(Fault),
    /// The [observer](crate::write::Observer) ended the operation.
    Stopped,
    /// The operation would have had to wait for a store or a lock, and must not.
    WouldBlock,
}

impl Error {
    /// Makes the error of a failed change of a mapping's page table.
    pub(crate) fn of_page_table(error: Errno) -> Error {
        Error::Memory(Arc::new(CallError::name("mprotect or ioctl", error.into())))
    }

    /// Returns the errno that the kernel would return.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Fault(fault) | Error::NoProgress(fault) => Some(fault.errno()),
            Error::Store(error) | Error::Memory(error) | Error::Lost { store: error, .. } => errno(error),
            Error::TooLarge { .. } => Some(libc::EINVAL),
            Error::FixedLength { .. } => Some(libc::ENOSPC),
            Error::Full { store, .. } => store.as_ref().map_or(Some(libc::ENOMEM), |error| errno(error)),
            Error::Deadlock(_) => Some(libc::EDEADLK),
            Error::Stopped => Some(libc::EINTR),
            Error::WouldBlock => Some(libc::EAGAIN),
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
            Error::WouldBlock => f.write_str("not in memory, and waiting was not allowed"),
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
            Error::TooLarge { .. }
            | Error::FixedLength { .. }
            | Error::Full { store: None, .. }
            | Error::Stopped
            | Error::WouldBlock => None,
        }
    }
}

impl From<Deadlock> for Error {
    fn from(deadlock: Deadlock) -> Error {
        Error::Deadlock(deadlock)
    }
}

impl From<io::Error> for Error {
    /// Converts to an error of the store.
    fn from(error: io::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        whole(error.errno(), error)
    }
}

/// Returns the kernel's number for an error, also where it contains one of this crate's or [of faultin's](faultin::errno())
/// errors.
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

/// Makes an [`io::Error`] of the kind of `errno` that contains all of `error`.
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
    /// The number of bytes that were moved, from the first one on. The position of the list of segments is after them. No
    /// byte past them was touched.
    pub done: usize,
    /// The reason why it ended.
    pub error: Error,
}

impl Partial {
    /// Converts to the result of a system call: the count if it is not 0, otherwise the error.
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
