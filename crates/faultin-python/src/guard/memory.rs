//! The addresses of what a guard is asked to guard.

use core::ops::Range;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Memory of a Python object, which cannot free or unmap it until this is dropped.
pub(super) struct Memory {
    pub addresses: Range<usize>,
    /// The borrowed buffer, for objects with that protocol. A mapping cannot be closed meanwhile.
    view: Option<Box<ffi::Py_buffer>>,
    /// Otherwise the object, which owns its memory.
    _object: Option<Py<PyAny>>,
}

// SAFETY: the view is released by a thread that is attached to the interpreter; which one does not matter.
unsafe impl Send for Memory {}
// SAFETY: nothing changes the view before it is dropped.
unsafe impl Sync for Memory {}

impl Memory {
    /// Finds the memory of an object: by the buffer protocol, the array interface, or as PyTorch's tensors have it.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<crate::map::FileMap>() {
            return Err(PyTypeError::new_err("a FileMap needs no guard: each of its reads raises the error"));
        }
        let mut view = Box::<ffi::Py_buffer>::new_uninit();
        // SAFETY: attached, and there is room for the answer. (`FORMAT` is not asked for: it takes longer, and there are types
        // that have none.)
        let result = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_STRIDED_RO) };
        if result == 0 {
            // SAFETY: the call has succeeded.
            let view = unsafe { view.assume_init() };
            // SAFETY: as the buffer protocol has it, `ndim` numbers each, or none.
            let (shape, strides) = unsafe { (numbers(view.shape, view.ndim), numbers(view.strides, view.ndim)) };
            let addresses = extent(view.buf.addr(), shape, strides, view.itemsize, view.len);
            return Ok(Memory { addresses, view: Some(view), _object: None });
        }
        let error = PyErr::fetch(object.py());
        let addresses = if object.hasattr("__array_interface__")? {
            array(object)?
        } else if object.hasattr("untyped_storage")? {
            let storage = object.call_method0("untyped_storage")?;
            let start: usize = storage.call_method0("data_ptr")?.extract()?;
            start..start.saturating_add(storage.call_method0("nbytes")?.extract()?)
        } else {
            return Err(error);
        };
        Ok(Memory { addresses, view: None, _object: Some(object.clone().unbind()) })
    }
}

/// Reads the addresses of an array from its interface.
fn array(object: &Bound<'_, PyAny>) -> PyResult<Range<usize>> {
    let interface = object.getattr("__array_interface__")?.cast_into::<PyDict>()?;
    let field = |name: &str| {
        interface.get_item(name)?.ok_or_else(|| PyTypeError::new_err(format!("an array interface without {name}")))
    };
    let (start, _): (usize, bool) = field("data")?.extract()?;
    let shape: Vec<isize> = field("shape")?.extract()?;
    let strides: Option<Vec<isize>> =
        interface.get_item("strides")?.map(|value| value.extract()).transpose()?.flatten();
    let kind: String = field("typestr")?.extract()?;
    let digits = kind.trim_start_matches(|c: char| !c.is_ascii_digit());
    let item: isize = digits.parse().map_err(|_| PyTypeError::new_err(format!("an array of {kind}")))?;
    let len = shape.iter().product::<isize>() * item;
    Ok(extent(start, &shape, strides.as_deref().unwrap_or_default(), item, len))
}

/// # Safety
/// `count` numbers are at `first`, unless that is null.
unsafe fn numbers<'a>(first: *const isize, count: i32) -> &'a [isize] {
    if first.is_null() || count <= 0 {
        return &[];
    }
    // SAFETY: by contract.
    unsafe { core::slice::from_raw_parts(first, count as usize) }
}

/// Returns the addresses from the lowest to the highest byte of an array. Without strides, it is contiguous.
fn extent(start: usize, shape: &[isize], strides: &[isize], item: isize, len: isize) -> Range<usize> {
    if len <= 0 {
        return start..start;
    }
    if strides.is_empty() {
        return start..start.saturating_add(len.unsigned_abs());
    }
    let (mut low, mut high) = (0_isize, item);
    for (count, stride) in shape.iter().zip(strides) {
        let reach = (count - 1).saturating_mul(*stride);
        (low, high) = (low + reach.min(0), high + reach.max(0));
    }
    start.saturating_add_signed(low)..start.saturating_add_signed(high)
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(mut view) = self.view.take() {
            // SAFETY: a successful call has filled it. Attached: a guard is dropped by the interpreter.
            Python::attach(|_| unsafe { ffi::PyBuffer_Release(&mut *view) });
        }
    }
}

/// The error for memory that cannot be guarded.
pub(super) fn refused(what: impl Into<String>) -> PyErr {
    PyValueError::new_err(what.into())
}
