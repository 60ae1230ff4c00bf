//! The counters of one handle.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::HandleStats;
use crate::error::Partial;

/// What this thread has waited for stores. Its address is the thread's name: no two threads that run have the same.
struct Thread {
    calls: Cell<u64>,
    nanoseconds: Cell<u64>,
}

thread_local! {
    static THREAD: Thread = const { Thread { calls: Cell::new(0), nanoseconds: Cell::new(0) } };
}

/// Notes that this thread has waited for a store. Not called in a signal.
pub(super) fn waited(time: Duration) {
    THREAD.with(|thread| {
        thread.calls.set(thread.calls.get() + 1);
        thread.nanoseconds.set(thread.nanoseconds.get().wrapping_add(nanoseconds(time)));
    });
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Numbers that every operation changes.
#[derive(Debug, Default)]
struct Hot {
    reads: AtomicU64,
    read: AtomicU64,
    writes: AtomicU64,
    written: AtomicU64,
}

/// The counters of one handle, in lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// The thread that has used the handle first, 0 before. It alone changes `own`, by plain stores, which are faster
    /// than atomic additions. (The name of a thread that has ended may be another thread's later, which then goes on.)
    owner: AtomicUsize,
    own: Hot,
    /// What other threads have done through the same handle.
    others: Hot,
    misses: AtomicU64,
    waits: AtomicU64,
    nanoseconds: AtomicU64,
    errors: AtomicU64,
}

/// An operation of a handle under way.
pub(crate) struct Operation<'a> {
    counters: &'a Counters,
    is_read: bool,
    /// What this thread had waited before.
    calls: u64,
    nanoseconds: u64,
}

impl Counters {
    /// Begins to count a read.
    #[inline(always)]
    pub(crate) fn read(&self) -> Operation<'_> {
        let (calls, nanoseconds) = THREAD.with(|thread| (thread.calls.get(), thread.nanoseconds.get()));
        Operation { counters: self, is_read: true, calls, nanoseconds }
    }

    /// Begins to count a write.
    #[inline(always)]
    pub(crate) fn write(&self) -> Operation<'_> {
        Operation { is_read: false, ..self.read() }
    }

    /// Counts an error of another operation.
    pub(crate) fn check<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.failed();
        }
        result
    }

    #[cold]
    fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an operation of a thread that is not the owner; the first one becomes it.
    #[cold]
    #[inline(never)]
    fn count_for(&self, me: usize, is_read: bool, done: u64) {
        let claimed = self.owner.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let hot = if claimed { &self.own } else { &self.others };
        let (count, bytes) = hot.of(is_read);
        count.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(done, Ordering::Relaxed);
    }

    /// Counts a wait, of a thread that had waited `since` before, and an error.
    #[cold]
    #[inline(never)]
    fn count_rare(&self, is_read: bool, since: Option<u64>, is_ok: bool) {
        if let Some(since) = since {
            self.misses.fetch_add(u64::from(is_read), Ordering::Relaxed);
            self.waits.fetch_add(1, Ordering::Relaxed);
            let now = THREAD.with(|thread| thread.nanoseconds.get());
            self.nanoseconds.fetch_add(now.wrapping_sub(since), Ordering::Relaxed);
        }
        if !is_ok {
            self.failed();
        }
    }

    /// Returns the numbers.
    pub(crate) fn stats(&self) -> HandleStats {
        let both = |of: fn(&Hot) -> &AtomicU64| {
            of(&self.own).load(Ordering::Relaxed) + of(&self.others).load(Ordering::Relaxed)
        };
        HandleStats {
            reads: both(|hot| &hot.reads),
            misses: self.misses.load(Ordering::Relaxed),
            read: both(|hot| &hot.read),
            writes: both(|hot| &hot.writes),
            written: both(|hot| &hot.written),
            waits: self.waits.load(Ordering::Relaxed),
            waited: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

impl Operation<'_> {
    /// Counts the operation by its result.
    #[inline]
    pub(crate) fn end(self, result: Result<usize, Partial>) -> Result<usize, Partial> {
        match &result {
            Ok(done) => self.count(*done, true),
            Err(partial) => self.count(partial.done, false),
        }
        result
    }

    /// Counts the operation, which has moved `done` bytes. (A small read would take longer if its result were kept in memory
    /// for this.)
    #[inline(always)]
    pub(crate) fn count(self, done: usize, is_ok: bool) {
        let Operation { counters, is_read, calls, nanoseconds } = self;
        let done = done as u64;
        let (me, now) = THREAD.with(|thread| (ptr::from_ref(thread).addr(), thread.calls.get()));
        if counters.owner.load(Ordering::Relaxed) == me {
            let (count, bytes) = counters.own.of(is_read);
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            bytes.store(bytes.load(Ordering::Relaxed).wrapping_add(done), Ordering::Relaxed);
        } else {
            counters.count_for(me, is_read, done);
        }
        if now != calls || !is_ok {
            counters.count_rare(is_read, (now != calls).then_some(nanoseconds), is_ok);
        }
    }
}

impl Hot {
    #[inline(always)]
    fn of(&self, is_read: bool) -> (&AtomicU64, &AtomicU64) {
        if is_read { (&self.reads, &self.read) } else { (&self.writes, &self.written) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn read(counters: &Counters, bytes: usize) {
        let _ = counters.read().end(Ok(bytes));
    }

    #[test]
    fn operations_of_many_threads_through_one_handle_are_all_counted() {
        const EACH: u64 = 20_000;
        let counters = Counters::default();
        // The first thread owns it.
        read(&counters, 1);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..EACH).for_each(|_| read(&counters, 3)));
            }
            (0..EACH).for_each(|_| read(&counters, 5));
        });
        let stats = counters.stats();
        assert_eq!((stats.reads, stats.read), (1 + 4 * EACH, 1 + (3 * 3 + 5) * EACH));
        assert_eq!((stats.writes, stats.waits, stats.errors), (0, 0, 0));
    }

    #[test]
    fn only_calls_of_stores_within_an_operation_are_its_own() {
        let counters = Counters::default();
        waited(Duration::from_nanos(100));
        read(&counters, 1);
        let operation = counters.write();
        waited(Duration::from_nanos(7));
        waited(Duration::from_nanos(4));
        let _ = operation.end(Ok(10));
        let operation = counters.read();
        waited(Duration::from_nanos(1));
        let failed = operation.end(Err(Partial { done: 2, error: Error::TooLarge { pos: 0, len: 0 } }));
        assert!(counters.check(failed.map_err(|partial| partial.error)).is_err());
        let expected = HandleStats {
            reads: 2,
            misses: 1,
            read: 3,
            writes: 1,
            written: 10,
            waits: 2,
            waited: Duration::from_nanos(12),
            errors: 2,
        };
        assert_eq!(counters.stats(), expected);
    }
}
