//! Ranges whose faults this process resolves itself, and their pagers.
//!
//! A fault inside a copy of this crate is never resolved: the copy comes back short. [`fault_in`](crate::raw#fault-in) and
//! [`probe`](crate::raw#probe) then call the [`Pager`] of the address as an ordinary function, which may wait and take
//! locks. Faults of other code's instructions are resolved in the signal, by [`Pager::in_signal`], which may do neither.
//!
//! An entry is never freed, because a handler may be reading it in any thread at any time: it is reused for another range.
//! A thread inside a pager is counted as one of its [`Users`], and the last one frees a pager whose range was dropped. In a
//! signal nothing can be freed: there the last user leaves a note, and the pager is freed when the next range is dropped.
//! It is not freed in `fault_in`: the caller may hold locks, and the pager's destructor is foreign code.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;

pub use super::stack::Interrupted;
use super::users::Users;
use crate::arch;
use crate::fault::{Access, Cause, Fault};
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
    /// then: see [`Interrupted::blocked`].
    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &Interrupted) -> bool {
        let _ = (address, access, interrupted);
        false
    }
}

/// A registered range: its faults are resolved until this is dropped.
///
/// Dropping it never waits. The pager is dropped at once if no thread is inside it; otherwise the last thread drops it,
/// when it leaves. (If that thread is in a signal handler, the next call of [`serve`] or `fault_in`, or the next drop of a
/// `Served`, does.) So a pager may drop its own `Served`, and so may a thread that holds a lock for which another thread
/// waits in the pager. In a child of `fork`, a pager that a thread of the parent was inside is not dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Served {
    entry: &'static Entry,
}

/// The data of one range.
///
/// # Invariants
///
/// 1. While `users` is open or retired, `pager` is what `Box::into_raw` returned for a `Registration`, and `start` and
///    `len` do not change. A thread frees it only after it has claimed the entry.
/// 2. A thread uses `pager` only after it has entered as one of `users`, when that was open, and before it leaves.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry {
    next: AtomicPtr<Entry>,
    /// The process that has made it. A child of `fork` makes its own entries: users of these may have been its parent's
    /// threads.
    process: u32,
    taken: AtomicBool,
    users: Users,
    start: AtomicUsize,
    len: AtomicUsize,
    pager: AtomicPtr<Calls>,
}

/// A pager in a form that objects with another compiler's method tables can call.
#[derive(Debug)]
#[repr(C)]
struct Calls {
    fault_in: unsafe extern "C-unwind" fn(*const Calls, usize, usize, Access, &mut Fault) -> bool,
    would_fault: unsafe extern "C-unwind" fn(*const Calls, usize, Access) -> bool,
    /// It cannot unwind: a panic ends the process there.
    in_signal: unsafe extern "C" fn(*const Calls, usize, u32, &Interrupted) -> bool,
    free: unsafe extern "C-unwind" fn(*mut Calls),
}

/// A pager, and the functions to call it.
#[repr(C)]
struct Registration {
    calls: Calls,
    pager: Arc<dyn Pager>,
}

/// The value for `in_signal` of an unknown access.
const UNKNOWN: u32 = 0;
const READ: u32 = 1;
const WRITE: u32 = 2;

