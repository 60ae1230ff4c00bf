//! Memory that Python objects lend.

use core::mem::MaybeUninit;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

/// Contiguous bytes of a Python object, which cannot free or move them until this is dropped. It must be dropped while the
/// thread is attached to the interpreter.
pub(crate) struct Buffer {
    // On the heap: some exporters keep pointers into it.
    view: Box<ffi::Py_buffer>,
}

impl Buffer {
    /// Borrows the bytes of `object` to read from them.
    pub(crate) fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// Borrows the bytes of `object` to write to them.
    ///
    /// A PyTorch tensor has no buffer protocol in older versions, but shares its memory with an array.
    ///
    /// Memory that holds Python objects is refused: bytes of a file are no objects.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let refused = || PyTypeError::new_err("a buffer that holds Python objects cannot be read into");
        // The format comes with a shape only. There are types that have none, such as numpy's of times.
        if let Ok(buffer) = Self::get(object, ffi::PyBUF_WRITABLE | ffi::PyBUF_ND | ffi::PyBUF_FORMAT) {
            return if buffer.has_objects() { Err(refused()) } else { Ok(buffer) };
        }
        let buffer = Self::get(object, ffi::PyBUF_WRITABLE)?;
        let has_objects = object.getattr("dtype").and_then(|kind| kind.getattr("hasobject")?.is_truthy());
        if has_objects.unwrap_or(false) { Err(refused()) } else { Ok(buffer) }
    }

    /// Returns whether an item, or a field of it, is a Python object.
    fn has_objects(&self) -> bool {
        if self.view.format.is_null() {
            return false;
        }
        // SAFETY: the exporter promises a text that ends with a zero while it lends the memory.
        let format = unsafe { core::ffi::CStr::from_ptr(self.view.format) };
        // Between colons is the name of a field.
        format.to_bytes().split(|byte| *byte == b':').step_by(2).any(|part| part.contains(&b'O'))
    }

    fn get(object: &Bound<'_, PyAny>, flags: core::ffi::c_int) -> PyResult<Self> {
        // SAFETY: the thread is attached, as `object` proves.
        if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 0 && object.hasattr("data_ptr")? {
            let array = object.py().import("faultin._tensor")?.call_method1("as_bytes", (object,))?;
            return Self::get(&array, flags);
        }
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: attached; `view` has room for the answer.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: all zeros is a value of it, and the call has filled it in.
        let view = unsafe { Box::from_raw(Box::into_raw(view).cast::<ffi::Py_buffer>()) };
        let buffer = Buffer { view };
        if buffer.view.len < 0 {
            return Err(PyBufferError::new_err("a buffer of negative length"));
        }
        Ok(buffer)
    }

    /// Returns the address of the first byte; 0 of an empty buffer perhaps.
    pub(crate) fn address(&self) -> usize {
        self.view.buf.expose_provenance()
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.view.len as usize
    }

    /// Returns the bytes.
    ///
    /// # Safety
    /// The buffer outlives the slice.
    pub(crate) unsafe fn bytes<'a>(&self) -> &'a [u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: the exporter promises `len` valid bytes while it lends them.
        unsafe { core::slice::from_raw_parts(self.view.buf.cast(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the view is of a successful `PyObject_GetBuffer`, and the thread is attached: no `Buffer` is moved into a
        // closure of `detach`, and none is part of an object that outlives its method.
        unsafe { ffi::PyBuffer_Release(&mut *self.view) }
    }
}
