//! Errors as Python exceptions: `faultin.FaultError`, an `OSError`.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use faultin::map::{Change, Reason};
use faultin::{InstallError, MapError};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// Ranges of a file, each from its first byte to the byte after its last one.
type Ranges = Vec<(u64, u64)>;

/// Everything that an exception of this package says.
pub(crate) struct Failure<'a> {
    pub errno: i32,
    pub message: String,
    pub path: Option<&'a OsStr>,
    pub offset: Option<u64>,
    pub done: u64,
    pub cause: &'a str,
}

impl Failure<'_> {
    /// Makes an exception of a class of `faultin._errors`.
    fn of(self, py: Python<'_>, class: &Bound<'_, PyAny>, damage: Option<(Ranges, Vec<PyErr>)>) -> PyResult<PyErr> {
        let words = PyDict::new(py);
        words.set_item("offset", self.offset)?;
        words.set_item("done", self.done)?;
        words.set_item("cause", self.cause)?;
        if let Some((ranges, others)) = damage {
            words.set_item("ranges", ranges)?;
            words.set_item("others", others.iter().map(|other| other.value(py)).collect::<Vec<_>>())?;
        }
        let error = class.call((self.errno, self.message, self.path), Some(&words))?;
        Ok(PyErr::from_value(error))
    }

    /// Makes a `FaultError`.
    pub(crate) fn into_error(self, py: Python<'_>) -> PyErr {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(py, "faultin._errors", "FaultError");
        class.and_then(|class| self.of(py, class, None)).unwrap_or_else(|error| error)
    }

    /// Makes a `DamagedError` with ranges of the file, and the errors of other files.
    pub(crate) fn into_damaged(self, py: Python<'_>, ranges: Ranges, others: Vec<PyErr>) -> PyErr {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(py, "faultin._errors", "DamagedError");
        class.and_then(|class| self.of(py, class, Some((ranges, others)))).unwrap_or_else(|error| error)
    }
}

/// Returns the word for a change.
pub(crate) fn change_name(change: Change) -> &'static str {
    match change {
        Change::Shrunk { .. } => "truncated",
        Change::Grown { .. } => "grown",
        Change::Rewritten => "rewritten",
        Change::Replaced => "replaced",
        Change::Deleted => "deleted",
        Change::Touched => "touched",
        _ => "changed",
    }
}

fn cause(reason: &Reason) -> &'static str {
    match reason {
        Reason::Changed(change) => change_name(*change),
        Reason::Io(error) if is_memory(error) => "memory",
        Reason::Io(_) => "io",
        Reason::NoSpace => "no-space",
        Reason::PastEnd { .. } => "past-end",
        Reason::LineTooLong { .. } => "line-too-long",
        Reason::NotResident => "not-resident",
        Reason::Fault(fault) => fault.cause().name(),
        Reason::NotAFile(_) => "not-a-file",
        Reason::Handler(_) => "no-handler",
        Reason::Unsupported(_) => "unsupported",
        _ => "other",
    }
}

/// Returns whether a copy failed at the program's memory, and not at the file.
fn is_memory(error: &io::Error) -> bool {
    faultin::errno(error) == Some(libc::EFAULT)
}

/// Returns the reason in words, without the path, which Python appends.
fn message(error: &MapError) -> String {
    if matches!(error.reason(), Reason::Io(error) if is_memory(error)) {
        return format!(
            "at byte {}: the memory that was passed cannot be accessed; if it is a mapping, the file of that mapping has \
             too few bytes or fails, not this one",
            error.offset()
        );
    }
    let text = error.to_string();
    let prefix = error.path().map_or_else(|| "mapped file: ".to_owned(), |path| format!("{}: ", path.display()));
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

/// Makes the exception of a failed operation of which `before` bytes were done by earlier pieces.
pub(crate) fn raised(py: Python<'_>, error: &MapError, before: u64) -> PyErr {
    Failure {
        errno: error.errno().unwrap_or(libc::EINVAL),
        message: message(error),
        path: error.path().map(Path::as_os_str),
        offset: Some(error.offset()),
        done: before + error.done() as u64,
        cause: cause(error.reason()),
    }
    .into_error(py)
}

/// Makes the exception of opening: what `open` raises, such as `FileNotFoundError`, if the kernel gave a reason.
pub(crate) fn raised_by_open(py: Python<'_>, error: &MapError) -> PyErr {
    match (error.reason(), error.errno(), error.path()) {
        (Reason::NotAFile(kind), ..) if !kind.is_dir() => raised(py, error, 0),
        (Reason::Io(_) | Reason::NotAFile(_), Some(errno), Some(path)) if errno != libc::EIO => {
            PyOSError::new_err((errno, message(error), path.as_os_str().to_owned()))
        }
        _ => raised(py, error, 0),
    }
}

/// Makes the exception of a handler that cannot be installed.
pub(crate) fn no_handler(py: Python<'_>, error: &InstallError) -> PyErr {
    let errno = match error {
        InstallError::Sigaction(_, error) => error.raw_os_error().unwrap_or(libc::ENOSYS),
        // The number of `Reason::Handler`.
        _ => libc::ENOSYS,
    };
    let message = format!("the signal handler cannot be installed: {error}");
    Failure { errno, message, path: None, offset: None, done: 0, cause: "no-handler" }.into_error(py)
}

/// Makes the `OSError` that Python's own functions raise for a failed call.
pub(crate) fn os_error(error: &io::Error, path: Option<&Path>) -> PyErr {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    // (Rust appends the number, which Python prints itself.)
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    match path {
        Some(path) => PyOSError::new_err((errno, text, path.as_os_str().to_owned())),
        None => PyOSError::new_err((errno, text)),
    }
}
