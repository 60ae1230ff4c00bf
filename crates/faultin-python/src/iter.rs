//! Iterators over a map: chunks and lines, as `bytes`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use faultin::MapError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raised;
use crate::map::bytes;

/// Number of bytes of lines that are copied at once.
const BATCH: usize = 1 << 20;

/// Iterates over pieces of a file. Made by `FileMap.chunks`.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct Chunks {
    map: Arc<faultin::FileMap>,
    size: usize,
    end: u64,
    at: Mutex<u64>,
}

impl Chunks {
    pub(crate) fn new(map: Arc<faultin::FileMap>, size: usize, start: u64, end: u64) -> Self {
        Chunks { map, size, end, at: Mutex::new(start) }
    }
}

#[pymethods]
impl Chunks {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        // The lock is not kept while the interpreter's lock is released: two threads may read the same chunk then, and both
        // get it.
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let len = self.end.saturating_sub(at).min(self.size as u64);
        let chunk = bytes(py, &self.map, len, at)?;
        let read = chunk.as_bytes().len() as u64;
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at + read;
        Ok((read > 0).then_some(chunk))
    }
}

/// Iterates over the lines of a file. Made by `FileMap.lines`.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct Lines {
    map: Arc<faultin::FileMap>,
    state: Mutex<State>,
}

struct State {
    /// Where the first line begins that is not in `lines`.
    at: u64,
    /// Lines that were copied and not handed out.
    lines: VecDeque<Vec<u8>>,
}

impl Lines {
    pub(crate) fn new(map: Arc<faultin::FileMap>, start: u64) -> Self {
        Lines { map, state: Mutex::new(State { at: start, lines: VecDeque::new() }) }
    }

    /// Copies lines from `at` on, until they have [`BATCH`] bytes. Returns them, and where the next one begins.
    fn batch(map: &faultin::FileMap, at: u64) -> Result<(VecDeque<Vec<u8>>, u64), MapError> {
        let (mut lines, mut next, mut copied) = (VecDeque::new(), at, 0);
        let mut source = map.lines(at..);
        while copied < BATCH {
            let line = match source.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                // The lines before it are handed out first. The next batch begins with the error.
                Err(_) if !lines.is_empty() => break,
                Err(error) => return Err(error),
            };
            next = line.at + line.bytes.len() as u64;
            let mut bytes = Vec::with_capacity(line.bytes.len() + 1);
            bytes.extend_from_slice(line.bytes);
            if next < map.len() {
                bytes.push(b'\n');
                next += 1;
            }
            copied += bytes.len();
            lines.push_back(bytes);
        }
        Ok((lines, next))
    }
}

#[pymethods]
impl Lines {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let at = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = state.lines.pop_front() {
                return Ok(Some(PyBytes::new(py, &line)));
            }
            state.at
        };
        py.check_signals()?;
        let batch = py.detach(|| Lines::batch(&self.map, at));
        let (lines, next) = batch.map_err(|error| raised(py, &error, 0))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.at == at {
            // Otherwise another thread has read the same lines meanwhile.
            (state.at, state.lines) = (next, lines);
        }
        Ok(state.lines.pop_front().map(|line| PyBytes::new(py, &line)))
    }
}
