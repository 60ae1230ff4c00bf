//! The counters of one handle.

use std::cell::Cell;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::HandleStats;
use crate::ahead::{Advice, Advised, Ahead};
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

/// What one thread changes with each operation of a handle. Its owner changes it by plain stores, which are faster than
/// atomic additions, and no other thread uses its line: whose it is, is written elsewhere.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Lane {
    /// It is for any thread, and changed by atomic additions.
    is_shared: bool,
    reads: AtomicU64,
    read: AtomicU64,
    writes: AtomicU64,
    written: AtomicU64,
    /// Where the owner reads, and how it reads ahead.
    pub(crate) ahead: Ahead,
}

/// The thread whose lane it is: that which has used it first, 0 before. (The name of a thread that has ended may be another
/// thread's later, which then goes on.)
#[derive(Debug, Default)]
struct Owner(AtomicUsize);

/// Maximum number of lanes that a thread tries.
const TRIES: usize = 8;

/// Two lines, so that no CPU fetches one together with another thread's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(Lane);

/// The lanes of other threads than the first one that use the same handle, about twice as many as there are CPUs.
#[derive(Debug)]
struct Others {
    owners: Box<[Owner]>,
    /// One for each owner, and one for all that own none.
    lanes: Box<[Apart]>,
}

/// The counters of one handle, in lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// The lane of the first thread.
    first: Lane,
    /// Each thread reads this with each operation: it is not in the line that the first one writes.
    first_owner: Owner,
    misses: AtomicU64,
    waits: AtomicU64,
    nanoseconds: AtomicU64,
    errors: AtomicU64,
    /// How the handle is going to read.
    pub(crate) advice: Advised,
    others: OnceLock<Box<Others>>,
}

/// An operation of a handle under way.
pub(crate) struct Operation<'a> {
    counters: &'a Counters,
    lane: &'a Lane,
    is_read: bool,
    /// What this thread had waited before.
    calls: u64,
    nanoseconds: u64,
}

impl Counters {
    /// Begins to count a read.
    #[inline(always)]
    pub(crate) fn read(&self) -> Operation<'_> {
        let (me, calls, nanoseconds) =
            THREAD.with(|thread| (ptr::from_ref(thread).addr(), thread.calls.get(), thread.nanoseconds.get()));
        let lane = if self.first_owner.0.load(Ordering::Relaxed) == me { &self.first } else { self.lane_of(me) };
        Operation { counters: self, lane, is_read: true, calls, nanoseconds }
    }

    /// Begins to count a write.
    #[inline(always)]
    pub(crate) fn write(&self) -> Operation<'_> {
        Operation { is_read: false, ..self.read() }
    }

    /// Returns the lane of a thread that does not own the first one, or did not yet.
    #[inline(never)]
    fn lane_of(&self, me: usize) -> &Lane {
        if self.first_owner.is(me) {
            return &self.first;
        }
        let others = self.others.get_or_init(|| Box::new(Others::new()));
        let own = others.owners.len();
        // Fibonacci hashing: the addresses of threads' variables differ by multiples of a page.
        let at = (me as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut tried = (0..TRIES).map(|more| (at as usize + more) % own);
        &others.lanes[tried.find(|&at| others.owners[at].is(me)).unwrap_or(own)].0
    }

    /// Sets how the handle is going to read.
    pub(crate) fn advise(&self, advice: Advice) {
        self.advice.set(advice);
        self.lanes().for_each(|lane| lane.ahead.reset());
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        let others = self.others.get().into_iter().flat_map(|others| &others.lanes).map(|apart| &apart.0);
        std::iter::once(&self.first).chain(others)
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
        let sum = |of: fn(&Lane) -> &AtomicU64| self.lanes().map(|lane| of(lane).load(Ordering::Relaxed)).sum();
        HandleStats {
            reads: sum(|lane| &lane.reads),
            misses: self.misses.load(Ordering::Relaxed),
            read: sum(|lane| &lane.read),
            writes: sum(|lane| &lane.writes),
            written: sum(|lane| &lane.written),
            waits: self.waits.load(Ordering::Relaxed),
            waited: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

impl Others {
    #[cold]
    fn new() -> Others {
        let number = 2 * std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two();
        let owners: Box<[Owner]> = (0..number.max(TRIES)).map(|_| Owner::default()).collect();
        let lane = |at| Apart(Lane { is_shared: at == owners.len(), ..Lane::default() });
        let lanes = (0..=owners.len()).map(lane).collect();
        Others { owners, lanes }
    }
}

impl Owner {
    /// Returns whether it is this thread, which it is from now on if it was none.
    fn is(&self, me: usize) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => self.0.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok(),
            owner => owner == me,
        }
    }
}

impl<'a> Operation<'a> {
    /// Begins to count another operation that waited with this one: the time is counted once.
    pub(crate) fn another(&self) -> Self {
        Operation { nanoseconds: THREAD.with(|thread| thread.nanoseconds.get()), ..*self }
    }

    /// Returns how the handle is going to read.
    #[inline(always)]
    pub(crate) fn advised(&self) -> &'a Advised {
        &self.counters.advice
    }

    /// Returns the lane of this thread.
    #[inline(always)]
    pub(crate) fn lane(&self) -> &'a Lane {
        self.lane
    }

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
        let Operation { counters, lane, is_read, calls, nanoseconds } = self;
        let done = done as u64;
        let now = THREAD.with(|thread| thread.calls.get());
        let (count, bytes) = lane.of(is_read);
        if lane.is_shared {
            count.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(done, Ordering::Relaxed);
        } else {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            bytes.store(bytes.load(Ordering::Relaxed).wrapping_add(done), Ordering::Relaxed);
        }
        if now != calls || !is_ok {
            counters.count_rare(is_read, (now != calls).then_some(nanoseconds), is_ok);
        }
    }
}

impl Lane {
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

    /// Else each operation of another thread would take the first one's line away from its CPU.
    #[test]
    fn whose_a_lane_is_lies_in_no_line_of_a_lane() {
        let line = |at: usize| at / align_of::<Lane>();
        let owner = std::mem::offset_of!(Counters, first_owner);
        assert_ne!(line(owner), line(std::mem::offset_of!(Counters, first)));
        assert_eq!(size_of::<Lane>(), align_of::<Lane>(), "a lane has one line");
        assert_eq!(line(owner), line(std::mem::offset_of!(Counters, advice)), "a read uses both");
        assert_eq!(size_of::<Counters>(), 2 * align_of::<Lane>());
    }

    /// More threads at once than there are lanes.
    #[test]
    fn threads_without_a_lane_of_their_own_are_counted() {
        const EACH: u64 = 200;
        let counters = Counters::default();
        let threads = 2 * Others::new().lanes.len() as u64;
        let all = std::sync::Barrier::new(threads as usize);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    read(&counters, 7);
                    // Each has a lane by now, or none.
                    all.wait();
                    (1..EACH).for_each(|_| read(&counters, 7));
                });
            }
        });
        assert_eq!((counters.stats().reads, counters.stats().read), (threads * EACH, 7 * threads * EACH));
        let others = counters.others.get().expect("more threads than one");
        assert!(others.owners.iter().filter(|owner| owner.0.load(Ordering::Relaxed) != 0).count() > 4);
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
