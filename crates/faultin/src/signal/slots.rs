//! [`Slots`]: values that are never freed, because a handler may be reading one in any thread at any time, and that are
//! used again.
//!
//! Taking and giving back a slot takes the same time whatever the number of slots, and needs no lock: free slots are a
//! stack. A child of `fork` makes its own slots: threads of its parent, which it does not have, may count as users of those
//! that it has inherited.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr;

use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Number of slots of the first chunk; each further chunk has twice as many.
const FIRST: u32 = if cfg!(faultin_loom) { 1 } else { 8 };

/// Number of chunks: as many as numbers of slots need.
const CHUNKS: usize = (u32::BITS - FIRST.ilog2()) as usize + 1;

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
    made: AtomicU32,
    free: Stack,
    chunks: [AtomicPtr<Slot<T>>; CHUNKS],
}

/// A value that is never freed.
#[derive(Debug)]
#[repr(C)]
pub struct Slot<T> {
    /// The number of the slot, from 1.
    number: AtomicU32,
    /// The number of the next one in the [`Stack`] that it is in, 0 for none.
    next: AtomicU32,
    /// The process that has made it.
    process: AtomicU32,
    value: T,
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

    /// Returns a slot that no other caller has: one that was given back in this `process`, or a new one. Its value is as it
    /// was given back, or all zeros.
    pub fn take(&self, process: u32) -> &'static Slot<T> {
        while let Some(slot) = self.pop(&self.free) {
            // Those of the parent stay unused.
            if slot.process.load(Ordering::Relaxed) == process {
                return slot;
            }
        }
        self.make(process)
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
    fn at(&self, index: u32) -> Option<&'static Slot<T>> {
        let (chunk, at) = place(index);
        let first = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: invariant 1; `place` stays within a chunk.
        (!first.is_null()).then(|| unsafe { &*first.add(at) })
    }

    #[cold]
    fn make(&self, process: u32) -> &'static Slot<T> {
        let index = self.made.fetch_add(1, Ordering::Relaxed);
        let (chunk, at) = place(index);
        let chunk = &self.chunks[chunk];
        let mut first = chunk.load(Ordering::Acquire);
        if first.is_null() {
            let new = Chunk::<T>::new(FIRST as usize + index as usize - at);
            first = match chunk.compare_exchange(ptr::null_mut(), new.first, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => new.first,
                Err(other) => {
                    new.free();
                    other
                }
            };
        }
        // SAFETY: invariant 1; `place` stays within a chunk.
        let slot = unsafe { &*first.add(at) };
        slot.process.store(process, Ordering::Relaxed);
        slot.number.store(index + 1, Ordering::Relaxed);
        slot
    }
}

/// A chunk that no other thread knows yet.
struct Chunk<T> {
    first: *mut Slot<T>,
    len: usize,
    slots: PhantomData<Slot<T>>,
}

#[cfg(not(faultin_loom))]
impl<T: Blank> Chunk<T> {
    /// Makes a chunk of zeros. A large one is not touched: the kernel provides its pages when slots are handed out.
    fn new(len: usize) -> Self {
        let Ok(layout) = Self::layout(len) else {
            std::alloc::handle_alloc_error(std::alloc::Layout::new::<Slot<T>>())
        };
        // SAFETY: a slot has a size.
        let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Slot<T>>();
        if first.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        // All zeros is a value of `T` by `Blank`, and one of each atomic variable.
        Chunk { first, len, slots: PhantomData }
    }

    fn free(self) {
        if let Ok(layout) = Self::layout(self.len) {
            // SAFETY: `new` allocated it with this layout, and no other thread knows it.
            unsafe { std::alloc::dealloc(self.first.cast(), layout) };
        }
    }

    fn layout(len: usize) -> Result<std::alloc::Layout, std::alloc::LayoutError> {
        std::alloc::Layout::array::<Slot<T>>(len)
    }
}

#[cfg(faultin_loom)]
impl<T: Blank> Chunk<T> {
    fn new(len: usize) -> Self {
        let zero = || AtomicU32::new(0);
        let slot = |_| Slot { number: zero(), next: zero(), process: zero(), value: T::blank() };
        let slots: Box<[Slot<T>]> = (0..len).map(slot).collect();
        Chunk { first: Box::into_raw(slots).cast(), len, slots: PhantomData }
    }

    fn free(self) {
        // SAFETY: `new` made it from such a box, and no other thread knows it.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.first, self.len)) });
    }
}

/// Returns the number of changes of a stack after one more, in its place.
const fn changed(top: u64) -> u64 {
    ((top >> 32).wrapping_add(1)) << 32
}

/// Returns the chunk of a slot, and its place there.
const fn place(index: u32) -> (usize, usize) {
    let units = index / FIRST + 1;
    let chunk = units.ilog2();
    (chunk as usize, (index - FIRST * ((1 << chunk) - 1)) as usize)
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    /// Who has it: 0 for no thread.
    #[derive(Debug)]
    struct Owner(AtomicUsize);

    // SAFETY: an atomic variable.
    unsafe impl Blank for Owner {}

    #[test]
    fn slots_have_places_of_their_own() {
        let mut expected = (0, 0);
        for index in 0..100_000 {
            assert_eq!(place(index), expected, "slot {index}");
            expected.1 += 1;
            if expected.1 == (FIRST as usize) << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        let (chunk, at) = place(u32::MAX);
        assert!(chunk < CHUNKS && at < (FIRST as usize) << chunk, "the last of all: {at} of chunk {chunk}");
    }

    #[test]
    fn slots_are_used_again_by_their_process_only() {
        let slots = Slots::<Owner>::new();
        let taken: Vec<_> = (0..100).map(|_| slots.take(1)).collect();
        let places: HashSet<_> = taken.iter().map(|slot| ptr::from_ref(*slot)).collect();
        assert_eq!((places.len(), slots.all().count()), (100, 100));
        taken.iter().for_each(|slot| slots.give_back(slot));
        let again: HashSet<_> = (0..100).map(|_| ptr::from_ref(slots.take(1))).collect();
        assert!(again == places && slots.all().count() == 100);
        taken.iter().for_each(|slot| slots.give_back(slot));
        assert!(!places.contains(&ptr::from_ref(slots.take(2))), "a child's is its own");
    }

    #[test]
    fn no_two_threads_have_the_same_slot() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 50_000;
        let slots = Slots::<Owner>::new();
        thread::scope(|scope| {
            for thread in 1..=THREADS {
                let slots = &slots;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let mine: Vec<_> = (0..1 + round % 3).map(|_| slots.take(1)).collect();
                        for slot in &mine {
                            assert_eq!(slot.0.swap(thread, Ordering::Relaxed), 0, "it is no other thread's");
                        }
                        for slot in mine {
                            assert_eq!(slot.0.swap(0, Ordering::Relaxed), thread);
                            slots.give_back(slot);
                        }
                    }
                });
            }
        });
        // No more than were taken at the same time.
        let made = slots.all().count();
        assert!(made <= 3 * THREADS, "{made} slots were made");
    }
}
