//! Numbers of the kernel's in an [`io::Error`]: [`errno`], and [`CallError`], which says of which call one is.

use core::fmt;
use std::io;

use crate::MapError;
use crate::fault::{Fault, Short};
use crate::iov::{ImportError, OutsideIov};
use crate::map::shared::ring::RingError;
use crate::registry::InstallError;
use crate::signal_free::ProcessError;
use crate::structs::StructError;

/// Returns the kernel's number for an error, also where the error has one of this crate's in it: those convert to an
/// [`io::Error`] as a whole, so [`raw_os_error`](io::Error::raw_os_error) has nothing to say of them.
///
/// ```
/// let short = faultin::Short { done: 3, fault: faultin::Fault::refused(faultin::Access::Read, faultin::Cause::Unmapped, 0) };
/// let error = std::io::Error::from(short);
/// assert_eq!((error.raw_os_error(), faultin::errno(&error)), (None, Some(14)));
/// assert_eq!(error.get_ref().unwrap().downcast_ref::<faultin::Short>(), Some(&short));
/// ```
pub fn errno(error: &io::Error) -> Option<i32> {
    let Some(inner) = error.get_ref() else { return error.raw_os_error() };
    macro_rules! asked {
        ($($error:ident => $errno:expr),* $(,)?) => {
            $(if let Some($error) = inner.downcast_ref() { return $errno; })*
        };
    }
    asked! {
        call => CallError::errno(call),
        map => MapError::errno(map),
        short => Some(Short::errno(short)),
        fault => Some(Fault::errno(fault)),
        structure => Some(StructError::errno(structure)),
        process => Some(ProcessError::errno(process)),
        import => ImportError::errno(import),
        install => InstallError::errno(install),
        ring => RingError::errno(ring),
        outside => Some(OutsideIov::errno(outside)),
        other => errno(other),
    }
    None
}

/// An [`io::Error`] of the kind of `errno` that has all of `error` in it.
#[cold]
pub(crate) fn whole(errno: Option<i32>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    let kind = errno.map_or(io::ErrorKind::Other, |errno| io::Error::from_raw_os_error(errno).kind());
    io::Error::new(kind, error)
}

/// A system call that is refused as a whole: `EPERM` and `ENOSYS` say nothing of what they were said to, and a filter of
/// system calls (seccomp) says them to any call.
#[derive(Debug)]
pub struct CallError {
    call: &'static str,
    error: io::Error,
}

impl CallError {
    /// Returns `error`, with the name of the call if it is one of those two.
    #[cold]
    pub fn name(call: &'static str, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => io::Error::new(error.kind(), CallError { call, error }),
            _ => error,
        }
    }

    /// The error of the call that this thread made last.
    #[cold]
    pub(crate) fn last(call: &'static str) -> io::Error {
        CallError::name(call, io::Error::last_os_error())
    }

    /// The name of the call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What it said.
    pub fn errno(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.error)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
