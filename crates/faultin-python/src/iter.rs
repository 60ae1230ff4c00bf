//! Iterators over a map: chunks and lines, as `bytes`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use faultin::MapError;
use faultin::map::Reason;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raised;
use crate::map::{bytes, is_mapped};
use crate::patience::{PERIOD, PIECE, in_pieces};
use crate::shared::Shared;
use crate::status;

/// Number of bytes of lines that are copied at once.
const BATCH: usize = 1 << 20;

/// Maximum number of bytes of a line that is copied without a look at signals, and of lines without one at the clock.
const SHORT: usize = 64 << 10;

/// Maximum number of bytes of a line without its newline, as the library has it: no file makes the iterator take more memory.
const LIMIT: usize = 64 << 20;

/// Iterates over pieces of a file. Made by `FileMap.chunks`.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct Chunks {
    map: Shared<faultin::FileMap>,
    size: usize,
    end: u64,
    at: Mutex<u64>,
}

impl Chunks {
    pub(crate) fn new(map: Shared<faultin::FileMap>, size: usize, start: u64, end: u64) -> Self {
        Chunks { map, size, end, at: Mutex::new(start) }
    }

    fn position(&self) -> MutexGuard<'_, u64> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Chunks {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            let at = *self.position();
            let len = self.end.saturating_sub(at).min(self.size as u64);
            // The lock is not kept while the interpreter's lock is released.
            let chunk = bytes(py, &self.map, len, at)?;
            let read = chunk.as_bytes().len() as u64;
            let mut now = self.position();
            if *now == at {
                *now = at + read;
                return Ok((read > 0).then_some(chunk));
            }
            // Another thread has got this chunk meanwhile.
        }
    }
}

/// Iterates over the lines of a file. Made by `FileMap.lines`.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct Lines {
    map: Shared<faultin::FileMap>,
    state: Mutex<State>,
}

struct State {
    /// Where the first line begins that is not in `lines`.
    at: u64,
    /// Lines that were copied and not handed out.
    lines: VecDeque<Vec<u8>>,
}

impl Lines {
    pub(crate) fn new(map: Shared<faultin::FileMap>, start: u64) -> Self {
        Lines { map, state: Mutex::new(State { at: start, lines: VecDeque::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies lines from `at` on, until they have [`BATCH`] bytes, or it has taken a while. Returns them, and where the next one
    /// begins. An error of [`SHORT`] is of the first line.
    fn batch(map: &faultin::FileMap, at: u64) -> Result<(VecDeque<Vec<u8>>, u64), MapError> {
        let (mut lines, mut next, mut copied, mut looked) = (VecDeque::new(), at, 0, 0);
        let begun = Instant::now();
        let mut source = map.lines(at..).limit(SHORT);
        while copied < BATCH {
            if copied - looked >= SHORT {
                if begun.elapsed() >= PERIOD {
                    break;
                }
                looked = copied;
            }
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

    /// Copies a line that has more than [`SHORT`] bytes, in pieces.
    fn long(&self, py: Python<'_>, at: u64) -> PyResult<(VecDeque<Vec<u8>>, u64)> {
        let mut line = Vec::new();
        let outcome = in_pieces(py, u64::MAX, PIECE, is_mapped(&self.map), |size| {
            let begin = at + line.len() as u64;
            let end = self.map.len().min(begin + size as u64);
            if begin >= end {
                return Ok(false);
            }
            let newline = self.map.find(b"\n", begin..end)?;
            let len = (newline.map_or(end, |newline| newline + 1) - begin) as usize;
            if line.len() + len > LIMIT + 1 || newline.is_none() && line.len() + len > LIMIT {
                // The error is the library's.
                return self.map.lines(at..).limit(LIMIT).next_line().map(|_| false);
            }
            let old = line.len();
            line.resize(old + len, 0);
            self.map.read_exact_at(&mut line[old..], begin)?;
            Ok(newline.is_none())
        })?;
        outcome.map_err(|error| raised(py, &error, 0))?;
        let next = at + line.len() as u64;
        Ok((VecDeque::from([line]), next))
    }
}

#[pymethods]
impl Lines {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            let at = {
                let mut state = self.state();
                if let Some(line) = state.lines.pop_front() {
                    return Ok(Some(PyBytes::new(py, &line)));
                }
                state.at
            };
            py.check_signals()?;
            if is_mapped(&self.map) {
                status::stay_reached(py)?;
            }
            let (lines, next) = match py.detach(|| Lines::batch(&self.map, at)) {
                Ok(batch) => batch,
                Err(error) if matches!(error.reason(), Reason::LineTooLong { .. }) => self.long(py, at)?,
                Err(error) => return Err(raised(py, &error, 0)),
            };
            let mut state = self.state();
            if state.at == at {
                (state.at, state.lines) = (next, lines);
                return Ok(state.lines.pop_front().map(|line| PyBytes::new(py, &line)));
            }
            // Another thread has got these lines meanwhile.
        }
    }
}
