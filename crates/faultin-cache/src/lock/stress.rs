//! The raw lock with real threads and futexes; `crates/faultin-cache-loom` has the orders of its steps.

use super::RawLock;
use crate::sync::{AtomicU64, Ordering};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

const THREADS: usize = 8;
const ROUNDS: usize = 4000;

/// Two numbers that are equal when no thread holds the lock exclusively; each is incremented in two steps.
#[derive(Default)]
struct Pair {
    lock: RawLock,
    numbers: [AtomicU64; 2],
}

impl Pair {
    fn look(&self) -> [u64; 2] {
        let numbers = [0, 1].map(|which| self.numbers[which].load(Ordering::Relaxed));
        assert_eq!(numbers[0], numbers[1]);
        numbers
    }

    fn count(&self) {
        for (number, was) in self.numbers.iter().zip(self.look()) {
            number.store(was + 1, Ordering::Relaxed);
        }
    }
}

#[test]
fn writers_exclude_everybody_and_nobody_sleeps_for_ever() {
    let pair = Pair::default();
    let start = Barrier::new(THREADS);
    let written: usize = thread::scope(|scope| {
        let turn = |me: usize| {
            start.wait();
            let mut written = 0;
            for round in 0..ROUNDS {
                match (me + round) % 4 {
                    0 => {
                        pair.lock.lock_exclusive();
                        pair.count();
                        written += 1;
                        // Another thread runs, and finds it locked.
                        if round % 64 == 0 {
                            thread::yield_now();
                        }
                        pair.lock.unlock_exclusive();
                    }
                    1 if pair.lock.try_lock_exclusive() => {
                        pair.count();
                        written += 1;
                        pair.lock.unlock_exclusive();
                    }
                    2 if pair.lock.try_lock_shared() => {
                        pair.look();
                        pair.lock.unlock_shared();
                    }
                    _ => {
                        pair.lock.lock_shared();
                        pair.look();
                        if round % 64 == 0 {
                            thread::yield_now();
                        }
                        pair.lock.unlock_shared();
                    }
                }
            }
            written
        };
        let threads: Vec<_> = (0..THREADS).map(|me| scope.spawn(move || turn(me))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(pair.look(), [written as u64; 2]);
    assert_eq!(pair.lock.state.into_inner(), 0);
    assert_eq!(pair.lock.permits.into_inner(), 0);
}

#[test]
fn nobody_new_shares_it_while_a_writer_waits() {
    let lock = RawLock::default();
    lock.lock_shared();
    assert!(lock.try_lock_shared());
    lock.unlock_shared();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            lock.lock_exclusive();
            lock.unlock_exclusive();
        });
        while lock.try_lock_shared() {
            lock.unlock_shared();
            thread::yield_now();
        }
        assert!(!writer.is_finished());
        lock.unlock_shared();
    });
    assert!(lock.try_lock_shared());
}

#[test]
fn a_stream_of_writers_lets_others_in() {
    let lock = RawLock::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    lock.lock_exclusive();
                    thread::yield_now();
                    lock.unlock_exclusive();
                }
            });
        }
        for _ in 0..50 {
            lock.lock_shared();
            lock.unlock_shared();
            lock.lock_exclusive();
            lock.unlock_exclusive();
        }
        done.store(true, Ordering::Relaxed);
    });
}
