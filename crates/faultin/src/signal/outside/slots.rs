//! Taking a slot: one that was given back, or a new one.

use core::marker::PhantomData;
use core::ptr;

use crate::signal::inside::slots::{Blank, FIRST, Slot, Slots, place};
use crate::sync::Ordering;

impl<T: Blank> Slots<T> {
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
        let zero = || crate::sync::AtomicU32::new(0);
        let slot = |_| Slot { number: zero(), next: zero(), process: zero(), value: T::blank() };
        let slots: Box<[Slot<T>]> = (0..len).map(slot).collect();
        Chunk { first: Box::into_raw(slots).cast(), len, slots: PhantomData }
    }

    fn free(self) {
        // SAFETY: `new` made it from such a box, and no other thread knows it.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.first, self.len)) });
    }
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::signal::inside::slots::CHUNKS;

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
