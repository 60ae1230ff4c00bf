//! Long operations in pieces: without the interpreter's lock, and interruptible by Ctrl-C.

use core::time::Duration;
use std::time::Instant;

use pyo3::prelude::*;

/// Maximum number of bytes of a piece: some milliseconds of copying.
pub(crate) const PIECE: usize = 4 << 20;

/// The time after which a signal's Python handler is called. Ctrl-C is to work within 100 ms.
const PERIOD: Duration = Duration::from_millis(40);

/// Calls `step` until it returns `None`, without the interpreter's lock, and handlers of signals in between.
///
/// The first piece needs no look at the clock: most operations have only one.
pub(crate) fn in_pieces<E: Send>(
    py: Python<'_>,
    mut step: impl FnMut() -> Result<bool, E> + Send,
) -> PyResult<Result<(), E>> {
    loop {
        let more = py.detach(|| {
            match step() {
                Ok(true) => {}
                other => return other,
            }
            let begun = Instant::now();
            loop {
                match step() {
                    Ok(true) if begun.elapsed() < PERIOD => {}
                    other => return other,
                }
            }
        });
        match more {
            Ok(true) => py.check_signals()?,
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}
