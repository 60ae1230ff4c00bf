//! Installing the handler.

use core::sync::atomic::Ordering;

use crate::arch;
use crate::registry::{InstallError, attach};
use crate::signal::inside::registry::{MODE_NONE, Registry, of};
use crate::table::Object;

/// Makes sure that a fault of this object's accesses is recovered: registers the exception tables of all loaded objects
/// and installs the handler for SIGSEGV and SIGBUS, once per process.
///
/// Cheap once done: one load. The handler that was installed before receives every signal that is not ours. A handler that
/// is installed *later* is called before ours, and must pass on signals that it does not know (see
/// [`status`](crate::signal::status) and [`raise_to_top`](crate::signal::raise_to_top)).
///
/// # Errors
/// [`InstallError`] if the kernel rejects the handler, the table of this object is not found, or the architecture has no
/// handler. Nothing has changed then.
#[inline]
pub fn install() -> Result<(), InstallError> {
    if !arch::HAS_TABLE {
        return Ok(());
    }
    let object = arch::object();
    match of(object) {
        Some(registry) if registry.mode.load(Ordering::Acquire) != MODE_NONE => Ok(()),
        _ => install_for(object),
    }
}

#[cold]
#[inline(never)]
pub(in crate::signal) fn install_for(object: &'static Object) -> Result<(), InstallError> {
    if !arch::HAS_TABLE {
        return Ok(());
    }
    arch::dispatch::settle();
    registry_of(object)?.install_handler()
}

/// Returns the registry, with `object` in it. Needs the loader only the first time, because a forked child may not be able
/// to use it.
pub(in crate::signal) fn registry_of(object: &'static Object) -> Result<&'static Registry, InstallError> {
    of(object).map_or_else(|| attach(object), Ok)
}
