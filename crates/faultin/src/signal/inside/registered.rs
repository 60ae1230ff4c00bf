//! What is registered for an address: a pager or a guard, in one tree of [`Ranges`](super::ranges::Ranges).
//!
//! What a lookup finds may be dropped at the same time, and its slot taken for another range. So whoever finds a slot
//! enters as one of its users, and then checks that it is open and still contains the address.

use core::ops::Range;
use core::ptr;

use super::guard::Guard;
use super::pager::Entry;
use super::registry::Registry;
use super::slots::Slot;

/// What is registered for a range.
#[derive(Clone, Copy)]
pub(crate) enum Registered {
    /// A pager resolves its faults.
    Pager(&'static Slot<Entry>),
    /// Scans of a mapping may meet zeros there.
    Guard(&'static Slot<Guard>),
}

/// The bit of a value that marks a guard.
const GUARD: usize = 1;
const _: () = assert!(align_of::<Slot<Guard>>() > GUARD && align_of::<Slot<Entry>>() > GUARD);

impl Registered {
    pub(in crate::signal) fn value(self) -> *mut () {
        match self {
            Registered::Pager(slot) => ptr::from_ref(slot).cast_mut().cast(),
            Registered::Guard(slot) => ptr::from_ref(slot).cast_mut().cast::<()>().map_addr(|address| address | GUARD),
        }
    }

    /// Returns what `value` stands for.
    ///
    /// # Safety
    /// It is null, or a registry's tree of ranges had it.
    #[inline]
    unsafe fn of(value: *mut ()) -> Option<Self> {
        if value.addr() & GUARD == 0 {
            // SAFETY: `register` has entered it, for a slot of this kind, and slots are never freed.
            return unsafe { value.cast::<Slot<Entry>>().as_ref() }.map(Registered::Pager);
        }
        let slot = value.map_addr(|address| address & !GUARD).cast::<Slot<Guard>>();
        // SAFETY: as above.
        unsafe { slot.as_ref() }.map(Registered::Guard)
    }
}

impl Registry {
    /// Returns what is registered for an address. Async-signal-safe.
    #[inline]
    pub(crate) fn at(&self, address: usize) -> Option<Registered> {
        // SAFETY: from the tree.
        unsafe { Registered::of(self.ranges.get(address)) }
    }

    /// Returns the first of what is registered for a page of `range`. Async-signal-safe.
    pub(crate) fn first_in(&self, range: &Range<usize>) -> Option<Registered> {
        // SAFETY: from the tree.
        unsafe { Registered::of(self.ranges.first(range)) }
    }
}
