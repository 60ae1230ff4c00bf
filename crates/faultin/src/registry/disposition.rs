//! What was in force for a signal, published so that a handler can read it.

use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// What there is to know of a `struct sigaction` to do as it says.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: c_int,
    /// The kernel's signal set.
    pub(crate) mask: u64,
}

impl Action {
    /// Whether it is a function, not the default or "ignore".
    pub(crate) fn is_function(&self) -> bool {
        self.handler != libc::SIG_DFL && self.handler != libc::SIG_IGN
    }
}

impl From<libc::sigaction> for Action {
    fn from(action: libc::sigaction) -> Self {
        const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
        // SAFETY: the C library's signal set begins with the kernel's.
        let mask = unsafe { (&raw const action.sa_mask).cast::<u64>().read_unaligned() };
        Action { handler: action.sa_sigaction, flags: action.sa_flags, mask }
    }
}

/// A published [`Action`]. Two slots: one is written while the other may be read.
#[repr(C)]
pub(crate) struct Disposition {
    current: AtomicPtr<Action>,
    slots: [UnsafeCell<MaybeUninit<Action>>; 2],
    next: AtomicUsize,
    /// Whether a one-shot (`SA_RESETHAND`) handler has had its shot.
    pub(crate) spent: AtomicU32,
}

// SAFETY: a slot is written only under the registry's lock and only while `current` points to the other one or to
// nothing; readers follow `current`.
unsafe impl Sync for Disposition {}

impl Disposition {
    pub(super) const fn new() -> Self {
        Disposition {
            current: AtomicPtr::new(core::ptr::null_mut()),
            slots: [UnsafeCell::new(MaybeUninit::uninit()), UnsafeCell::new(MaybeUninit::uninit())],
            next: AtomicUsize::new(0),
            spent: AtomicU32::new(0),
        }
    }

    /// What was there, if anything was recorded. Signal-safe.
    pub(crate) fn get(&self) -> Option<Action> {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: a non-null `current` points to a slot that was written before it was published.
        if current.is_null() { None } else { Some(unsafe { *current }) }
    }

    /// Publishes. Only under the registry's lock.
    pub(super) fn set(&self, action: Action) {
        let slot = self.slots[self.next.fetch_xor(1, Ordering::Relaxed) & 1].get();
        // SAFETY: the other slot is the published one; see `Sync`. A handler that still reads this slot from two
        // publications ago would have to be in the midst of copying it for the time of two sigaction calls; the values
        // it could mix are both plain data.
        unsafe { (*slot).write(action) };
        self.spent.store(0, Ordering::Relaxed);
        self.current.store(slot.cast(), Ordering::Release);
    }
}