/// # Safety
/// `calls` is a `Registration` of this object that was not freed.
unsafe fn pager<'a>(calls: *const Calls) -> &'a dyn Pager {
    // SAFETY: by contract; `calls` comes first in it.
    unsafe { &*(*calls.cast::<Registration>()).pager }
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

unsafe extern "C" fn in_signal(calls: *const Calls, address: usize, access: u32, interrupted: &Interrupted) -> bool {
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
    drop(unsafe { Box::from_raw(calls.cast::<Registration>()) });
}

/// Registers `pager` for faults in `range`, until the `Served` is dropped.
///
/// # Errors
/// [`InstallError`] if [`install`](crate::install) fails.
///
/// # Safety
///
/// The addresses of `range` are the caller's: it has mapped or reserved them, and no other code uses them for anything else
/// until the `Served` is dropped. (This function maps and unmaps nothing. The pager gets every fault there that is not an
/// access of this crate, with the signal's whole context: for memory that is not the caller's, that would repeat
/// instructions that must fail.) No two ranges that are registered at the same time overlap.
pub unsafe fn serve(range: Range<usize>, pager: Arc<dyn Pager>) -> Result<Served, InstallError> {
    crate::install()?;
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let process = registry.process();
    let take = |entry: &Entry| entry.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let mut entries = registry.entries_of_pagers();
    let entry = entries.find(|entry| entry.process == process && take(entry));
    let entry = entry.unwrap_or_else(|| registry.add_pager(process));
    entry.start.store(range.start, Ordering::Relaxed);
    entry.len.store(range.len(), Ordering::Relaxed);
    let registration = Registration { calls: Calls { fault_in, would_fault, in_signal, free }, pager };
    entry.pager.store(Box::into_raw(Box::new(registration)).cast(), Ordering::Relaxed);
    entry.users.open();
    Ok(Served { entry })
}

impl Drop for Served {
    fn drop(&mut self) {
        self.entry.users.retire();
        self.entry.free_if_unused();
        registry::of(arch::object()).unwrap_or(&REGISTRY).free_retired();
    }
}

impl Entry {
    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.load(Ordering::Relaxed)) < self.len.load(Ordering::Relaxed)
    }

    /// Returns the addresses of the range among `len` from `address` on.
    fn part_of(&self, address: usize, len: usize) -> Option<Range<usize>> {
        let start = self.start.load(Ordering::Relaxed);
        let end = start.saturating_add(self.len.load(Ordering::Relaxed));
        let part = start.max(address)..end.min(address.saturating_add(len));
        (!part.is_empty()).then_some(part)
    }

    /// Enters, if this range is registered and contains `address`. A thread that meets a dropped range frees nothing: it
    /// may hold locks.
    fn enter(&'static self, registry: &Registry, address: usize) -> Option<Inside> {
        // Most ranges do not contain it, and are not written to. A thread that uses an address of a range learned of the
        // range before, so it sees the range's bounds.
        if !self.contains(address) {
            return None;
        }
        let is_open = self.users.enter();
        let inside = Inside(self);
        if is_open && self.contains(address) {
            return Some(inside);
        }
        inside.leave_without_freeing(registry);
        None
    }

    /// Frees the pager of a dropped range, if no thread is inside it.
    fn free_if_unused(&self) {
        if self.users.claim() {
            let pager = self.pager.swap(ptr::null_mut(), Ordering::Relaxed);
            // Makes the entry available for another range, also if the pager's drop panics.
            let _free = Free(&self.taken);
            // SAFETY: invariant 1, and this thread has claimed it.
            unsafe { ((*pager).free)(pager) };
        }
    }
}

