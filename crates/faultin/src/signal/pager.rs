//! Ranges whose faults this process resolves itself, and their pagers.
//!
//! A fault inside a copy of this crate is never resolved: the copy comes back short. [`fault_in`](crate::raw#fault-in) and
//! [`probe`](crate::raw#probe) then call the [`Pager`] of the address as an ordinary function, which may wait and take
//! locks. Faults of other code's instructions are resolved in the signal, by [`Pager::in_signal`], which may do neither.
//!
//! An entry is in a [slot](super::slots) that is never freed and is used for another range later, because a handler may be
//! reading it in any thread at any time. A thread inside a pager is counted as one of its [`Users`], and the last one frees a
//! pager whose range was dropped. In a signal nothing can be freed: there the last user puts the entry on a stack, and its
//! pager is freed when the next range is dropped. It is not freed in `fault_in`: the caller may hold locks, and the pager's
//! destructor is foreign code.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;

use super::events::record_without_signal;
use super::registered::Registered;
use super::slots::{Blank, Slot};
pub use super::stack::SignalContext;
use super::users::Users;
use crate::arch;
use crate::events::Outcome;
use crate::fault::{Access, Cause, Fault};
use crate::page_size;
use crate::registry::{self, InstallError, REGISTRY, Registry};

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

/// A registered range: its faults are resolved until this is dropped.
///
/// Dropping it never waits. The pager is dropped at once if no thread is inside it; otherwise the last thread drops it,
/// when it leaves. (If that thread is in a signal handler, the next call of [`register`] or `fault_in`, or the next drop of a
/// `Registration`, does.) So a pager may drop its own `Registration`, and so may a thread that holds a lock for which another thread
/// waits in the pager. In a child of `fork`, a pager that a thread of the parent was inside is not dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Registration {
    entry: &'static Slot<Entry>,
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
    users: Users,
    start: AtomicUsize,
    len: AtomicUsize,
    pager: AtomicPtr<Calls>,
}

// SAFETY: atomic variables, for which all zeros is a value.
unsafe impl Blank for Entry {}

/// A pager in a form that objects with another compiler's method tables can call.
#[derive(Debug)]
#[repr(C)]
struct Calls {
    fault_in: unsafe extern "C-unwind" fn(*const Calls, usize, usize, Access, &mut Fault) -> bool,
    would_fault: unsafe extern "C-unwind" fn(*const Calls, usize, Access) -> bool,
    /// It cannot unwind: a panic ends the process there.
    in_signal: unsafe extern "C" fn(*const Calls, usize, u32, &SignalContext) -> bool,
    free: unsafe extern "C-unwind" fn(*mut Calls),
}

/// A pager, and the functions to call it.
#[repr(C)]
struct Registrant {
    calls: Calls,
    pager: Arc<dyn Pager>,
}

/// The value for `in_signal` of an unknown access.
const UNKNOWN: u32 = 0;
const READ: u32 = 1;
const WRITE: u32 = 2;

/// # Safety
/// `calls` is a `Registrant` of this object that was not freed.
unsafe fn pager<'a>(calls: *const Calls) -> &'a dyn Pager {
    // SAFETY: by contract; `calls` comes first in it.
    unsafe { &*(*calls.cast::<Registrant>()).pager }
}

unsafe extern "C-unwind" fn fault_in(
    calls: *const Calls,
    address: usize,
    len: usize,
    access: Access,
    fault: &mut Fault,
) -> bool {
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { pager(calls) }.fault_in(address, len, access).map_err(|error| *fault = error).is_ok()
}

unsafe extern "C-unwind" fn would_fault(calls: *const Calls, address: usize, access: Access) -> bool {
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { pager(calls) }.would_fault(address, access)
}

unsafe extern "C" fn in_signal(calls: *const Calls, address: usize, access: u32, interrupted: &SignalContext) -> bool {
    let access = match access {
        READ => Some(Access::Read),
        WRITE => Some(Access::Write),
        _ => None,
    };
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { pager(calls) }.in_signal(address, access, interrupted)
}

