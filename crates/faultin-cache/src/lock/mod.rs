//! The locks of a cache, with the bookkeeping that turns a deadlock into an error.
//!
//! A file has two main locks. The *writers' lock* orders writes, truncations and the like; it is held while a buffer is
//! faulted in, and no page fault ever takes it (the kernel's `i_rwsem`). The *inode lock* protects folios; code that
//! resolves a page fault of a mapped file takes it, so it is never held while a buffer may fault.
//!
//! # Lock order
//!
//! A thread takes a writers' lock or, for an `fsync`, the sync lock, then that file's inode lock, then (unless it holds
//! that one exclusively) the writeback lock. It never waits for a second inode lock: reclaim, which may want a folio of any
//! file, only tries. So there is no deadlock, unless a fault is resolved under the lock that it needs. A wait that would be
//! a deadlock does not begin: a thread that is about to wait registers the lock it wants and the locks it holds, searches
//! for a cycle among the waiting threads, and gets [`Deadlock`].
//!
//! Every thread of a cycle waits, so the last one to arrive sees all of it; running threads need no record. Taking a free
//! lock costs one atomic operation and a note in the thread's own list.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "what a child of `fork` does first")]
mod held;
mod id;
mod inside;
#[allow(unsafe_code, reason = "bytes that one thread of several has for itself")]
mod range;
#[cfg(test)]
mod stress;

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use parking_lot::Mutex;

use held::HeldLock;
use id::LockMode;
use inside::api::{ReadGuard, RwLock, WriteGuard};
use inside::briefly;

#[cfg(test)]
use crate::exploration::moment;
use crate::signals::without_signals;

pub(crate) use held::is_seen;
pub use id::{LockId, LockKind};
pub(crate) use inside::Lock;
pub(crate) use inside::held::held_by;
pub(crate) use inside::raw::RawLock;
pub(crate) use inside::regions::Regions;
pub(crate) use inside::slots::{Thread, Threads};
pub(crate) use range::Ranged;
#[cfg(test)]
pub(crate) use range::WHILE_ALLOWING;

/// Another thread may act, before a lock is taken: a hook for the exploration; a no-op in the library.
#[cfg(not(test))]
#[inline(always)]
const fn moment() {}

/// A lock whose wait would never have ended. Nothing was locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// The waits, this thread's first; each lock is held by the next wait's thread, and the last one by this thread.
    pub cycle: Vec<Waiter>,
}

/// A waiting thread and its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The thread that waits.
    pub thread: ThreadId,
    /// The lock that it waits for.
    pub lock: LockId,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadlock: ")?;
        for (index, Waiter { thread, lock }) in self.cycle.iter().enumerate() {
            if index > 0 {
                f.write_str(", which is held by one that waits: ")?;
            }
            write!(f, "{thread:?} waits for {lock}")?;
        }
        f.write_str(", which the first one holds")
    }
}

impl std::error::Error for Deadlock {}

impl From<Deadlock> for std::io::Error {
    fn from(deadlock: Deadlock) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::Deadlock, deadlock)
    }
}

/// All waiting threads.
static WAITING: Mutex<Vec<WaitRecord>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct WaitRecord {
    ticket: u64,
    thread: ThreadId,
    wants: (LockId, LockMode),
    holds: Vec<(LockId, LockMode)>,
}

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Shared<'a, T> {
    guard: ReadGuard<'a, T>,
    _held: HeldLock<'a>,
}

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Exclusive<'a, T> {
    guard: WriteGuard<'a, T>,
    _held: HeldLock<'a>,
}

impl<T> Lock<T> {
    pub(crate) fn new(file: u64, kind: LockKind, value: T) -> Self {
        Lock { id: LockId { file, kind }, inner: RwLock::new(value) }
    }