/// Makes an entry available again when this is dropped.
struct Free<'a>(&'a AtomicBool);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A thread inside a pager, until this is dropped (also because a pager panics).
struct Inside(&'static Entry);

impl Inside {
    /// Leaves, and notes what has to be freed. Async-signal-safe.
    fn leave_without_freeing(self, registry: &Registry) {
        let entry = self.0;
        core::mem::forget(self);
        if entry.users.leave() {
            registry.retired_pagers.store(1, Ordering::Release);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.0.users.leave() {
            self.0.free_if_unused();
        }
    }
}

/// Calls the pager of `address`, if there is one, to make the first of `len` bytes there accessible: as an ordinary
/// function.
pub(crate) fn bring_in(address: usize, len: usize, access: Access) -> Option<Result<(), Fault>> {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let address = arch::untag(address);
    let inside = registry.enter(address)?;
    let calls = inside.0.pager.load(Ordering::Relaxed);
    let mut fault = Fault::refused(access, Cause::Backing, address);
    // SAFETY: invariants 1 and 2 of `Entry`.
    let done = unsafe { ((*calls).fault_in)(calls, address, len, access, &mut fault) };
    Some(if done { Ok(()) } else { Err(fault) })
}

/// Returns whether the byte at `address` has a pager that expects an access to fault.
#[inline]
pub(crate) fn expects_fault(address: usize, access: Access) -> bool {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let address = arch::untag(address);
    let Some(inside) = registry.enter(address) else { return false };
    let calls = inside.0.pager.load(Ordering::Relaxed);
    // SAFETY: invariants 1 and 2 of `Entry`.
    unsafe { ((*calls).would_fault)(calls, address, access) }
}

/// Returns whether a byte of `len` from `address` on has a pager.
pub(crate) fn serves(address: usize, len: usize) -> bool {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let address = arch::untag(address);
    registry
        .entries_of_pagers()
        .any(|entry| entry.part_of(address, len).is_some_and(|part| entry.enter(registry, part.start).is_some()))
}

/// Finds the first page of `len` bytes from `address` on for which a pager expects an access to fault: returns the offset
/// of its first byte.
pub(crate) fn first_gone(address: usize, len: usize, page: usize, access: Access) -> Option<usize> {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let address = arch::untag(address);
    let gone = registry.entries_of_pagers().filter_map(|entry| {
        let part = entry.part_of(address, len)?;
        let inside = entry.enter(registry, part.start)?;
        let calls = inside.0.pager.load(Ordering::Relaxed);
        let mut at = part.start;
        while at < part.end {
            // SAFETY: invariants 1 and 2 of `Entry`.
            if unsafe { ((*calls).would_fault)(calls, at, access) } {
                return Some(at - address);
            }
            at = (at | (page - 1)).checked_add(1)?;
        }
        None
    });
    gone.min()
}

/// Returns whether a pager has resolved the fault of an instruction that is in no table, which may be repeated now.
///
/// Async-signal-safe, as pagers have promised to be.
#[cold]
#[inline(never)]
pub(super) fn serve_signal(
    registry: &Registry,
    access: Option<Access>,
    address: usize,
    interrupted: &Interrupted,
) -> bool {
    let access = match access {
        None => UNKNOWN,
        Some(Access::Read) => READ,
        Some(Access::Write) => WRITE,
    };
    let address = arch::untag(address);
    for entry in registry.entries_of_pagers().filter(|entry| entry.contains(address)) {
        let is_open = entry.users.enter();
        let inside = Inside(entry);
        let is_meant = is_open && entry.contains(address);
        let served = is_meant && {
            let calls = entry.pager.load(Ordering::Relaxed);
            // SAFETY: invariants 1 and 2 of `Entry`.
            unsafe { ((*calls).in_signal)(calls, address, access, interrupted) }
        };
        inside.leave_without_freeing(registry);
        if is_meant {
            return served;
        }
    }
    false
}

impl Registry {
    /// Enters the registered range that contains `address`, if there is one.
    #[inline]
    fn enter(&self, address: usize) -> Option<Inside> {
        self.entries_of_pagers().find_map(|entry| entry.enter(self, address))
    }

    /// Frees the pagers whose last user could not free them.
    #[inline]
    fn free_retired(&self) {
        if self.retired_pagers.load(Ordering::Relaxed) != 0 {
            self.retired_pagers.swap(0, Ordering::Acquire);
            self.entries_of_pagers().for_each(Entry::free_if_unused);
        }
    }

    fn entries_of_pagers(&self) -> impl Iterator<Item = &'static Entry> {
        // SAFETY: entries are never freed, and complete before they are published.
        let entry = |at: *mut Entry| unsafe { at.as_ref() };
        core::iter::successors(entry(self.pagers.load(Ordering::Acquire)), move |last| {
            entry(last.next.load(Ordering::Relaxed))
        })
    }

    fn add_pager(&self, process: u32) -> &'static Entry {
        let entry = Entry {
            next: AtomicPtr::new(ptr::null_mut()),
            process,
            taken: AtomicBool::new(true),
            users: Users::new(),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            pager: AtomicPtr::new(ptr::null_mut()),
        };
        let entry: &'static Entry = Box::leak(Box::new(entry));
        let this = ptr::from_ref(entry).cast_mut();
        let mut first = self.pagers.load(Ordering::Relaxed);
        loop {
            entry.next.store(first, Ordering::Relaxed);
            match self.pagers.compare_exchange_weak(first, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return entry,
                Err(now) => first = now,
            }
        }
    }
}
