//! The list of threads that hold locks, which a signal handler may read at any time: [`Slots`].

use std::ptr;

use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

/// Slots that are never freed, newest first. Never shrinks.
#[derive(Debug)]
pub(super) struct Slots {
    first: AtomicPtr<Slot>,
}

/// The slot of one thread, or of none at the moment. Written by its thread only, with every lock: so no two are in one
/// cache line, nor in two lines that are fetched together.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Slot {
    next: AtomicPtr<Slot>,
    taken: AtomicBool,
    /// 0 if it is free.
    thread: AtomicU32,
    held: AtomicU32,
}

impl Slots {
    #[cfg(not(faultin_loom))]
    pub(super) const fn new() -> Slots {
        Slots { first: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(faultin_loom)]
    pub(super) fn new() -> Slots {
        Slots { first: AtomicPtr::new(ptr::null_mut()) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'static Slot> {
        // SAFETY: slots are never freed, and complete before they are published.
        let slot = |at: *mut Slot| unsafe { at.as_ref() };
        core::iter::successors(slot(self.first.load(Ordering::Acquire)), move |last| {
            slot(last.next.load(Ordering::Relaxed))
        })
    }

    /// Returns whether this thread holds a lock. Async-signal-safe.
    pub(super) fn is_held_by(&self, thread: u32) -> bool {
        self.all().any(|slot| slot.thread.load(Ordering::Relaxed) == thread && slot.held.load(Ordering::Relaxed) != 0)
    }

    /// Returns a slot for the calling thread: a free one, or a new one.
    pub(super) fn take(&self, thread: u32) -> &'static Slot {
        let free =
            |slot: &&Slot| slot.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let slot = self.all().find(free).unwrap_or_else(|| self.add());
        slot.rename(thread);
        slot
    }

    fn add(&self) -> &'static Slot {
        let slot: &'static Slot = Box::leak(Box::new(Slot {
            next: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicBool::new(true),
            thread: AtomicU32::new(0),
            held: AtomicU32::new(0),
        }));
        let this = ptr::from_ref(slot).cast_mut();
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            slot.next.store(first, Ordering::Relaxed);
            match self.first.compare_exchange_weak(first, this, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return slot,
                Err(now) => first = now,
            }
        }
    }
}

impl Slot {
    /// Sets the id of its thread.
    pub(super) fn rename(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Adds to the number of locks. By its own thread, so no read-modify-write is needed.
    #[inline]
    pub(super) fn count(&self, more: i32) {
        self.held.store(self.held.load(Ordering::Relaxed).wrapping_add_signed(more), Ordering::Relaxed);
    }

    /// Frees the slot: its thread ends, or does not exist in this process.
    pub(super) fn give_back(&self) {
        self.held.store(0, Ordering::Relaxed);
        self.thread.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }
}