    // Always inlined: a guard that is returned through memory is loaded in one piece right after it was stored in two,
    // which stalls the CPU longer than the lock takes.
    #[inline(always)]
    pub(crate) fn shared(&self) -> Result<Shared<'_, T>, Deadlock> {
        moment();
        let held = HeldLock::note(&self.id, LockMode::Shared);
        let guard = match self.inner.try_read() {
            Some(guard) => guard,
            None => self.wait(LockMode::Shared, || self.inner.read())?,
        };
        Ok(Shared { guard, _held: held })
    }

    // As `shared`.
    #[inline(always)]
    pub(crate) fn exclusive(&self) -> Result<Exclusive<'_, T>, Deadlock> {
        moment();
        let held = HeldLock::note(&self.id, LockMode::Exclusive);
        let guard = match self.inner.try_write() {
            Some(guard) => guard,
            None => self.wait(LockMode::Exclusive, || self.inner.write())?,
        };
        Ok(Exclusive { guard, _held: held })
    }

    /// Returns whether no thread held the lock a moment ago.
    pub(crate) fn is_free(&self) -> bool {
        !self.inner.is_locked()
    }

    /// Shares the lock without waiting, except for a moment in which the holder may release it.
    pub(crate) fn try_shared(&self) -> Option<Shared<'_, T>> {
        moment();
        let held = HeldLock::note(&self.id, LockMode::Shared);
        Some(Shared { guard: briefly(|| self.inner.try_read())?, _held: held })
    }

    /// Takes the lock without waiting, except for a moment in which the holders may release it.
    pub(crate) fn try_exclusive_briefly(&self) -> Option<Exclusive<'_, T>> {
        moment();
        let held = HeldLock::note(&self.id, LockMode::Exclusive);
        Some(Exclusive { guard: briefly(|| self.inner.try_write())?, _held: held })
    }

    /// Takes the lock without waiting.
    pub(crate) fn try_exclusive(&self) -> Option<Exclusive<'_, T>> {
        let held = HeldLock::note(&self.id, LockMode::Exclusive);
        Some(Exclusive { guard: self.inner.try_write()?, _held: held })
    }

    /// Takes a range of the bytes that the lock protects, if ranges are [allowed](Self::meet_writer) and no thread is in the
    /// way. Exclusive for this range; what else is read may be read by others, and what else is changed must be atomic.
    #[inline]
    pub(crate) fn try_range(&self, range: Range<u64>) -> Option<Ranged<'_, T>> {
        moment();
        range::try_range(&self.inner, range, HeldLock::note(&self.id, LockMode::Exclusive))
    }

    /// Returns whether ranges are allowed at the moment.
    #[inline]
    pub(crate) fn has_ranges(&self) -> bool {
        range::has_ranges(&self.inner)
    }

    /// Notes that a thread had to wait for another one, although the two could have had a range each. Allows ranges once
    /// this has happened often since a thread has taken the lock otherwise. Returns whether they are allowed.
    #[cold]
    pub(crate) fn meet_writer(&self) -> bool {
        range::meet_writer(&self.inner, HeldLock::note(&self.id, LockMode::Exclusive))
    }

    /// Takes the lock if no other thread has it, waits for it, or has [biased](Exclusive::bias) it.
    // Inlined as `shared` is.
    #[inline(always)]
    pub(crate) fn try_unbiased(&self) -> Option<Exclusive<'_, T>> {
        moment();
        let held = HeldLock::note(&self.id, LockMode::Exclusive);
        Some(Exclusive { guard: range::try_unbiased(&self.inner)?, _held: held })
    }

    #[cold]
    fn wait<G>(&self, mode: LockMode, lock: impl FnOnce() -> G) -> Result<G, Deadlock> {
        let ticket = Ticket::take((self.id, mode))?;
        let guard = lock();
        // Only now: a thread that has a lock and is still listed as waiting for it misleads no other thread, because it has
        // what it wants, and blocks no other thread by waiting.
        drop(ticket);
        Ok(guard)
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Deref for Exclusive<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Exclusive<'_, T> {
    /// Makes [`try_unbiased`](Lock::try_unbiased) fail until the lock is taken in another way.
    pub(crate) fn bias(&self) {
        range::bias(&self.guard);
    }
}

impl<T> DerefMut for Exclusive<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A place in the list of waiting threads.
struct Ticket(u64);

