//! [`AttachError`]: the reason why a file cannot be mapped.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;

use faultin::{CallError, InstallError};

use super::inside::mode::Mode;
use crate::lock::Deadlock;

/// The reason why a file cannot be mapped.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// The cache's blocks are smaller than a page.
    Block {
        /// Size of a block in bytes.
        block: usize,
        /// Size of a page in bytes.
        page: usize,
    },
    /// The first byte is not at the start of a page.
    Start {
        /// The requested start.
        start: u64,
        /// Size of a page in bytes.
        page: usize,
    },
    /// The range is empty, or no file can have it.
    Range {
        /// The requested range.
        range: Range<u64>,
    },
    /// The mode is not available.
    Mode {
        /// The requested mode.
        mode: Mode,
        /// The kernel's error.
        error: io::Error,
    },
    /// The kernel has no memory, no addresses, or no descriptor.
    Memory(io::Error),
    /// The signal handler cannot be installed.
    Handler(InstallError),
    /// The pager's thread cannot be started.
    Thread(io::Error),
    /// This thread holds the file's lock.
    Deadlock(Deadlock),
}

impl AttachError {
    /// Converts the kernel's error for a mapping in this mode.
    pub(super) fn of(mode: Mode, error: io::Error) -> AttachError {
        let of_memory = |call: &CallError| matches!(call.call(), "mmap" | "madvise");
        if error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(of_memory) {
            return AttachError::Memory(error);
        }
        match faultin::errno(&error) {
            Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::EACCES) if mode != Mode::Mprotect => {
                AttachError::Mode { mode, error }
            }
            _ => AttachError::Memory(error),
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Block { block, page } => {
                write!(f, "the cache's blocks have {block} bytes, a page has {page}: use CacheOptions::block({page})")
            }
            AttachError::Start { start, page } => {
                write!(f, "a mapping begins at a page's first byte: {start} is no multiple of {page}")
            }
            AttachError::Range { range } if range.start >= range.end => {
                write!(f, "{}..{} has no bytes to map", range.start, range.end)
            }
            AttachError::Range { range } => write!(f, "{}..{} is more than can be mapped", range.start, range.end),
            AttachError::Mode { mode: Mode::Thread, error } => write!(
                f,
                "no userfaultfd for system calls ({error}): it takes Linux 6.6 and CAP_SYS_PTRACE, \
                 vm.unprivileged_userfaultfd=1 or access to /dev/userfaultfd; Mode::Signal and Mode::Mprotect take no right"
            ),
            AttachError::Mode { error, .. } => {
                write!(f, "no userfaultfd ({error}): it takes Linux 6.6; Mode::Mprotect works without")
            }
            AttachError::Memory(error) => write!(f, "no memory for a mapping: {error}"),
            AttachError::Handler(error) => write!(f, "no handler for the signals: {error}"),
            AttachError::Thread(error) => write!(f, "no thread for the pager: {error}"),
            AttachError::Deadlock(deadlock) => deadlock.fmt(f),
        }
    }
}

impl std::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AttachError::Mode { error, .. } | AttachError::Memory(error) | AttachError::Thread(error) => Some(error),
            AttachError::Handler(error) => Some(error),
            AttachError::Deadlock(deadlock) => Some(deadlock),
            AttachError::Block { .. } | AttachError::Start { .. } | AttachError::Range { .. } => None,
        }
    }
}

impl From<AttachError> for io::Error {
    fn from(error: AttachError) -> io::Error {
        let kind = match &error {
            AttachError::Block { .. } | AttachError::Start { .. } | AttachError::Range { .. } => {
                io::ErrorKind::InvalidInput
            }
            AttachError::Mode { .. } => io::ErrorKind::Unsupported,
            AttachError::Memory(error) | AttachError::Thread(error) => error.kind(),
            AttachError::Deadlock(_) => io::ErrorKind::Deadlock,
            AttachError::Handler(InstallError::Sigaction(_, error)) => error.kind(),
            AttachError::Handler(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
