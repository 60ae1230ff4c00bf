//! Errors as Python exceptions: `faultin.FaultError`, an `OSError`.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use faultin::MapError;
use faultin::map::{Change, Reason};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

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
    fn of(self, py: Python<'_>, class: &Bound<'_, PyAny>, ranges: Option<Vec<(u64, u64)>>) -> PyResult<PyErr> {
        let words = PyDict::new(py);
        words.set_item("offset", self.offset)?;
        words.set_item("done", self.done)?;
        words.set_item("cause", self.cause)?;
        if let Some(ranges) = ranges {
            words.set_item("ranges", ranges)?;
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

    /// Makes a `DamagedError` with ranges of the file.
    pub(crate) fn into_damaged(self, py: Python<'_>, ranges: Vec<(u64, u64)>) -> PyErr {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = CLASS.import(py, "faultin._errors", "DamagedError");
        class.and_then(|class| self.of(py, class, Some(ranges))).unwrap_or_else(|error| error)
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

/// Returns the reason in words, without the path, which Python appends.
fn message(error: &MapError) -> String {
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
        (Reason::Io(_) | Reason::NotAFile(_), Some(errno), Some(path)) if errno != libc::EIO => {
            PyOSError::new_err((errno, message(error), path.as_os_str().to_owned()))
        }
        _ => raised(py, error, 0),
    }
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
