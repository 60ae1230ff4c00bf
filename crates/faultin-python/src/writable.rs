//! `WritableMap`: stores that may fail, for `faultin.memmap`.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use faultin::map::Reason;
use faultin::{FileMapMut, MapOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Buffer;
use crate::error::{os_error, raised, raised_by_open};
use crate::map::{Target, backend, bytes, fill_buffer, is_mapped, position};
use crate::patience::{PIECE, in_pieces};
use crate::shared::Shared;

/// A file that is written with errors, whatever is left on its disk.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct WritableMap {
    map: Mutex<Option<Shared<FileMapMut>>>,
}

/// Opens a file for reading and writing. `size` is the length that a file gets that is created, or is shorter; `reserve`
/// allocates that many bytes where the file system can.
#[pyfunction]
#[pyo3(signature = (file, /, *, create = false, size = None, reserve = true, backend = None))]
pub(crate) fn open_writable(
    file: &Bound<'_, PyAny>,
    create: bool,
    size: Option<u64>,
    reserve: bool,
    backend: Option<&str>,
) -> PyResult<WritableMap> {
    let py = file.py();
    let options = MapOptions::new().backend(self::backend(backend)?);
    let opened = match Target::of(file)? {
        Target::Path(path) if create => {
            let mut open = File::options();
            let file = py.detach(|| open.read(true).write(true).create(true).truncate(true).open(&path));
            let file = file.map_err(|error| os_error(&error, Some(&path)))?;
            py.detach(|| options.from_file_mut_at(file, &path))
        }
        Target::Path(path) => py.detach(|| options.open_mut(&path)),
        Target::File(file, Some(path)) => py.detach(|| options.from_file_mut_at(file, &path)),
        Target::File(file, None) => py.detach(|| options.from_file_mut(file)),
    };
    let map = opened.map_err(|error| raised_by_open(py, &error))?;
    if let Some(size) = size {
        let reserved = reserve
            && match py.detach(|| map.allocate(0..size)) {
                Ok(()) => true,
                // This file system cannot: a store without space is an error all the same.
                Err(error) if matches!(error.reason(), Reason::Unsupported(_)) => false,
                Err(error) => return Err(raised(py, &error, 0)),
            };
        if !reserved && py.detach(|| map.file_len()).map_err(|error| raised(py, &error, 0))? < size {
            // Past the limit of the process this raises SIGXFSZ as well, which Python ignores.
            py.detach(|| map.file().set_len(size)).map_err(|error| os_error(&error, map.path()))?;
        }
        py.detach(|| map.refresh()).map_err(|error| raised(py, &error, 0))?;
    }
    Ok(WritableMap { map: Mutex::new(Some(Shared::new(map))) })
}

impl WritableMap {
    fn open_map(&self) -> PyResult<Shared<FileMapMut>> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.clone().ok_or_else(|| PyValueError::new_err("the file is closed"))
    }
}

#[pymethods]
impl WritableMap {
    /// Stores the bytes of `data` at `offset`, all of them or an error that has the number of bytes stored.
    #[pyo3(signature = (data, /, offset = 0))]
    fn write(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = position)] offset: u64,
    ) -> PyResult<()> {
        let map = self.open_map()?;
        let buffer = Buffer::readable(data)?;
        // SAFETY: the buffer outlives the slice.
        let src = unsafe { buffer.bytes() };
        let mut done = 0;
        let outcome = in_pieces(py, src.len() as u64, PIECE, is_mapped(&map), |size| {
            let piece = (src.len() - done).min(size);
            if piece == 0 {
                return Ok(false);
            }
            map.write_at(&src[done..done + piece], offset + done as u64)?;
            done += piece;
            Ok(done < src.len())
        })?;
        outcome.map_err(|error| raised(py, &error, done as u64))
    }

    /// As `FileMap.readinto`.
    #[pyo3(signature = (buffer, /, offset = 0))]
    fn readinto(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = position)] offset: u64,
    ) -> PyResult<usize> {
        fill_buffer(py, &*self.open_map()?, buffer, offset)
    }

    /// As `FileMap.read`.
    #[pyo3(signature = (n = -1, /, offset = 0), text_signature = "($self, n=-1, /, offset=0)")]
    fn read<'py>(
        &self,
        py: Python<'py>,
        n: i64,
        #[pyo3(from_py_with = position)] offset: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, &*self.open_map()?, u64::try_from(n).unwrap_or(u64::MAX), offset)
    }

    /// Writes what was stored to the disk, and raises an error that the disk reports.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let map = self.open_map()?;
        py.detach(|| map.flush()).map_err(|error| raised(py, &error, 0))
    }

    /// Takes the file as it is now. Returns the word for what has changed, or `None`.
    fn refresh(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        let map = self.open_map()?;
        let change = py.detach(|| map.refresh()).map_err(|error| raised(py, &error, 0))?;
        Ok(change.map(crate::error::change_name))
    }

    /// Releases the file.
    fn close(&self) {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(map);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.open_map()?.len().try_into()?)
    }
}
