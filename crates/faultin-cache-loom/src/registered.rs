//! Models of what handlers look up: the slots that are used again, and the tree of ranges. The tree has two entries a node
//! here, three levels and pages of one byte, so that a few ranges need all of it.

use std::ops::Range;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;

use crate::explore;
use crate::signal::inside::ranges::Ranges;
use crate::signal::inside::slots::{Blank, Slot, Slots, Stack};
use crate::signal::inside::users::Users;
use crate::sync::{AtomicUsize, Ordering};

/// A slot's value that only its owner may touch: loom reports two accesses that nothing puts in order.
struct Owned(UnsafeCell<usize>);

// SAFETY: loom watches the cell.
unsafe impl Sync for Owned {}

// SAFETY: sets a limit.
unsafe impl Blank for Owned {
    fn blank() -> Self {
        Owned(UnsafeCell::new(0))
    }
}

fn own(slot: &Slot<Owned>, me: usize) {
    // SAFETY: loom reports it if another thread has the slot.
    slot.0.with_mut(|owner| unsafe {
        assert_eq!(*owner, 0, "it has one owner");
        *owner = me;
    });
}

fn disown(slot: &Slot<Owned>, me: usize) {
    // SAFETY: as above.
    slot.0.with_mut(|owner| unsafe {
        assert_eq!(*owner, me);
        *owner = 0;
    });
}

#[test]
fn a_slot_has_one_owner() {
    explore(3, || {
        let slots = Arc::new(Slots::<Owned>::new());
        let work = |me: usize| {
            let slots = Arc::clone(&slots);
            move || {
                for _ in 0..2 {
                    let slot = slots.take(1);
                    own(slot, me);
                    disown(slot, me);
                    slots.give_back(slot);
                }
            }
        };
        let other = thread::spawn(work(1));
        work(2)();
        other.join().unwrap();
        assert!(slots.all().count() <= 2, "as many as were taken at once");
    });
}

#[test]
fn slots_that_are_made_at_the_same_time_are_all_there() {
    explore(3, || {
        let slots = Arc::new(Slots::<Owned>::new());
        // The next two are in the next chunk.
        slots.take(1);
        let other = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || std::ptr::from_ref(slots.take(1)).addr())
        };
        let mine = std::ptr::from_ref(slots.take(1)).addr();
        let other = other.join().unwrap();
        let all: Vec<usize> = slots.all().map(|slot| std::ptr::from_ref(slot).addr()).collect();
        assert!(all.len() == 3 && all.contains(&mine) && all.contains(&other) && mine != other);
    });
}

/// One thread is about to pop a slot while others pop it and the next one, and give back the first: it is on top again,
/// and the next one is taken.
#[test]
fn a_slot_that_is_on_top_again_is_no_unchanged_stack() {
    explore(3, || {
        let slots = Arc::new(Slots::<Owned>::new());
        let (first, second) = (slots.take(1), slots.take(1));
        slots.give_back(first);
        slots.give_back(second);
        let owners = Arc::new(Mutex::new(Vec::new()));
        let take = |slots: &Slots<Owned>, owners: &Mutex<Vec<usize>>| {
            let slot = slots.take(1);
            let address = std::ptr::from_ref(slot).addr();
            let mut owners = owners.lock().unwrap();
            assert!(!owners.contains(&address), "it has one owner");
            owners.push(address);
            slot
        };
        let other = {
            let (slots, owners) = (Arc::clone(&slots), Arc::clone(&owners));
            thread::spawn(move || {
                take(&slots, &owners);
            })
        };
        let top = take(&slots, &owners);
        take(&slots, &owners);
        owners.lock().unwrap().retain(|&owner| owner != std::ptr::from_ref(top).addr());
        slots.give_back(top);
        other.join().unwrap();
        take(&slots, &owners);
    });
}

/// A value of the tree: a number, as a pointer.
fn value(number: usize) -> *mut () {
    std::ptr::without_provenance_mut(number)
}

#[test]
fn threads_enter_ranges_in_the_same_nodes() {
    // Neighbours in a leaf; a leaf, and a part of the other one; a part of each.
    let cases: [[Range<usize>; 2]; 4] = [[0..1, 1..2], [0..2, 3..4], [1..3, 3..8], [6..7, 0..1]];
    for [one, two] in cases {
        explore(2, move || {
            let ranges = Arc::new(Ranges::new());
            let work = |range: Range<usize>, number: usize| {
                let ranges = Arc::clone(&ranges);
                move || {
                    ranges.insert(&range, value(number));
                    for address in range.clone() {
                        assert_eq!(ranges.get(address).addr(), number);
                    }
                    assert_eq!(ranges.first(&range).addr(), number);
                    ranges.remove(&range, value(number));
                    assert!(ranges.first(&range).is_null(), "removed, and no other thread's");
                }
            };
            let other = thread::spawn(work(one.clone(), 1));
            work(two.clone(), 2)();
            other.join().unwrap();
            assert!(ranges.first(&(0..8)).is_null());
        });
    }
}