unsafe extern "C-unwind" fn free(calls: *mut Calls) {
    // SAFETY: invariant 1 of `Entry`: it came from such a box, and the caller has claimed it.
    drop(unsafe { Box::from_raw(calls.cast::<Registrant>()) });
}

/// Registers `pager` for faults in `range`, until the `Registration` is dropped.
///
/// # Errors
/// [`InstallError`] if [`install`](crate::install) fails.
///
/// # Safety
///
/// The addresses of `range` are the caller's: it has mapped or reserved them, and no other code uses them for anything else
/// until the `Registration` is dropped. (This function maps and unmaps nothing. The pager gets every fault there that is not an
/// access of this crate, with the signal's whole context: for memory that is not the caller's, that would repeat
/// instructions that must fail.) No two ranges that are registered at the same time have a page in common, nor has one with a
/// map of this crate.
pub unsafe fn register(range: Range<usize>, pager: Arc<dyn Pager>) -> Result<Registration, InstallError> {
    crate::install()?;
    let registry = registry();
    let entry = registry.pagers.take(registry.process.number());
    entry.start.store(range.start, Ordering::Relaxed);
    entry.len.store(range.len(), Ordering::Relaxed);
    let registration = Registrant { calls: Calls { fault_in, would_fault, in_signal, free }, pager };
    entry.pager.store(Box::into_raw(Box::new(registration)).cast(), Ordering::Relaxed);
    entry.users.open();
    registry.register(&entry.range(), Registered::Pager(entry));
    Ok(Registration { entry })
}

impl Drop for Registration {
    fn drop(&mut self) {
        let (entry, registry) = (self.entry, registry());
        registry.unregister(&entry.range(), Registered::Pager(entry));
        entry.users.retire();
        if entry.users.claim() {
            free_pager(registry, entry);
        }
        while let Some(entry) = registry.pagers.pop(&registry.retired_pagers) {
            free_pager(registry, entry);
        }
    }
}

/// Returns the registry of this object, which was installed before it had a range.
#[inline]
fn registry() -> &'static Registry {
    registry::of(arch::object()).unwrap_or(&REGISTRY)
}

impl Entry {
    fn range(&self) -> Range<usize> {
        let start = self.start.load(Ordering::Relaxed);
        start..start + self.len.load(Ordering::Relaxed)
    }

    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.load(Ordering::Relaxed)) < self.len.load(Ordering::Relaxed)
    }
}

/// Frees the pager of a dropped range.
fn free_pager(registry: &Registry, entry: &'static Slot<Entry>) {
    /// Gives the entry back, also if the pager's drop panics.
    struct GiveBack<'a>(&'a Registry, &'static Slot<Entry>);

    impl Drop for GiveBack<'_> {
        fn drop(&mut self) {
            self.0.pagers.give_back(self.1);
        }
    }

    let pager = entry.pager.swap(ptr::null_mut(), Ordering::Relaxed);
    let _give_back = GiveBack(registry, entry);
    // SAFETY: invariant 1 of `Entry`: the caller has claimed it, so no other thread frees or uses it.
    unsafe { ((*pager).free)(pager) };
}

/// A thread inside a pager, until this is dropped (also because a pager panics).
struct Inside<'a> {
    registry: &'a Registry,
    entry: &'static Slot<Entry>,
}

impl<'a> Inside<'a> {
    /// Enters, if this range is registered and contains `address`. A thread that meets a dropped range frees nothing: it
    /// may hold locks.
    fn enter(registry: &'a Registry, entry: &'static Slot<Entry>, address: usize) -> Option<Self> {
        let is_open = entry.users.enter();
        let inside = Inside { registry, entry };
        // A thread that uses an address of a range learned of the range before, so it sees the range's bounds.
        if is_open && entry.contains(address) {
            return Some(inside);
        }
        inside.leave_without_freeing();
        None
    }

    /// Enters the registered range that contains `address`, if it has a pager.
    #[inline]
    fn at(registry: &'a Registry, address: usize) -> Option<Self> {
        match registry.at(address)? {
            Registered::Pager(entry) => Inside::enter(registry, entry, address),
            Registered::Guard(_) => None,
        }
    }

    fn calls(&self) -> *const Calls {
        self.entry.pager.load(Ordering::Relaxed)
    }

