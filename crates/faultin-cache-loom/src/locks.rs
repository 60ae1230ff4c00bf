//! Models of the reader-writer lock.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering;
use loom::thread;

use crate::explore;
use crate::raw::{BIASED, RANGES, READERS_WAIT, RawLock, WRITERS_WAIT};
use crate::threads::Threads;

/// A number under a lock. loom reports two accesses that the lock does not order.
struct Number {
    threads: Threads,
    lock: RawLock,
    number: UnsafeCell<u32>,
}

// SAFETY: loom watches the cell.
unsafe impl Sync for Number {}
// SAFETY: as above.
unsafe impl Send for Number {}

impl Number {
    fn new() -> Number {
        Number { threads: Threads::new(), lock: RawLock::default(), number: UnsafeCell::new(0) }
    }

    fn look(&self) -> u32 {
        // SAFETY: loom reports it if another thread writes.
        self.number.with(|number| unsafe { *number })
    }

    fn count(&self) {
        // SAFETY: loom reports it if another thread accesses it.
        self.number.with_mut(|number| unsafe { *number += 1 });
    }

    fn read(&self) {
        self.lock.lock_shared(None, None);
        self.look();
        self.lock.unlock_shared(None);
    }

    fn write(&self) {
        self.lock.lock_exclusive(Some(&self.threads));
        self.count();
        self.lock.unlock_exclusive();
    }

    /// Writes as in a signal: returns whether it did.
    fn try_write(&self) -> bool {
        let locked = self.lock.try_lock_exclusive(Some(&self.threads));
        if locked {
            self.count();
            self.lock.unlock_exclusive();
        }
        locked
    }
}

