//! [`Slots`]: values that are never freed, because a handler may be reading one in any thread at any time, and that are
//! used again.
//!
//! Taking a slot, which may allocate, is in `signal/outside/slots.rs`.
//!
//! Taking and giving back a slot takes the same time whatever the number of slots, and needs no lock: free slots are a
//! stack. A child of `fork` makes its own slots: threads of its parent, which it does not have, may count as users of those
//! that it has inherited.

use core::ops::Deref;
use core::ptr;

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Number of slots of the first chunk; each further chunk has twice as many.
pub(in crate::signal) const FIRST: u32 = if cfg!(faultin_loom) { 1 } else { 8 };

/// Number of chunks: as many as numbers of slots need.
pub(in crate::signal) const CHUNKS: usize = (u32::BITS - FIRST.ilog2()) as usize + 1;

/// What a slot can hold.
///
/// # Safety
/// The value whose bytes are all zero is a valid one. It is what a new slot holds.
pub unsafe trait Blank: Sync + 'static {
    /// Makes the value, where atomic variables are models of such.
    #[cfg(faultin_loom)]
    fn blank() -> Self;
}

/// All slots of one kind.
///
/// # Invariants
///
/// 1. A chunk that is not null points to as many slots as it has place for, which are never freed.
/// 2. The chunks of slots that were handed out, or are in a [`Stack`], are not null.
#[derive(Debug)]
#[repr(C)]
pub struct Slots<T: 'static> {
    /// Number of slots that were made.
    pub(in crate::signal) made: AtomicU32,
    pub(in crate::signal) free: Stack,
    pub(in crate::signal) chunks: [AtomicPtr<Slot<T>>; CHUNKS],
}

/// A value that is never freed.
#[derive(Debug)]
#[repr(C)]
pub struct Slot<T> {
    /// The number of the slot, from 1.
    pub(in crate::signal) number: AtomicU32,
    /// The number of the next one in the [`Stack`] that it is in, 0 for none.
    pub(in crate::signal) next: AtomicU32,
    /// The process that has made it.
    pub(in crate::signal) process: AtomicU32,
    pub(in crate::signal) value: T,
}

impl<T> Deref for Slot<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Some slots, each at most in one stack. The lower half is the number of the top slot, 0 for none; the upper half counts
/// changes, so that a thread that was interrupted does not mistake a slot that is on top again for an unchanged stack.
#[derive(Debug)]
#[repr(transparent)]
pub struct Stack(AtomicU64);

macro_rules! constructors {
    ($($const:ident)?) => {
        impl Stack {
            /// Returns an empty stack.
            #[allow(clippy::new_without_default, reason = "for statics")]
            pub $($const)? fn new() -> Self {
                Stack(AtomicU64::new(0))
            }
        }
    };
}

#[cfg(not(faultin_loom))]
constructors!(const);
#[cfg(faultin_loom)]
constructors!();

impl Stack {
    /// Returns whether it was empty a moment ago. Async-signal-safe.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) as u32 == 0
    }
}

impl<T: Blank> Slots<T> {
    /// Returns an empty set of slots.
    #[cfg(not(faultin_loom))]
    #[allow(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Slots {
            made: AtomicU32::new(0),
            free: Stack::new(),
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
        }
    }

    #[cfg(faultin_loom)]
    pub fn new() -> Self {
        let none = |_| AtomicPtr::new(ptr::null_mut());
        Slots { made: AtomicU32::new(0), free: Stack::new(), chunks: core::array::from_fn(none) }
    }

    /// Gives a slot back. What the caller has done to it happens before what the next one does. Async-signal-safe.
    pub fn give_back(&self, slot: &'static Slot<T>) {
        self.push(&self.free, slot);
    }

    /// Puts a slot that is in no stack on top of one. Async-signal-safe.
    pub fn push(&self, stack: &Stack, slot: &'static Slot<T>) {
        let number = u64::from(slot.number.load(Ordering::Relaxed));
        let mut top = stack.0.load(Ordering::Relaxed);
        loop {
            slot.next.store(top as u32, Ordering::Relaxed);
            let new = changed(top) | number;
            match stack.0.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes the top slot of a stack. Async-signal-safe.
    pub fn pop(&self, stack: &Stack) -> Option<&'static Slot<T>> {
        let mut top = stack.0.load(Ordering::Acquire);
        loop {
            let slot = self.at((top as u32).checked_sub(1)?)?;
            // Another thread may take it first, and put it into another stack. Then the exchange fails.
            let new = changed(top) | u64::from(slot.next.load(Ordering::Relaxed));
            match stack.0.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(now) => top = now,
            }
        }
    }

    /// Returns all slots that were made, also those that are free. Async-signal-safe.
    pub fn all(&self) -> impl Iterator<Item = &'static Slot<T>> {
        (0..self.made.load(Ordering::Acquire)).filter_map(|index| self.at(index))
    }

    /// Returns a slot by its index; `None` if its chunk is being made.
    #[inline]
    pub(in crate::signal) fn at(&self, index: u32) -> Option<&'static Slot<T>> {
        let (chunk, at) = place(index);
        let first = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: invariant 1; `place` stays within a chunk.
        (!first.is_null()).then(|| unsafe { &*first.add(at) })
    }
}

/// Returns the number of changes of a stack after one more, in its place.
pub(in crate::signal) const fn changed(top: u64) -> u64 {
    ((top >> 32).wrapping_add(1)) << 32
}

/// Returns the chunk of a slot, and its place there.
pub(in crate::signal) const fn place(index: u32) -> (usize, usize) {
    let units = index / FIRST + 1;
    let chunk = units.ilog2();
    (chunk as usize, (index - FIRST * ((1 << chunk) - 1)) as usize)
}
