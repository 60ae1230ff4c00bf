//! Ranges whose faults this process serves itself, and who serves them.
//!
//! A copy of this crate's never has a fault served inside it: it comes back short. [`fault_in`](mod@crate::fault_in) and
//! [`probe`](crate::probe) then call the [`Pager`] of the address as an ordinary function, which may wait and take locks.
//! Others' instructions are served in the signal, by [`Pager::in_signal`], which may do neither.
//!
//! An entry is never freed, because a handler may be looking at it in any thread at any time: it is used again for another
//! range. Whoever is within a pager counts itself in and out, and a range goes only when nobody is.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;

pub use super::stack::Interrupted;
use crate::arch;
use crate::fault::{Access, Cause, Fault};
use crate::registry::{self, InstallError, REGISTRY, Registry};

/// Serves the faults of a range.
pub trait Pager: Send + Sync + 'static {
    /// Makes the byte at `address` accessible for a moment, the first of `len` that are wanted: as many of the others as it likes.
    /// An ordinary function: it may wait, allocate and take locks.
    ///
    /// # Errors
    /// The [`Fault`] that remains: [`Cause::Backing`](crate::Cause::Backing), if what is behind has failed.
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault>;

    /// Whether an access to the byte at `address` would fault now, as far as is known without waiting for anybody. If so,
    /// [`fault_in`](Self::fault_in) is called at once; otherwise an access is tried first, and costs a signal if it does
    /// fault. So a wrong answer costs time, and nothing else.
    fn would_fault(&self, address: usize, access: Access) -> bool {
        let _ = (address, access);
        false
    }

    /// As [`fault_in`](Self::fault_in), for an instruction of somebody else's that has been interrupted at `address`:
    /// whether it is to be repeated. Otherwise the signal goes to whoever was there before.
    ///
    /// Runs in the signal handler, on the thread that faulted, whatever that was doing: it must be async-signal-safe (no
    /// allocation, no lock that the thread could hold). It uses no more of the stack than `interrupted` says is left: what that is
    /// too little for is not to be repeated. One that waits looks at pending signals now and then: see [`Interrupted::blocked`].
    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &Interrupted) -> bool {
        let _ = (address, access, interrupted);
        false
    }
}

/// A range that is being served, until this is dropped; which waits until nobody is within its pager.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Served {
    entry: &'static Entry,
}

/// What is known of one range.
///
/// # Invariants
///
/// 1. While `active`, `pager` is what `Box::into_raw` gave for an `Arc<dyn Pager>`; it is freed only after `active` was taken
///    back and `inside` was seen to be 0 thereafter.
/// 2. Whoever uses `pager` has first added itself to `inside` and then seen `active`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry {
    next: AtomicPtr<Entry>,
    taken: AtomicBool,
    active: AtomicBool,
    inside: AtomicUsize,
    start: AtomicUsize,
    len: AtomicUsize,
    pager: AtomicPtr<()>,
    /// As an object with another compiler's tables of methods can call them.
    fault_in: extern "C" fn(*const (), usize, usize, Access, &mut Fault) -> bool,
    would_fault: extern "C" fn(*const (), usize, Access) -> bool,
    in_signal: extern "C" fn(*const (), usize, u32, &Interrupted) -> bool,
}

/// What `in_signal` is told of the access.
const UNKNOWN: u32 = 0;
const READ: u32 = 1;
const WRITE: u32 = 2;

extern "C" fn fault_in(pager: *const (), address: usize, len: usize, access: Access, fault: &mut Fault) -> bool {
    // SAFETY: invariants 1 and 2 of `Entry`: the box is there.
    let pager = unsafe { &*pager.cast::<Arc<dyn Pager>>() };
    pager.fault_in(address, len, access).map_err(|error| *fault = error).is_ok()
}

extern "C" fn would_fault(pager: *const (), address: usize, access: Access) -> bool {
    // SAFETY: invariants 1 and 2 of `Entry`: the box is there.
    let pager = unsafe { &*pager.cast::<Arc<dyn Pager>>() };
    pager.would_fault(address, access)
}

extern "C" fn in_signal(pager: *const (), address: usize, access: u32, interrupted: &Interrupted) -> bool {
    // SAFETY: invariants 1 and 2 of `Entry`: the box is there.
    let pager = unsafe { &*pager.cast::<Arc<dyn Pager>>() };
    let access = match access {
        READ => Some(Access::Read),
        WRITE => Some(Access::Write),
        _ => None,
    };
    pager.in_signal(address, access, interrupted)
}