/// Runs each of `others` in its own thread, and then `this`, which returns the number of writes of all threads.
fn together(others: &[fn(&Number)], this: fn(&Number) -> u32) {
    let others = others.to_vec();
    explore(3, move || {
        let number = Arc::new(Number::new());
        let threads: Vec<_> = others
            .iter()
            .map(|&other| {
                let number = Arc::clone(&number);
                thread::spawn(move || other(&number))
            })
            .collect();
        let written = this(&number);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(number.lock.try_lock_exclusive(Some(&number.threads)), "nobody is left in it");
        assert_eq!(number.look(), written);
        number.lock.unlock_exclusive();
        assert!(number.lock.try_lock_shared(None, None), "nobody waits");
        assert_eq!(number.lock.permits.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn two_writers_and_a_reader() {
    together(&[Number::write, Number::read], |number| {
        number.write();
        2
    });
}

#[test]
fn a_writer_and_two_readers() {
    together(&[Number::read, Number::read], |number| {
        number.write();
        1
    });
}

#[test]
fn three_writers() {
    together(&[Number::write, Number::write], |number| {
        number.write();
        3
    });
}

#[test]
fn one_that_writes_again_and_again_and_one_that_becomes_urgent() {
    together(&[Number::write], |number| {
        number.write();
        number.write();
        number.write();
        4
    });
}

#[test]
fn a_handler_tries_while_a_writer_and_a_reader_wait() {
    together(&[Number::write, Number::read], |number| 1 + u32::from(number.try_write()));
}

#[test]
fn a_writer_that_waits_is_not_overtaken_by_a_reader() {
    explore(3, || {
        let number = Arc::new(Number::new());
        number.lock.lock_shared(None, None);
        let writer = {
            let number = Arc::clone(&number);
            thread::spawn(move || number.write())
        };
        let waits = number.lock.state.load(Ordering::Relaxed) & WRITERS_WAIT != 0;
        assert!(!waits || !number.lock.try_lock_shared(None, None));
        number.lock.unlock_shared(None);
        number.lock.lock_shared(None, None);
        assert!(!waits || number.look() == 1);
        number.lock.unlock_shared(None);
        writer.join().unwrap();
        assert_eq!(number.look(), 1);
    });
}

#[test]
fn readers_that_wait_are_overtaken_by_one_writer() {
    explore(3, || {
        let number = Arc::new(Number::new());
        number.lock.lock_exclusive(Some(&number.threads));
        let reader = {
            let number = Arc::clone(&number);
            thread::spawn(move || {
                number.lock.lock_shared(None, None);
                let seen = number.look();
                number.lock.unlock_shared(None);
                seen
            })
        };
        let waits = number.lock.state.load(Ordering::Relaxed) & READERS_WAIT != 0;
        number.lock.unlock_exclusive();
        number.write();
        let seen = reader.join().unwrap();
        assert!(!waits || seen == 0, "it has been handed the lock");
    });
}

/// A lock that is biased, with slots for `threads` threads.
fn biased(threads: u32) -> (Arc<Number>, Vec<&'static crate::signal::inside::slots::Slot<crate::threads::Thread>>) {
    let number = Arc::new(Number::new());
    let slots = (1..=threads).map(|thread| number.threads.take(thread, 1)).collect();
    number.lock.lock_shared(None, None);
    number.lock.lock_shared(None, None);
    assert_eq!(number.lock.state.load(Ordering::Relaxed), BIASED + 2, "two readers have met");
    number.lock.unlock_shared(None);
    number.lock.unlock_shared(None);
    (number, slots)
}

/// A reader that is not counted and `with`, in threads of their own, and this one, which returns the number of writes.
fn beside_a_biased_reader(twice: bool, with: &[fn(&Number)], this: fn(&Number) -> u32) {
    let with = with.to_vec();
    // Three threads take their time.
    explore(if with.is_empty() { 3 } else { 2 }, move || {
        let (number, slots) = biased(1);
        let reader = {
            let (number, slot) = (Arc::clone(&number), slots[0]);
            thread::spawn(move || {
                for _ in 0..1 + u32::from(twice) {
                    number.lock.lock_shared(Some(slot), None);
                    number.look();
                    number.lock.unlock_shared(Some(slot));
                }
            })
        };
        let threads: Vec<_> = with
            .iter()
            .map(|&other| {
                let number = Arc::clone(&number);
                thread::spawn(move || other(&number))
            })
            .collect();
        let written = this(&number);
        reader.join().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(number.lock.try_lock_exclusive(Some(&number.threads)), "nobody is left in it");
        assert_eq!(number.look(), written);
        number.lock.unlock_exclusive();
        assert_eq!(number.lock.state.load(Ordering::Relaxed), 0);
        slots.into_iter().for_each(|slot| number.threads.give_back(slot));
    });
}

#[test]
fn a_writer_revokes_the_bias() {
    beside_a_biased_reader(true, &[], |number| {
        number.write();
        1
    });
}

#[test]
fn two_writers_revoke_the_bias() {
    beside_a_biased_reader(false, &[Number::write], |number| {
        number.write();
        2
    });
}

#[test]
fn a_handler_tries_a_biased_lock() {
    beside_a_biased_reader(true, &[], |number| u32::from(number.try_write()));
}

#[test]
fn a_handler_tries_a_biased_lock_beside_a_writer() {
    beside_a_biased_reader(false, &[Number::write], |number| 1 + u32::from(number.try_write()));
}

#[test]
fn a_counted_reader_beside_one_that_is_not() {
    beside_a_biased_reader(false, &[Number::read], |number| {
        number.write();
        1
    });
}

/// Two writers of ranges of one byte, or of both bytes, and `this`, which may take the lock otherwise.
fn writers_of_ranges(ranges: [std::ops::Range<u64>; 2], this: fn(&[Number; 2])) {
    explore(if cfg!(debug_assertions) { 2 } else { 3 }, move || {
        // One lock, of the first one, for both numbers.
        let numbers = Arc::new([Number::new(), Number::new()]);
        let lock = &numbers[0].lock;
        lock.lock_exclusive(Some(&numbers[0].threads));
        lock.regions.make();
        lock.allow_ranges();
        lock.unlock_exclusive();
        assert_eq!(lock.state.load(Ordering::Relaxed), RANGES);
        let threads: Vec<_> = ranges
            .iter()
            .map(|range| {
                let (numbers, range) = (Arc::clone(&numbers), range.clone());
                thread::spawn(move || {
                    // Each number stands for all bytes of a region.
                    let bytes = range.start << 14..range.end << 14;
                    let taken = numbers[0].lock.try_lock_range(&bytes);
                    if let Some(taken) = taken {
                        range.for_each(|which| numbers[which as usize].count());
                        numbers[0].lock.unlock_range(taken);
                    }
                    taken.is_some()
                })
            })
            .collect();
        this(&numbers);
        let mut written = [0; 2];
        for (thread, range) in threads.into_iter().zip(ranges.clone()) {
            let locked = thread.join().unwrap();
            range.for_each(|which| written[which as usize] += u32::from(locked));
        }
        assert!(numbers[0].lock.try_lock_exclusive(Some(&numbers[0].threads)), "nobody is left in it");
        assert_eq!([0, 1].map(|which| numbers[which].look()), written);
        numbers[0].lock.unlock_exclusive();
        assert_eq!(numbers[0].lock.state.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn writers_of_disjoint_ranges() {
    writers_of_ranges([0..1, 1..2], |_| ());
}

#[test]
fn writers_of_ranges_that_overlap() {
    writers_of_ranges([0..2, 1..2], |_| ());
}

#[test]
fn a_writer_beside_writers_of_ranges() {
    writers_of_ranges([0..1, 1..2], |numbers| {
        let [one, two] = numbers;
        one.lock.lock_exclusive(Some(&one.threads));
        assert!(one.look() <= 1 && two.look() <= 1);
        one.lock.unlock_exclusive();
    });
}

/// One of them may have a part of its range for a moment, in which the writer begins to wait.
#[test]
fn a_writer_beside_writers_of_ranges_that_overlap() {
    writers_of_ranges([0..2, 1..2], |numbers| {
        let [one, two] = numbers;
        one.lock.lock_exclusive(Some(&one.threads));
        assert!(one.look() <= 1 && two.look() <= 2);
        one.lock.unlock_exclusive();
    });
}

#[test]
fn a_reader_beside_writers_of_ranges() {
    writers_of_ranges([0..1, 1..2], |numbers| {
        let [one, two] = numbers;
        one.lock.lock_shared(None, Some(&one.threads));
        assert!(one.look() <= 1 && two.look() <= 1);
        one.lock.unlock_shared(None);
    });
}

/// Two readers and a writer of a range: a reader may share the lock again, because no thread waits for it exclusively.
#[test]
fn a_reader_shares_again_beside_one_that_ends_the_ranges() {
    explore(if cfg!(debug_assertions) { 2 } else { 3 }, || {
        let number = Arc::new(Number::new());
        number.lock.lock_exclusive(Some(&number.threads));
        number.lock.regions.make();
        number.lock.allow_ranges();
        number.lock.unlock_exclusive();
        let act: [fn(&Number); 2] = [
            |number| {
                if let Some(taken) = number.lock.try_lock_range(&(0..1)) {
                    number.lock.unlock_range(taken);
                }
            },
            |number| {
                number.lock.lock_shared(None, Some(&number.threads));
                number.lock.unlock_shared(None);
            },
        ];
        let threads = act.map(|act| {
            let number = Arc::clone(&number);
            thread::spawn(move || act(&number))
        });
        number.lock.lock_shared(None, Some(&number.threads));
        assert!(number.lock.try_lock_shared(None, Some(&number.threads)));
        number.lock.unlock_shared(None);
        number.lock.unlock_shared(None);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_reader_that_waits_while_ranges_are_allowed() {
    explore(3, || {
        let number = Arc::new(Number::new());
        number.lock.lock_exclusive(Some(&number.threads));
        number.lock.regions.make();
        let reader = {
            let number = Arc::clone(&number);
            thread::spawn(move || {
                number.lock.lock_shared(None, Some(&number.threads));
                number.look();
                number.lock.unlock_shared(None);
            })
        };
        number.lock.allow_ranges();
        number.lock.unlock_exclusive();
        let taken = number.lock.try_lock_range(&(0..1));
        if let Some(taken) = taken {
            number.count();
            number.lock.unlock_range(taken);
        }
        reader.join().unwrap();
        assert_eq!(number.look(), u32::from(taken.is_some()));
    });
}
