//! Registering pagers, and calling them as an ordinary function.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use crate::arch;
use crate::events::Outcome;
use crate::fault::{Access, Cause, Fault};
use crate::page_size;
use crate::registry::InstallError;
use crate::signal::inside::events::record_without_signal;
use crate::signal::inside::pager::{Calls, Entered, Entry, Pager, Registrant, in_signal, pager};
use crate::signal::inside::registered::Registered;
use crate::signal::inside::registry::{Registry, own};
use crate::signal::inside::slots::Slot;

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
    let registry = own();
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
        let (entry, registry) = (self.entry, own());
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

unsafe extern "C-unwind" fn free(calls: *mut Calls) {
    // SAFETY: invariant 1 of `Entry`: it came from such a box, and the caller has claimed it.
    drop(unsafe { Box::from_raw(calls.cast::<Registrant>()) });
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

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.entry.users.leave() && self.entry.users.claim() {
            free_pager(self.registry, self.entry);
        }
    }
}

/// Returns the pagers of the ranges that have a page among `range`, in ascending order, each with the part of it that is
/// registered.
fn pagers_in(registry: &Registry, range: Range<usize>) -> impl Iterator<Item = (Entered<'_>, Range<usize>)> {
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
                && let Some(inside) = Entered::enter(registry, entry, part.start)
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
    let inside = Entered::at(own(), address)?;
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
    let registry = own();
    // Apart, so that programs without pagers and maps do not prepare for the call of one.
    !registry.ranges.is_empty() && expects_fault_at(registry, address, access)
}

#[inline(never)]
fn expects_fault_at(registry: &Registry, address: usize, access: Access) -> bool {
    let address = arch::untag(address);
    let Some(inside) = Entered::at(registry, address) else { return false };
    let calls = inside.calls();
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { ((*calls).would_fault)(calls, address, access) }
}

/// Returns whether a byte of `len` from `address` on has a pager.
pub(crate) fn serves(address: usize, len: usize) -> bool {
    let address = arch::untag(address);
    pagers_in(own(), address..address.saturating_add(len)).next().is_some()
}

/// Finds the first page of `len` bytes from `address` on for which a pager expects an access to fault: returns the offset
/// of its first byte.
pub(crate) fn first_gone(address: usize, len: usize, page: usize, access: Access) -> Option<usize> {
    let address = arch::untag(address);
    pagers_in(own(), address..address.saturating_add(len)).find_map(|(inside, part)| {
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
