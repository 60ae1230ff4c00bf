//! Whether this thread blocks SIGSEGV or SIGBUS. If it does, the kernel kills the process at a fault, with or without a
//! handler, so the kernel makes the accesses instead ([`signal_free`](crate::signal_free)).
//!
//! The kernel does not notify of a changed mask. So each thread reads it once, and again whenever an access makes a system
//! call anyway. This also detects a thread that blocks the signals later, and a handler that runs with them blocked;
//! [`signal::refresh_mask`](crate::signal::refresh_mask) is the explicit way.

use core::cell::Cell;

use crate::arch;
use crate::signal::inside::registry::SIGNALS;
use crate::signal::inside::{chain, handler};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Blocked,
    Open,
}

thread_local! {
    // No destructor and no lazy initialisation: it may be used in handlers and while a thread ends. (In a library that was
    // loaded by `dlopen` the first use in a thread allocates: see `signal::refresh_mask`.)
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
}

/// Returns whether a fault in this thread would kill the process, as far as it is known. Makes a system call only if that
/// is unknown, or if the last answer was yes.
#[inline(always)]
pub(crate) fn is_fatal() -> bool {
    arch::HAS_TABLE && KNOWN.get() != Known::Open && ask()
}

/// Returns the same, with the current mask. One system call.
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

/// Loads or stores one value. Where a fault would be fatal, the access is made in place all the same, with both signals
/// unblocked meanwhile, because the kernel might tear the value. The kernel makes it only if our handler is not the first
/// one that a fault calls (another handler that faults would be called again).
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

/// Runs an access that the kernel cannot make, with both signals unblocked meanwhile if this thread blocks them. A pending
/// signal is delivered then.
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

/// Returns whether one of the two signals is pending for `sigwait(2)` or the like: unblocking would deliver it.
fn is_pending() -> bool {
    chain::pending() & both() != 0
}

/// Both signals.
fn both() -> u64 {
    SIGNALS.iter().fold(0, |set, &signal| set | handler::bit(signal))
}

/// Keeps both signals unblocked in this thread until it is dropped. (By the kernel's call: the C library's leaves out its
/// own signals, so that those that a thread blocks would be unblocked afterwards.)
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
