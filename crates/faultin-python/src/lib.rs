//! The native part of the Python package `faultin`.
//!
//! `python/faultin` is what users import. It has everything that is not on a hot path or in a signal handler; this crate has
//! the rest: the maps ([`map`], [`writable`]), the guard of other code's mappings ([`guard`]), the message of a bus error
//! ([`explain`]) and the state of the handlers ([`status`]).
//!
//! # Unsafe code
//!
//! * *Buffers* ([`buffer`]). A Python object lends memory until it is released, and promises that the memory is valid. Other
//!   Python threads may write to it meanwhile, as they may while `file.readinto` runs: then the bytes are a mixture.
//! * *Code that runs in a signal handler* is in [`guard::region`] and [`explain`] only: no allocation, no lock, no Python.

mod buffer;
mod error;
mod explain;
mod guard;
mod iter;
mod map;
mod patience;
mod safetensors;
mod shared;
mod status;
mod writable;

use core::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Fails in an interpreter other than the first one that has imported the package: handlers and guards are the process's.
fn check_interpreter(py: Python<'_>) -> PyResult<()> {
    static FIRST: AtomicI64 = AtomicI64::new(-1);
    // SAFETY: the thread is attached to an interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id < 0 {
        return Err(PyErr::fetch(py));
    }
    match FIRST.compare_exchange(-1, id, Ordering::Relaxed, Ordering::Relaxed) {
        Err(first) if first != id => Err(PyImportError::new_err("faultin does not support subinterpreters")),
        _ => Ok(()),
    }
}

#[pymodule(gil_used = true)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::check_interpreter(module.py())
    }

    #[pymodule_export]
    use super::explain::explain;
    #[pymodule_export]
    use super::guard::Guard;
    #[pymodule_export]
    use super::iter::{Chunks, Lines};
    #[pymodule_export]
    use super::map::{FileMap, open};
    #[pymodule_export]
    use super::safetensors::{is_being_written, safetensors_header};
    #[pymodule_export]
    use super::status::{after_fork, install, status};
    #[pymodule_export]
    use super::writable::{WritableMap, open_writable};
}