    /// Leaves, and notes what has to be freed. Async-signal-safe.
    fn leave_without_freeing(self) {
        let (registry, entry) = (self.registry, self.entry);
        core::mem::forget(self);
        if entry.users.leave() && entry.users.claim() {
            registry.pagers.push(&registry.retired_pagers, entry);
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if self.entry.users.leave() && self.entry.users.claim() {
            free_pager(self.registry, self.entry);
        }
    }
}

/// Returns the pagers of the ranges that have a page among `range`, in ascending order, each with the part of it that is
/// registered.
fn pagers_in(registry: &Registry, range: Range<usize>) -> impl Iterator<Item = (Inside<'_>, Range<usize>)> {
    let (mut at, end, page) = (range.start, range.end, page_size());
    core::iter::from_fn(move || {
        loop {
            let (found, of) = match registry.first_in(&(at..end))? {
                Registered::Pager(entry) => (Some(entry), entry.range()),
                Registered::Guard(guard) => (None, guard.range()),
            };
            let part = of.start.max(at)..of.end.min(end);
            // Whatever happens to what was found meanwhile, the search advances.
            at = of.end.checked_next_multiple_of(page).unwrap_or(usize::MAX).max((at | (page - 1)).saturating_add(1));
            if let Some(entry) = found
                && !part.is_empty()
                && let Some(inside) = Inside::enter(registry, entry, part.start)
            {
                return Some((inside, part));
            }
        }
    })
}

/// Calls the pager of `address`, if there is one, to make the first of `len` bytes there accessible: as an ordinary
/// function.
pub(crate) fn bring_in(address: usize, len: usize, access: Access) -> Option<Result<(), Fault>> {
    let address = arch::untag(address);
    let inside = Inside::at(registry(), address)?;
    let calls = inside.calls();
    let mut fault = Fault::rejected(access, Cause::Backing, address);
    // SAFETY: invariants 1 and 2 of `Entry`.
    let done = unsafe { ((*calls).fault_in)(calls, address, len, access, &mut fault) };
    if done {
        return Some(Ok(()));
    }
    record_without_signal(Outcome::Refused, &fault, address);
    Some(Err(fault))
}

/// Returns whether the byte at `address` has a pager that expects an access to fault.
#[inline]
pub(crate) fn expects_fault(address: usize, access: Access) -> bool {
    let registry = registry();
    // Apart, so that programs without pagers and maps do not prepare for the call of one.
    !registry.ranges.is_empty() && expects_fault_at(registry, address, access)
}

#[inline(never)]
fn expects_fault_at(registry: &Registry, address: usize, access: Access) -> bool {
    let address = arch::untag(address);
    let Some(inside) = Inside::at(registry, address) else { return false };
    let calls = inside.calls();
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { ((*calls).would_fault)(calls, address, access) }
}

/// Returns whether a byte of `len` from `address` on has a pager.
pub(crate) fn serves(address: usize, len: usize) -> bool {
    let address = arch::untag(address);
    pagers_in(registry(), address..address.saturating_add(len)).next().is_some()
}

/// Finds the first page of `len` bytes from `address` on for which a pager expects an access to fault: returns the offset
/// of its first byte.
pub(crate) fn first_gone(address: usize, len: usize, page: usize, access: Access) -> Option<usize> {
    let address = arch::untag(address);
    pagers_in(registry(), address..address.saturating_add(len)).find_map(|(inside, part)| {
        let calls = inside.calls();
        let mut at = part.start;
        while at < part.end {
            // SAFETY: invariants 1 and 2 of `Entry`.
            if unsafe { ((*calls).would_fault)(calls, at, access) } {
                return Some(at - address);
            }
            at = (at | (page - 1)).checked_add(1)?;
        }
        None
    })
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
    let Some(inside) = Inside::enter(registry, entry, address) else { return false };
    let calls = inside.calls();
    // SAFETY: invariants 1 and 2 of `Entry`. A panic cannot leave `in_signal`.
    let served = unsafe { ((*calls).in_signal)(calls, address, access, interrupted) };
    inside.leave_without_freeing();
    served
}
