//! The handlers of this process, and what is guarded.

use core::sync::atomic::{AtomicBool, Ordering};

use faultin::signal::{self, HandlerState};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::explain;
use crate::guard;

/// Whether this package has installed the handler: only on request.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Returns whether the handler was asked for.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Notes that the handler was asked for, by a call that installs it.
pub(crate) fn note_installed() {
    INSTALLED.store(true, Ordering::Relaxed);
}

/// Installs the handler of SIGSEGV and SIGBUS, or raises it above one that was installed later.
#[pyfunction]
pub(crate) fn install() -> PyResult<()> {
    let installed = faultin::install().and_then(|()| signal::raise_to_top());
    installed.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    note_installed();
    Ok(())
}

fn word(state: HandlerState) -> &'static str {
    match state {
        HandlerState::Direct => "first",
        HandlerState::Below(_) => "below",
        HandlerState::Absent => "absent",
        _ => "host",
    }
}

/// Returns the fields of `faultin.Status`.
#[pyfunction]
pub(crate) fn status(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("installed", is_installed())?;
    // Asking registers tables, which is no handler, but is not needed either.
    let (bus, segv, blocked) = if is_installed() {
        let now = signal::status();
        (word(now.bus), word(now.segv), now.bus_blocked || now.segv_blocked)
    } else {
        ("absent", "absent", false)
    };
    fields.set_item("bus", bus)?;
    fields.set_item("segv", segv)?;
    fields.set_item("blocked", blocked)?;
    fields.set_item("explains", explain::is_active())?;
    fields.set_item("backend", if is_installed() { "mapping" } else { "pread" })?;
    fields.set_item("guards", guard::active())?;
    fields.set_item(
        "recovered",
        if is_installed() { signal::counters().all(faultin::events::Outcome::Recovered) } else { 0 },
    )?;
    fields.set_item("substituted", guard::substituted())?;
    Ok(fields)
}

/// Forgets what belongs to the parent, in a child of `fork`.
#[pyfunction]
pub(crate) fn after_fork() {
    guard::after_fork();
}
