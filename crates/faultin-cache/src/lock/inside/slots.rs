//! The threads that hold locks, which a signal handler may read at any time: [`Threads`].

use crate::sync::{self, AtomicU32, AtomicU64, Blank, Ordering, Slot, Slots};

/// A slot for each thread that has held a lock.
#[derive(Debug)]
pub(crate) struct Threads(Slots<Thread>);

/// One thread, or none at the moment. Written by its thread only, with every lock: so no two are in a line of the CPU's
/// caches, nor in two that are fetched together.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Thread {
    /// 0 if it is free.
    thread: AtomicU32,
    held: AtomicU32,
    /// The address of the lock that it shares without being counted, or 0.
    shares: AtomicU64,
}

// SAFETY: atomic variables, for which all zeros is a value: no thread.
unsafe impl Blank for Thread {
    #[cfg(faultin_loom)]
    fn blank() -> Self {
        Thread { thread: AtomicU32::new(0), held: AtomicU32::new(0), shares: AtomicU64::new(0) }
    }
}

impl Threads {
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Threads {
        Threads(Slots::new())
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Threads {
        Threads(Slots::new())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Slot<Thread>> {
        self.0.all()
    }

    /// Returns whether this thread holds a lock. Async-signal-safe.
    pub(crate) fn is_held_by(&self, thread: u32) -> bool {
        self.all().any(|slot| slot.thread.load(Ordering::Relaxed) == thread && slot.held.load(Ordering::Relaxed) != 0)
    }

    /// Returns whether a thread shares this lock without being counted. Async-signal-safe.
    pub(super) fn share(&self, lock: u64) -> bool {
        self.all().any(|slot| slot.shares.load(Ordering::Acquire) == lock)
    }

    // Outside signals: it may allocate.
    /// Returns a slot for the calling thread of this process: one that no thread uses any more, or a new one.
    pub(crate) fn take(&self, thread: u32, process: u32) -> &'static Slot<Thread> {
        let slot = self.0.take(process);
        slot.rename(thread);
        slot
    }

    /// The thread of a slot ends.
    pub(crate) fn give_back(&self, slot: &'static Slot<Thread>) {
        slot.clear();
        self.0.give_back(slot);
    }
}

impl Thread {
    /// Sets the id of its thread.
    pub(crate) fn rename(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Adds to the number of locks. By its own thread, so no read-modify-write is needed.
    #[inline]
    pub(crate) fn count(&self, more: i32) {
        self.held.store(self.held.load(Ordering::Relaxed).wrapping_add_signed(more), Ordering::Relaxed);
    }

    /// Returns whether its own thread holds a lock.
    pub(crate) fn holds_any(&self) -> bool {
        self.held.load(Ordering::Relaxed) != 0
    }

    /// Returns whether it shares this lock without being counted.
    #[inline]
    pub(super) fn shares(&self, lock: u64) -> bool {
        self.shares.load(Ordering::Relaxed) == lock
    }

    /// Returns whether it shares no lock without being counted.
    #[inline]
    pub(super) fn shares_none(&self) -> bool {
        self.shares(0)
    }

    /// Sets the address of the lock that its own thread shares, or 0, before all that this thread does afterwards.
    #[inline]
    pub(super) fn set_shares(&self, lock: u64) {
        sync::publish(&self.shares, lock);
    }

    /// Its thread is not in this process, or ends.
    pub(crate) fn clear(&self) {
        self.held.store(0, Ordering::Relaxed);
        self.shares.store(0, Ordering::Release);
        self.thread.store(0, Ordering::Relaxed);
    }
}
