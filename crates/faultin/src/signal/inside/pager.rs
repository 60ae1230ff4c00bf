//! Ranges whose faults this process resolves itself, and their pagers.
//!
//! A fault inside a copy of this crate is never resolved: the copy comes back short. [`fault_in`](crate::raw#fault-in) and
//! [`probe`](crate::raw#probe) then call the [`Pager`] of the address as an ordinary function, which may wait and take
//! locks. Faults of other code's instructions are resolved in the signal, by [`Pager::in_signal`], which may do neither.
//!
//! Registering and freeing pagers, and calling them as an ordinary function, is [outside](crate::signal::outside::pager).
//!
//! An entry is in a [slot](super::slots) that is never freed and is used for another range later, because a handler may be
//! reading it in any thread at any time. A thread inside a pager is counted as one of its [`Users`], and the last one frees a
//! pager whose range was dropped. In a signal nothing can be freed: there the last user puts the entry on a stack, and its
//! pager is freed when the next range is dropped. It is not freed in `fault_in`: the caller may hold locks, and the pager's
//! destructor is foreign code.

use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;

use super::registered::Registered;
use super::registry::Registry;
use super::slots::{Blank, Slot};
use super::stack::SignalContext;
use super::users::Users;
use crate::fault::{Access, Fault};

/// Resolves the faults of a range.
///
/// # Safety
///
/// [`in_signal`](Self::in_signal) runs in the handler of SIGSEGV and SIGBUS, on the thread that has faulted, on any stack
/// that the handler has, in the middle of any code of that thread. An implementation other than the default (which does
/// nothing) promises that it
///
/// * is async-signal-safe: it allocates and frees no memory, touches no thread-local value, takes no lock (unless it only
///   tries to, or no thread can fault in the range, or be interrupted by a signal, while it holds that lock), and calls
///   nothing that might (the C library's functions that are not async-signal-safe, formatting, output, `Drop`s);
/// * does not touch memory whose fault it would itself have to resolve;
/// * does not panic. A panic there ends the process: it cannot leave the function. But the panic hook runs before that, in
///   the signal, and the standard library's formats, allocates and prints.
///
/// The other methods are ordinary functions without such conditions.
pub unsafe trait Pager: Send + Sync + 'static {
    /// Makes the byte at `address` accessible for a moment. It is the first of `len` wanted bytes, of which the pager may
    /// make any number accessible. An ordinary function: it may wait, allocate and take locks. If it panics, the panic
    /// propagates to the caller of `fault_in` or `probe`.
    ///
    /// # Errors
    /// The [`Fault`] that remains, for example [`Cause::Backing`](crate::Cause::Backing) if the store has failed.
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault>;

    /// Returns whether an access to the byte at `address` would fault now, as far as is known without waiting for another
    /// thread. If so, [`fault_in`](Self::fault_in) is called at once; otherwise an access is tried first, and costs a
    /// signal if it does fault.
    ///
    /// At the end, `fault_in` and `probe` of several pages call this for all of them: a pager may have evicted one page for
    /// another. They come back short before a page for which the result is true. If the result is false although the page
    /// was evicted, they promise too much.
    fn would_fault(&self, address: usize, access: Access) -> bool {
        let _ = (address, access);
        false
    }

    /// Resolves the fault at `address` of an instruction of other code, which was interrupted. Returns whether the
    /// instruction may be repeated. Otherwise the signal goes to the handler that was installed before ours.
    ///
    /// Runs in the signal handler: see what an implementation [promises](Self#safety). It uses no more of the stack than
    /// `interrupted` reports as left; if it needs more, it returns false. A pager that waits checks pending signals now and
    /// then: see [`SignalContext::blocked`].
    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &SignalContext) -> bool {
        let _ = (address, access, interrupted);
        false
    }
}

/// The data of one range.
///
/// # Invariants
///
/// 1. While `users` is open or retired, `pager` is what `Box::into_raw` returned for a `Registrant`, and `start` and
///    `len` do not change. A thread frees it only after it has claimed the entry.
/// 2. A thread uses `pager` only after it has entered as one of `users`, when that was open, and before it leaves.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry {
    pub(in crate::signal) users: Users,
    pub(in crate::signal) start: AtomicUsize,
    pub(in crate::signal) len: AtomicUsize,
    pub(in crate::signal) pager: AtomicPtr<Calls>,
}

// SAFETY: atomic variables, for which all zeros is a value.
unsafe impl Blank for Entry {}