#[test]
fn a_range_that_is_there_stays_found_while_others_come_and_go() {
    explore(2, || {
        let ranges = Arc::new(Ranges::new());
        ranges.insert(&(0..2), value(1));
        let other = {
            let ranges = Arc::clone(&ranges);
            thread::spawn(move || {
                // The tree grows by a root, and by a node beside the first range.
                ranges.insert(&(3..6), value(2));
                ranges.remove(&(3..6), value(2));
            })
        };
        for address in 0..2 {
            assert_eq!(ranges.get(address).addr(), 1);
        }
        let there = ranges.get(4).addr();
        assert!(there == 0 || there == 2);
        assert_eq!(ranges.first(&(0..8)).addr(), 1);
        other.join().unwrap();
    });
}

/// What is registered, as a pager's range is: bounds, users, and something that is freed.
struct Entry {
    users: Users,
    start: AtomicUsize,
    len: AtomicUsize,
    /// The start again, for whoever may use it; 0 once it was freed.
    pager: UnsafeCell<usize>,
}

// SAFETY: loom watches the cell.
unsafe impl Sync for Entry {}

// SAFETY: numbers.
unsafe impl Blank for Entry {
    fn blank() -> Self {
        let number = || AtomicUsize::new(0);
        Entry { users: Users::new(), start: number(), len: number(), pager: UnsafeCell::new(0) }
    }
}

fn is_freed(entry: &Slot<Entry>) -> bool {
    // SAFETY: loom reports it if another thread uses it.
    entry.pager.with(|pager| unsafe { *pager } == 0)
}

/// The registry, with the steps of `signal/inside/pager.rs` and `signal/outside/pager.rs`.
struct Registry {
    ranges: Ranges,
    slots: Slots<Entry>,
    retired: Stack,
}

impl Registry {
    fn new() -> Arc<Registry> {
        Arc::new(Registry { ranges: Ranges::new(), slots: Slots::new(), retired: Stack::new() })
    }

    fn serve(&self, range: Range<usize>) -> &'static Slot<Entry> {
        let entry = self.slots.take(1);
        entry.start.store(range.start, Ordering::Relaxed);
        entry.len.store(range.len(), Ordering::Relaxed);
        // SAFETY: loom reports it if another thread uses it.
        entry.pager.with_mut(|pager| unsafe {
            assert_eq!(*pager, 0, "it was freed");
            *pager = range.start;
        });
        entry.users.open();
        self.ranges.insert(&range, std::ptr::from_ref(entry).cast_mut().cast());
        entry
    }

    fn end(&self, entry: &'static Slot<Entry>) {
        let start = entry.start.load(Ordering::Relaxed);
        let range = start..start + entry.len.load(Ordering::Relaxed);
        self.ranges.remove(&range, std::ptr::from_ref(entry).cast_mut().cast());
        entry.users.retire();
        if entry.users.claim() {
            self.free(entry);
        }
        self.free_retired();
    }

    fn free_retired(&self) {
        while let Some(entry) = self.slots.pop(&self.retired) {
            self.free(entry);
        }
    }

    fn free(&self, entry: &'static Slot<Entry>) {
        // SAFETY: as in `serve`.
        entry.pager.with_mut(|pager| unsafe {
            assert_ne!(*pager, 0, "it is freed once");
            *pager = 0;
        });
        self.slots.give_back(entry);
    }

    /// As a handler: returns whether the address had a pager.
    fn handle(&self, address: usize) -> bool {
        // SAFETY: the tree has slots only, which are never freed.
        let Some(entry) = (unsafe { self.ranges.get(address).cast::<Slot<Entry>>().as_ref() }) else { return false };
        let is_open = entry.users.enter();
        let start = entry.start.load(Ordering::Relaxed);
        let is_meant = is_open && address.wrapping_sub(start) < entry.len.load(Ordering::Relaxed);
        if is_meant {
            // SAFETY: as in `serve`.
            entry.pager.with(|pager| assert_eq!(unsafe { *pager }, start, "it is the pager of this range"));
        }
        if entry.users.leave() && entry.users.claim() {
            self.slots.push(&self.retired, entry);
        }
        is_meant
    }
}

#[test]
fn a_handler_meets_the_pager_of_its_address_or_none() {
    explore(3, || {
        let registry = Registry::new();
        let entry = registry.serve(1..2);
        let handler = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.handle(1))
        };
        registry.end(entry);
        // Its slot is another range's now, if no handler is in it.
        let other = registry.serve(4..6);
        handler.join().unwrap();
        assert!(registry.handle(4) && registry.handle(5) && !registry.handle(1));
        registry.end(other);
        assert!(registry.ranges.first(&(0..8)).is_null());
        // Each was freed: so the slots are free, with nothing in them.
        for _ in 0..registry.slots.all().count() {
            assert!(is_freed(registry.slots.take(1)));
        }
    });
}

#[test]
fn two_handlers_leave_one_pager_to_be_freed_once() {
    explore(2, || {
        let registry = Registry::new();
        let entry = registry.serve(1..2);
        let handlers = [(); 2].map(|()| {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.handle(1))
        });
        registry.end(entry);
        for handler in handlers {
            handler.join().unwrap();
        }
        registry.free_retired();
        assert_eq!(registry.slots.all().count(), 1);
        assert!(is_freed(registry.slots.take(1)));
        assert_eq!(registry.slots.all().count(), 1, "and its slot given back");
    });
}
