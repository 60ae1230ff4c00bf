//! The kernel's error numbers in an [`io::Error`]: [`errno`], and [`CallError`], which names the call that failed.

use core::fmt;
use std::io;

use crate::MapError;
use crate::fault::{Fault, Short};
use crate::registry::InstallError;

/// Returns the kernel's number for an error, also where the error contains one of this crate's errors: those convert to an
/// [`io::Error`] as a whole, so its [`raw_os_error`](io::Error::raw_os_error) is `None`.
///
/// ```
/// let short = faultin::Short { done: 3, fault: faultin::Fault::rejected(faultin::Access::Read, faultin::Cause::Unmapped, 0) };
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
        install => InstallError::errno(install),
        other => errno(other),
    }
    #[cfg(not(faultin_portable))]
    asked! {
        structure => Some(crate::structs::StructError::errno(structure)),
        process => Some(crate::signal_free::ProcessError::errno(process)),
        import => crate::iov::ImportError::errno(import),
        ring => crate::map::shared::ring::RingError::errno(ring),
        outside => Some(crate::iov::IovRangeError::errno(outside)),
    }
    None
}

/// Makes an [`io::Error`] of the kind of `errno` that contains all of `error`.
#[cold]
pub(crate) fn whole(errno: Option<i32>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    let kind = errno.map_or(io::ErrorKind::Other, |errno| io::Error::from_raw_os_error(errno).kind());
    io::Error::new(kind, error)
}

/// A system call that was rejected as a whole: `EPERM` and `ENOSYS` do not tell which call failed, and a filter of system
/// calls (seccomp) returns them for any call.
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

    /// Returns the error of this thread's last call.
    #[cold]
    pub(crate) fn last(call: &'static str) -> io::Error {
        CallError::name(call, io::Error::last_os_error())
    }

    /// Returns the name of the call.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// Returns the number that the call returned.
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
