//! The handlers of this process, and what is guarded.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faultin::InstallError;
use faultin::signal::{self, HandlerState};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::no_handler;
use crate::explain;
use crate::guard;

/// Whether this package has installed the handler: for `install`, `guard`, `explain` or a mapping.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Whether the program has called `install`: files are mapped from then on. What else installs the handler says nothing
/// about other files.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Returns whether files are mapped unless the program says how to read them.
pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Returns whether the handler was installed by this package.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Notes that a call has installed the handler.
pub(crate) fn note_installed() {
    INSTALLED.store(true, Ordering::Relaxed);
}

/// Installs the handler of SIGSEGV and SIGBUS, or raises it above one that was installed later.
fn raise() -> Result<(), InstallError> {
    faultin::install().and_then(|()| signal::raise_to_top())?;
    note_installed();
    Ok(())
}

/// The signals of faults, and the handlers that were in force for them when ours were raised.
static OURS: [(core::ffi::c_int, AtomicUsize); 2] =
    [(libc::SIGBUS, AtomicUsize::new(0)), (libc::SIGSEGV, AtomicUsize::new(0))];

/// Returns the handler of a signal: the kernel's structure begins with it. (The C library's function takes half as long again,
/// and each copy of a mapped file asks.)
fn handler(signal: core::ffi::c_int) -> usize {
    let mut action = [0_usize; 16];
    // SAFETY: room for the answer, with a set of signals of 8 bytes; nothing is changed.
    unsafe {
        let none = core::ptr::null::<u8>();
        libc::syscall(libc::SYS_rt_sigaction, signal, none, action.as_mut_ptr(), 8_usize);
    }
    action[0]
}

fn is_ours((signal, ours): &(core::ffi::c_int, AtomicUsize)) -> bool {
    let ours = ours.load(Ordering::Relaxed);
    ours != 0 && handler(*signal) == ours
}

/// Returns whether our handler of SIGBUS is the first one, as far as is known: one system call.
pub(crate) fn is_reached() -> bool {
    is_ours(&OURS[0])
}

/// Makes sure that our handlers are the first ones.
pub(crate) fn be_first(py: Python<'_>) -> PyResult<()> {
    if OURS.iter().all(is_ours) { Ok(()) } else { raise_ours().map_err(|error| no_handler(py, &error)) }
}

fn raise_ours() -> Result<(), InstallError> {
    raise()?;
    OURS.iter().for_each(|(signal, ours)| ours.store(handler(*signal), Ordering::Relaxed));
    Ok(())
}

/// As [`be_first`], for a file that is mapped: a host that owns the handler passes faults on.
pub(crate) fn be_reached(py: Python<'_>) -> PyResult<()> {
    if OURS.iter().all(is_ours) { Ok(()) } else { reach(py) }
}

/// As [`be_reached`], for its copies, whose faults are SIGBUS.
pub(crate) fn stay_reached(py: Python<'_>) -> PyResult<()> {
    if is_reached() { Ok(()) } else { reach(py) }
}

fn reach(py: Python<'_>) -> PyResult<()> {
    match raise_ours() {
        Ok(()) | Err(InstallError::HostOwnsHandler) => Ok(()),
        Err(error) => Err(no_handler(py, &error)),
    }
}

/// As [`be_first`], on request of the program.
#[pyfunction]
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    be_first(py)?;
    REQUESTED.store(true, Ordering::Relaxed);
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
    fields.set_item("backend", if is_requested() { "mapping" } else { "pread" })?;
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
