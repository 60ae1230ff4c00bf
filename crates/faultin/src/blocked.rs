//! Whether this thread blocks SIGSEGV or SIGBUS: then the kernel kills the process at a fault, handler or not, and
//! accesses are made by the kernel instead ([`signal_free`](crate::signal_free)).
//!
//! The kernel offers no notice of a changed mask. So each thread asks once, and again whenever an access makes a system
//! call anyway. A thread that blocks the signals after it was asked, and a handler that runs with them blocked, are noticed
//! there, or by [`signal::ask_again`](crate::signal::ask_again).

use core::cell::Cell;

use crate::arch;
use crate::registry::SIGNALS;
use crate::signal::{chain, handler};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Blocked,
    Open,
}

thread_local! {
    // Without a destructor and without lazy initialisation: it may be used in handlers and while a thread ends. (In a library that
    // was loaded by `dlopen` the first use in a thread allocates: see `signal::ask_again`.)
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
}

/// Whether a fault in this thread would kill the process, as far as it is known: no system call unless it has to be found
/// out, or was so.
#[inline(always)]
pub(crate) fn is_fatal() -> bool {
    arch::HAS_TABLE && KNOWN.get() != Known::Open && ask()
}

/// The same, as it is now. One system call.
#[cold]
#[inline(never)]
pub(crate) fn ask() -> bool {
    if !arch::HAS_TABLE {
        return false;
    }
    let blocked = crate::signal::blocked().contains(&true);
    KNOWN.set(if blocked { Known::Blocked } else { Known::Open });
    blocked
}

/// A load or a store of one value. Where a fault would be fatal, it is made in place all the same, with both signals
/// unblocked meanwhile, because the kernel might tear the value; by the kernel only if our handler is not the first that a
/// fault calls (another one that faults would be called again).
#[inline(always)]
pub(crate) fn value<R>(in_place: impl FnOnce() -> R, by_kernel: impl FnOnce() -> R) -> R {
    if KNOWN.get() == Known::Open || !arch::HAS_TABLE { in_place() } else { value_slowly(in_place, by_kernel) }
}

#[cold]
#[inline(never)]
fn value_slowly<R>(in_place: impl FnOnce() -> R, by_kernel: impl FnOnce() -> R) -> R {
    if !ask() {
        return in_place();
    }
    if !crate::signal::is_reached_directly() || is_pending() {
        return by_kernel();
    }
    let _open = Unblocked::new();
    in_place()
}

/// Runs an access that the kernel cannot make, with both signals unblocked meanwhile if this thread blocks them. One that is
/// pending is delivered then.
#[inline(always)]
pub(crate) fn unblocked<R>(access: impl FnOnce() -> R) -> R {
    if KNOWN.get() == Known::Open || !arch::HAS_TABLE { access() } else { unblocked_slowly(access) }
}

#[cold]
#[inline(never)]
fn unblocked_slowly<R>(access: impl FnOnce() -> R) -> R {
    let _open = ask().then(Unblocked::new);
    access()
}

/// Whether one of the two signals waits to be taken by `sigwait(2)` or the like: unblocking would deliver it.
fn is_pending() -> bool {
    chain::pending() & both() != 0
}

/// Both signals.
fn both() -> u64 {
    SIGNALS.iter().fold(0, |set, &signal| set | handler::bit(signal))
}

/// Both signals are unblocked in this thread until this is dropped. (By the kernel's call: the C library's leaves signals of its own
/// out, so that those a thread blocks would be open afterwards.)
struct Unblocked {
    before: u64,
}

impl Unblocked {
    fn new() -> Self {
        Unblocked { before: chain::change_mask(libc::SIG_UNBLOCK, both()) }
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        chain::change_mask(libc::SIG_SETMASK, self.before);
    }
}