/// Has faults in `range` served by `pager` from now on.
///
/// The range is to be the pager's, or its owner's: nothing is mapped or unmapped here.
///
/// # Errors
/// [`InstallError`], from [`install`](crate::install).
pub fn serve(range: Range<usize>, pager: Arc<dyn Pager>) -> Result<Served, InstallError> {
    super::install()?;
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let free = |entry: &&Entry| entry.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let entry = registry.entries_of_pagers().find(free).unwrap_or_else(|| registry.add_pager());
    entry.start.store(range.start, Ordering::Relaxed);
    entry.len.store(range.len(), Ordering::Relaxed);
    entry.pager.store(Box::into_raw(Box::new(pager)).cast(), Ordering::Relaxed);
    entry.active.store(true, Ordering::SeqCst);
    Ok(Served { entry })
}

impl Drop for Served {
    fn drop(&mut self) {
        self.entry.active.store(false, Ordering::SeqCst);
        let mut spins = 0_u32;
        while self.entry.inside.load(Ordering::SeqCst) != 0 {
            spins += 1;
            if spins.is_multiple_of(1 << 10) {
                std::thread::yield_now();
            }
        }
        let pager = self.entry.pager.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: invariant 1 of `Entry`: it came from a box, and nobody uses it any more or will.
        drop(unsafe { Box::from_raw(pager.cast::<Arc<dyn Pager>>()) });
        self.entry.taken.store(false, Ordering::Release);
    }
}

impl Entry {
    /// Calls `use_it` with the pager, if this is a range with `address` in it.
    fn with<R>(&self, address: usize, use_it: impl FnOnce(*const ()) -> R) -> Option<R> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        // Also if a pager panics.
        let _out = Out(&self.inside);
        if !self.active.load(Ordering::SeqCst) {
            return None;
        }
        let at = address.wrapping_sub(self.start.load(Ordering::Relaxed));
        (at < self.len.load(Ordering::Relaxed)).then(|| use_it(self.pager.load(Ordering::Relaxed)))
    }
}

/// Counts out.
struct Out<'a>(&'a AtomicUsize);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Has the fault at `address` served, the first of `len` bytes that are wanted, if somebody serves it: as an ordinary function.
pub(crate) fn bring_in(address: usize, len: usize, access: Access) -> Option<Result<(), Fault>> {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    registry.with_pager(address, |entry, pager, address| {
        let mut fault = Fault::refused(access, Cause::Backing, address);
        if (entry.fault_in)(pager, address, len, access, &mut fault) { Ok(()) } else { Err(fault) }
    })
}

/// Whether somebody serves the byte at `address`, and says that an access would fault.
#[inline]
pub(crate) fn expects_fault(address: usize, access: Access) -> bool {
    let registry = registry::of(arch::object()).unwrap_or(&REGISTRY);
    let would = |entry: &Entry, pager, address| (entry.would_fault)(pager, address, access);
    registry.with_pager(address, would).unwrap_or(false)
}

/// Whether somebody has served the fault of an instruction that is in no table, which may be repeated now.
///
/// Async-signal-safe, as far as the pager is.
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
    let serve = |entry: &Entry, pager, address| (entry.in_signal)(pager, address, access, interrupted);
    registry.with_pager(address, serve).unwrap_or(false)
}

impl Registry {
    /// Calls `use_it` with the range that has `address` in it, its pager and the address without its tag, if there is one.
    #[inline]
    fn with_pager<R>(&self, address: usize, mut use_it: impl FnMut(&Entry, *const (), usize) -> R) -> Option<R> {
        let address = arch::untag(address);
        self.entries_of_pagers().find_map(|entry| entry.with(address, |pager| use_it(entry, pager, address)))
    }

    fn entries_of_pagers(&self) -> impl Iterator<Item = &'static Entry> {
        // SAFETY: entries are never freed, and complete before they are published.
        let entry = |at: *mut Entry| unsafe { at.as_ref() };
        core::iter::successors(entry(self.pagers.load(Ordering::Acquire)), move |last| {
            entry(last.next.load(Ordering::Relaxed))
        })
    }

    fn add_pager(&self) -> &'static Entry {
        let entry = Entry {
            next: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicBool::new(true),
            active: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            pager: AtomicPtr::new(ptr::null_mut()),
            fault_in,
            would_fault,
            in_signal,
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