impl Ticket {
    /// # Errors
    /// [`Deadlock`] if the holder of the lock waits for this thread.
    fn take(wants: (LockId, LockMode)) -> Result<Ticket, Deadlock> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
        let waiter = WaitRecord { ticket, thread: thread::current().id(), wants, holds: held::held() };
        // A pager thread may have to wait, too.
        without_signals(|| {
            let mut waiting = WAITING.lock();
            if let Some(cycle) = cycle(&waiter, &waiting) {
                return Err(Deadlock { cycle });
            }
            let ticket = Ticket(waiter.ticket);
            waiting.push(waiter);
            Ok(ticket)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        without_signals(|| WAITING.lock().retain(|waiter| waiter.ticket != self.0));
    }
}

/// Returns the cycle of waits from `newcomer` back to it.
fn cycle(newcomer: &WaitRecord, waiting: &[WaitRecord]) -> Option<Vec<Waiter>> {
    let waits = |waiter: &WaitRecord| Waiter { thread: waiter.thread, lock: waiter.wants.0 };
    // A thread that shares a lock blocks other sharing threads only while a thread waits for it exclusively: these are
    // served in order.
    let in_the_way = |holder: &WaitRecord, (lock, mode): (LockId, LockMode)| {
        holder.holds.iter().any(|&(held, as_what)| {
            let alone = |waiter: &WaitRecord| waiter.wants == (lock, LockMode::Exclusive);
            held == lock && (mode == LockMode::Exclusive || as_what == LockMode::Exclusive || waiting.iter().any(alone))
        })
    };
    let mut seen = vec![newcomer.ticket];
    let mut paths = vec![(newcomer, vec![waits(newcomer)])];
    while let Some((waiter, path)) = paths.pop() {
        if in_the_way(newcomer, waiter.wants) {
            return Some(path);
        }
        for next in waiting.iter().filter(|next| in_the_way(next, waiter.wants)) {
            if !seen.contains(&next.ticket) {
                seen.push(next.ticket);
                paths.push((next, path.iter().copied().chain([waits(next)]).collect()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::tests::assert_waits_without_signals;
    use std::sync::Barrier;

    pub(super) fn locks() -> [Lock<u32>; 2] {
        // Unique numbers: tests run side by side and share the list of waiting threads.
        static FILES: AtomicU64 = AtomicU64::new(1 << 40);
        [0, 1].map(|_| Lock::new(FILES.fetch_add(1, Ordering::Relaxed), LockKind::Inode, 0))
    }

    #[test]
    fn a_lock_that_this_thread_holds_is_reported() {
        let [lock, _] = locks();
        let guard = lock.exclusive().unwrap();
        for again in [lock.exclusive().map(drop), lock.shared().map(drop)] {
            let deadlock = again.unwrap_err();
            assert_eq!(deadlock.cycle, [Waiter { thread: thread::current().id(), lock: lock.id }]);
            assert!(deadlock.to_string().contains("waits for the inode lock of file"), "{deadlock}");
        }
        drop(guard);
        let _shared = lock.shared().unwrap();
        assert!(lock.exclusive().is_err());
        assert!(lock.try_exclusive().is_none());
    }

    /// A lock of a file that is not seen, so a handler that faults waits for the pager thread.
    #[test]
    fn who_waits_for_the_list_of_waiting_threads_has_its_signals_blocked() {
        let lock = Lock::new(1 << 39, LockKind::Writers, 0);
        let held = lock.exclusive().unwrap();
        assert_waits_without_signals((WAITING.lock(), held), || drop(lock.exclusive().unwrap()));
    }

    #[test]
    fn two_threads_that_wait_for_each_other_are_reported_to_the_second_one() {
        let [a, b] = locks();
        let both = Barrier::new(2);
        let turn = |mine: &Lock<u32>, other: &Lock<u32>| {
            let guard = mine.exclusive().unwrap();
            both.wait();
            let result = other.exclusive().map(drop);
            drop(guard);
            result
        };
        let results = thread::scope(|scope| {
            let other = scope.spawn(|| turn(&b, &a));
            [turn(&a, &b), other.join().unwrap()]
        });
        let reports: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!(reports[0].cycle.len(), 2);
        assert_ne!(reports[0].cycle[0].thread, reports[0].cycle[1].thread);
    }

    #[test]
    fn waiting_for_somebody_who_runs_is_none() {
        let [a, b] = locks();
        let held = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut guard = a.exclusive().unwrap();
                held.wait();
                for _ in 0..1000 {
                    drop(b.shared().unwrap());
                }
                *guard += 1;
            });
            held.wait();
            for _ in 0..100 {
                drop(b.exclusive().unwrap());
            }
            assert_eq!(*a.shared().unwrap(), 1);
        });
        assert!(!held_by(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()));
    }

    #[test]
    fn a_lock_taken_in_a_signal_is_nobodys() {
        let [lock, _] = locks();
        let mut guard = lock.try_in_signal().unwrap();
        *guard += 1;
        assert_eq!(*guard, 1);
        assert!(!held_by(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()));
        assert!(lock.try_in_signal().is_none());
        assert!(lock.try_exclusive().is_none());
        drop(guard);
        assert_eq!(*lock.shared().unwrap(), 1);
        let _shared = lock.shared().unwrap();
        assert!(lock.try_in_signal().is_none());
    }

    #[test]
    fn sharing_is_in_the_way_only_of_who_wants_it_alone() {
        let [a, b] = locks();
        let both = Barrier::new(2);
        let turn = |mine: &Lock<u32>, other: &Lock<u32>| {
            let _guard = mine.shared().unwrap();
            both.wait();
            let result = other.shared().map(drop);
            both.wait();
            result
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| turn(&b, &a));
            assert_eq!(turn(&a, &b), Ok(()));
            assert_eq!(other.join().unwrap(), Ok(()));
        });
    }
}