/// A pager in a form that objects with another compiler's method tables can call.
#[derive(Debug)]
#[repr(C)]
pub(in crate::signal) struct Calls {
    pub(in crate::signal) fault_in: unsafe extern "C-unwind" fn(*const Calls, usize, usize, Access, &mut Fault) -> bool,
    pub(in crate::signal) would_fault: unsafe extern "C-unwind" fn(*const Calls, usize, Access) -> bool,
    /// It cannot unwind: a panic ends the process there.
    pub(in crate::signal) in_signal: unsafe extern "C" fn(*const Calls, usize, u32, &SignalContext) -> bool,
    pub(in crate::signal) free: unsafe extern "C-unwind" fn(*mut Calls),
}

/// A pager, and the functions to call it.
#[repr(C)]
pub(in crate::signal) struct Registrant {
    pub(in crate::signal) calls: Calls,
    pub(in crate::signal) pager: Arc<dyn Pager>,
}

/// The value for `in_signal` of an unknown access.
const UNKNOWN: u32 = 0;
const READ: u32 = 1;
const WRITE: u32 = 2;

/// # Safety
/// `calls` is a `Registrant` of this object that was not freed.
pub(in crate::signal) unsafe fn pager<'a>(calls: *const Calls) -> &'a dyn Pager {
    // SAFETY: by contract; `calls` comes first in it.
    unsafe { &*(*calls.cast::<Registrant>()).pager }
}

pub(in crate::signal) unsafe extern "C" fn in_signal(
    calls: *const Calls,
    address: usize,
    access: u32,
    interrupted: &SignalContext,
) -> bool {
    let access = match access {
        READ => Some(Access::Read),
        WRITE => Some(Access::Write),
        _ => None,
    };
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { pager(calls) }.in_signal(address, access, interrupted)
}

impl Entry {
    pub(in crate::signal) fn range(&self) -> Range<usize> {
        let start = self.start.load(Ordering::Relaxed);
        start..start + self.len.load(Ordering::Relaxed)
    }

    pub(in crate::signal) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.load(Ordering::Relaxed)) < self.len.load(Ordering::Relaxed)
    }
}

/// A thread inside a pager, until this is dropped (also because a pager panics): which frees a pager whose range is gone,
/// so a handler [leaves without](Self::leave_without_freeing).
pub(in crate::signal) struct Entered<'a> {
    pub(in crate::signal) registry: &'a Registry,
    pub(in crate::signal) entry: &'static Slot<Entry>,
}

impl<'a> Entered<'a> {
    /// Enters, if this range is registered and contains `address`. A thread that meets a dropped range frees nothing: it
    /// may hold locks.
    pub(in crate::signal) fn enter(
        registry: &'a Registry,
        entry: &'static Slot<Entry>,
        address: usize,
    ) -> Option<Self> {
        let is_open = entry.users.enter();
        let inside = Entered { registry, entry };
        // A thread that uses an address of a range learned of the range before, so it sees the range's bounds.
        if is_open && entry.contains(address) {
            return Some(inside);
        }
        inside.leave_without_freeing();
        None
    }

    /// Enters the registered range that contains `address`, if it has a pager.
    #[inline]
    pub(in crate::signal) fn at(registry: &'a Registry, address: usize) -> Option<Self> {
        match registry.at(address)? {
            Registered::Pager(entry) => Entered::enter(registry, entry, address),
            Registered::Guard(_) => None,
        }
    }

    pub(in crate::signal) fn calls(&self) -> *const Calls {
        self.entry.pager.load(Ordering::Relaxed)
    }

    /// Leaves, and notes what has to be freed. Async-signal-safe.
    pub(in crate::signal) fn leave_without_freeing(self) {
        let (registry, entry) = (self.registry, self.entry);
        core::mem::forget(self);
        if entry.users.leave() && entry.users.claim() {
            registry.pagers.push(&registry.retired_pagers, entry);
        }
    }
}

/// Returns whether the pager of `address` has resolved the fault of an instruction that is in no table, which may be
/// repeated now. `address` has no tag.
///
/// Async-signal-safe, as pagers have promised to be.
#[cold]
#[inline(never)]
pub(super) fn serve_signal(
    registry: &Registry,
    entry: &'static Slot<Entry>,
    access: Option<Access>,
    address: usize,
    interrupted: &SignalContext,
) -> bool {
    let access = match access {
        None => UNKNOWN,
        Some(Access::Read) => READ,
        Some(Access::Write) => WRITE,
    };
    let Some(inside) = Entered::enter(registry, entry, address) else { return false };
    let calls = inside.calls();
    // SAFETY: invariants 1 and 2 of `Entry`. A panic cannot leave `in_signal`.
    let served = unsafe { ((*calls).in_signal)(calls, address, access, interrupted) };
    inside.leave_without_freeing();
    served
}
