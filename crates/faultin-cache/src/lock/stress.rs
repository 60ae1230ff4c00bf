//! The raw lock with real threads and futexes; `crates/faultin-cache-loom` has the orders of its steps.

use super::RawLock;
use super::inside::raw::BIASED;
use super::inside::slots::Threads;
use crate::sync::{AtomicU64, Ordering};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

const THREADS: usize = 8;
const ROUNDS: usize = 4000;

/// Two numbers that are equal when no thread holds the lock exclusively; each is incremented in two steps.
struct Pair {
    threads: Threads,
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
    let pair = Pair { threads: Threads::new(), lock: RawLock::default(), numbers: Default::default() };
    let all = Some(&pair.threads);
    let start = Barrier::new(THREADS);
    let written: usize = thread::scope(|scope| {
        let turn = |me: usize| {
            // Half of the threads have a place for a lock that they share uncounted.
            let slot = me.is_multiple_of(2).then(|| pair.threads.take(me as u32 + 1, 1));
            let mine = slot.map(|slot| &**slot);
            start.wait();
            let mut written = 0;
            for round in 0..ROUNDS {
                match (me + round) % 4 {
                    0 => {
                        pair.lock.lock_exclusive(all);
                        pair.count();
                        written += 1;
                        // Another thread runs, and finds it locked.
                        if round % 64 == 0 {
                            thread::yield_now();
                        }
                        pair.lock.unlock_exclusive();
                    }
                    1 if pair.lock.try_lock_exclusive(all) => {
                        pair.count();
                        written += 1;
                        pair.lock.unlock_exclusive();
                    }
                    2 if pair.lock.try_lock_shared(mine, all) => {
                        pair.look();
                        pair.lock.unlock_shared(mine);
                    }
                    _ => {
                        pair.lock.lock_shared(mine, all);
                        pair.look();
                        if round % 64 == 0 {
                            thread::yield_now();
                        }
                        pair.lock.unlock_shared(mine);
                    }
                }
            }
            slot.into_iter().for_each(|slot| pair.threads.give_back(slot));
            written
        };
        let threads: Vec<_> = (0..THREADS).map(|me| scope.spawn(move || turn(me))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(pair.look(), [written as u64; 2]);
    assert_eq!(pair.lock.state.into_inner() & !BIASED, 0);
    assert_eq!(pair.lock.permits.into_inner(), 0);
}

#[test]
fn nobody_new_shares_it_while_a_writer_waits() {
    let lock = RawLock::default();
    lock.lock_shared(None, None);
    assert!(lock.try_lock_shared(None, None));
    lock.unlock_shared(None);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            lock.lock_exclusive(None);
            lock.unlock_exclusive();
        });
        while lock.try_lock_shared(None, None) {
            lock.unlock_shared(None);
            thread::yield_now();
        }
        assert!(!writer.is_finished());
        lock.unlock_shared(None);
    });
    assert!(lock.try_lock_shared(None, None));
}

#[test]
fn a_stream_of_writers_lets_others_in() {
    let lock = RawLock::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    lock.lock_exclusive(None);
                    thread::yield_now();
                    lock.unlock_exclusive();
                }
            });
        }
        for _ in 0..50 {
            lock.lock_shared(None, None);
            lock.unlock_shared(None);
            lock.lock_exclusive(None);
            lock.unlock_exclusive();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Readers that meet often are not counted any more; a writer finds them all the same, and ends that.
#[test]
fn a_writer_waits_for_readers_that_are_not_counted() {
    let (threads, lock) = (Threads::new(), RawLock::default());
    let [one, two] = [1, 2].map(|thread| threads.take(thread, 1));
    lock.lock_shared(Some(one), None);
    let state = || lock.state.load(Ordering::Relaxed);
    let mut met = 0;
    while state() & BIASED == 0 {
        lock.lock_shared(Some(two), None);
        lock.unlock_shared(Some(two));
        met += 1;
    }
    assert!(met > 10, "biased after {met} meetings");
    lock.unlock_shared(Some(one));
    assert_eq!(state(), BIASED, "both are out");
    assert!(lock.try_lock_shared(Some(one), None));
    assert_eq!(state(), BIASED, "it is not counted");
    // A second lock is counted, and so is a thread without a slot.
    let other = RawLock::default();
    other.lock_shared(Some(one), None);
    assert_eq!(other.state.load(Ordering::Relaxed), 1);
    other.unlock_shared(Some(one));
    lock.lock_shared(None, None);
    assert_eq!(state(), BIASED + 1);
    lock.unlock_shared(None);
    assert!(!lock.try_lock_exclusive(Some(&threads)));
    assert_eq!(state(), BIASED, "a failed attempt changes nothing");
    thread::scope(|scope| {
        let writer = scope.spawn(|| lock.lock_exclusive(Some(&threads)));
        // The writer has it, except for this thread.
        while lock.try_lock_shared(Some(two), None) {
            lock.unlock_shared(Some(two));
            thread::yield_now();
        }
        assert!(!writer.is_finished());
        lock.unlock_shared(Some(one));
    });
    assert!(!lock.try_lock_shared(Some(one), None) && state() & BIASED == 0);
    lock.unlock_exclusive();
    assert_eq!(state(), 0);
    // Twice by one thread: released in any order.
    [(); 2].iter().for_each(|()| lock.lock_shared(Some(one), None));
    [(); 2].iter().for_each(|()| lock.unlock_shared(Some(one)));
    assert!(lock.try_lock_exclusive(Some(&threads)));
}
