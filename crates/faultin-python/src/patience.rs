//! Long operations in pieces: without the interpreter's lock, and interruptible by Ctrl-C.

use core::time::Duration;
use std::time::Instant;

use pyo3::prelude::*;

use crate::status;

/// Maximum number of bytes of a piece: some milliseconds of copying.
pub(crate) const PIECE: usize = 4 << 20;

/// Number of bytes of the first piece: a tenth of a second at a megabyte a second.
const FIRST: usize = 64 << 10;

/// Number of bytes of the smallest piece.
const LEAST: usize = 4 << 10;

/// The time after which a signal's Python handler is called. Ctrl-C is to work within 100 ms.
pub(crate) const PERIOD: Duration = Duration::from_millis(40);

/// The time that a piece is to take.
const STEP: Duration = Duration::from_millis(10);

/// Calls `step` with the number of bytes of a piece, until it returns `false`, without the interpreter's lock, and handlers of
/// signals in between. A piece has at most `most` bytes, and as many as the file's speed allows.
///
/// An operation of `total` bytes that has one piece does not look at the clock.
///
/// If the file is mapped, our handler is made the first one before each piece: other code, such as `faulthandler.enable`, may
/// have installed its own above it, or removed ours.
pub(crate) fn in_pieces<E: Send>(
    py: Python<'_>,
    total: u64,
    most: usize,
    is_mapped: bool,
    mut step: impl FnMut(usize) -> Result<bool, E> + Send,
) -> PyResult<Result<(), E>> {
    let prepare = || if is_mapped { status::stay_reached(py) } else { Ok(()) };
    prepare()?;
    if total <= FIRST as u64 {
        match py.detach(|| step(FIRST)) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
    let mut size = FIRST.min(most);
    loop {
        let more = py.detach(|| {
            let begun = Instant::now();
            let mut last = begun;
            loop {
                match step(size) {
                    Ok(true) => {}
                    other => return other,
                }
                let now = Instant::now();
                size = next(size, now - last).min(most);
                last = now;
                if now - begun >= PERIOD || is_mapped && !status::is_reached() {
                    return Ok(true);
                }
            }
        });
        match more {
            Ok(true) => {
                py.check_signals()?;
                prepare()?;
            }
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Returns the number of bytes of the next piece, after one of `size` bytes that took so long.
fn next(size: usize, took: Duration) -> usize {
    let nanos = took.as_nanos().max(1);
    let fitting = size as u128 * STEP.as_nanos() / nanos;
    usize::try_from(fitting).unwrap_or(usize::MAX).clamp(LEAST, size.saturating_mul(4))
}
