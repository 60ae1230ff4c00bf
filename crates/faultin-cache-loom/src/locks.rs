//! Models of the reader-writer lock.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering;
use loom::thread;

use crate::explore;
use crate::raw::{READERS_WAIT, RawLock, WRITERS_WAIT};

/// A number under a lock. loom reports two accesses that the lock does not order.
#[derive(Default)]
struct Number {
    lock: RawLock,
    number: UnsafeCell<u32>,
}

// SAFETY: loom watches the cell.
unsafe impl Sync for Number {}
// SAFETY: as above.
unsafe impl Send for Number {}

impl Number {
    fn look(&self) -> u32 {
        // SAFETY: loom reports it if another thread writes.
        self.number.with(|number| unsafe { *number })
    }

    fn count(&self) {
        // SAFETY: loom reports it if another thread accesses it.
        self.number.with_mut(|number| unsafe { *number += 1 });
    }

    fn read(&self) {
        self.lock.lock_shared();
        self.look();
        self.lock.unlock_shared();
    }

    fn write(&self) {
        self.lock.lock_exclusive();
        self.count();
        self.lock.unlock_exclusive();
    }

    /// Writes as in a signal: returns whether it did.
    fn try_write(&self) -> bool {
        let locked = self.lock.try_lock_exclusive();
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
        let number = Arc::new(Number::default());
        let threads: Vec<_> = others
            .iter()
            .map(|&other| {
                let number = Arc::clone(&number);
                thread::spawn(move || other(&number))
            })
            .collect();
        let written = this(&number);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(number.lock.try_lock_exclusive(), "nobody is left in it");
        assert_eq!(number.look(), written);
        number.lock.unlock_exclusive();
        assert!(number.lock.try_lock_shared(), "nobody waits");
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
        let number = Arc::new(Number::default());
        number.lock.lock_shared();
        let writer = {
            let number = Arc::clone(&number);
            thread::spawn(move || number.write())
        };
        let waits = number.lock.state.load(Ordering::Relaxed) & WRITERS_WAIT != 0;
        assert!(!waits || !number.lock.try_lock_shared());
        number.lock.unlock_shared();
        number.lock.lock_shared();
        assert!(!waits || number.look() == 1);
        number.lock.unlock_shared();
        writer.join().unwrap();
        assert_eq!(number.look(), 1);
    });
}

#[test]
fn readers_that_wait_are_overtaken_by_one_writer() {
    explore(3, || {
        let number = Arc::new(Number::default());
        number.lock.lock_exclusive();
        let reader = {
            let number = Arc::clone(&number);
            thread::spawn(move || {
                number.lock.lock_shared();
                let seen = number.look();
                number.lock.unlock_shared();
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
