//! A reader-writer lock on a futex that may be tried and unlocked in a signal handler.
//!
//! `parking_lot`'s may not: when a thread waits, its unlock looks up a queue in a hash table, by way of thread-local memory
//! and a lock. Here the waiting threads are counted in the lock's own word, and unlocking is atomic operations and at most
//! one system call.
//!
//! # Fairness
//!
//! * No further thread shares the lock while a thread waits for it exclusively: readers do not overtake writers.
//! * A writer *hands the lock over* to all readers that wait: they have it from then on, awake or not, and take a *permit*
//!   each when they run. So one writer overtakes readers, the next ones wait for them.
//! * Otherwise the lock is just free, and a waiting writer is woken. Another writer may be faster: handing over to a thread
//!   that still has to wake up would make all threads wait for that, each time. A thread that was overtaken
//!   [`PATIENCE`](sync::PATIENCE) times is *urgent*, and then only a thread that has slept for the lock takes it.
//!
//! # Bias
//!
//! Threads that share a lock at the same time would pass the line with its counter back and forth, and each would wait for
//! it twice. So a lock that they share often becomes *biased* (Dice and Kogan, USENIX ATC 2019): a reader writes the lock's
//! address to its own [`Thread`] instead, and the lock's line is only read. A writer sets [`WRITER`], which lets no further
//! reader in, then waits until no thread has the lock's address, and ends the bias. So a lock that one thread uses, or that
//! is often written to, is as it would be without bias.
//!
//! A lock can be biased to writers of *ranges* instead, if its owner [allows](RawLock::allow_ranges) that: each takes the
//! [`Regions`] of its range, in lines that no other thread uses at the same time, and gives up if another one has them. Any
//! other thread ends this bias first, as a writer does.
//!
//! A reader stores its address and then loads the state; a writer stores to the state and then loads the addresses; each
//! with a barrier in between. So at least one of them sees the other. The same holds for regions in place of addresses.

use core::ops::Range;

use crate::lock::{Regions, Thread, Threads};
use crate::sync::{self, AtomicU32, AtomicU64, Ordering};

/// A reader-writer lock.
///
/// # Invariants
///
/// 1. `state` has [`WRITER`], or counted readers, or neither; never both.
/// 2. A thread waits to share it only while it has [`WRITER`] or a thread waits for it exclusively.
/// 3. It is [`URGENT`] only while a thread waits for it exclusively.
/// 4. `permits` is the number of threads that were handed the lock and have not noticed yet; these are counted as readers.
/// 5. A thread that has it without being counted has its address in its [`Thread`], and `state` is [`BIASED`]; or it has
///    regions, and `state` has [`RANGES`]; until it has released it. A thread that has set [`WRITER`] on such a lock has
///    the lock only once it has ended the bias.
/// 6. While it has [`RANGES`] there are no counted readers.
#[derive(Debug, Default)]
pub(crate) struct RawLock {
    pub(crate) state: AtomicU64,
    /// The word that readers sleep at, while it is 0.
    pub(crate) permits: AtomicU32,
    /// The word that writers sleep at: counts wakes. It would have to wrap around between a check and the sleep to cause an
    /// error.
    pub(super) wakes: AtomicU32,
    /// Number of times that a reader has met another one, since the lock was biased.
    pub(super) meetings: AtomicU32,
    /// What writers of ranges have.
    pub(super) regions: Regions,
}

// Three counters, each with room for a million threads at one lock.
const BITS: u32 = 20;
const READER: u64 = 1;
const READERS: u64 = (1 << BITS) - 1;
const READER_WAITS: u64 = 1 << BITS;
pub(super) const READERS_WAIT: u64 = READERS << BITS;
const WRITER_WAITS: u64 = 1 << (2 * BITS);
pub(super) const WRITERS_WAIT: u64 = READERS << (2 * BITS);
/// Writers of ranges may have it, and nobody else.
pub(super) const RANGES: u64 = 1 << 60;
/// Readers are not counted, if they have a [`Thread`] without another lock. Never together with [`RANGES`].
pub(crate) const BIASED: u64 = 1 << 61;
/// A thread that waits for it exclusively was overtaken too often.
const URGENT: u64 = 1 << 62;
/// A thread holds it exclusively.
const WRITER: u64 = 1 << 63;

impl RawLock {
    // Outside signals: it allocates.
    /// Makes what writers of ranges have, if it is not made yet.
    pub(crate) fn make_regions(&self) {
        self.regions.make();
    }

    /// Tries to share it. `mine` is what other threads see of this one, `threads` are as for
    /// [`try_lock_exclusive`](Self::try_lock_exclusive). Async-signal-safe.
    #[inline]
    pub(crate) fn try_lock_shared(&self, mine: Option<&Thread>, threads: Option<&Threads>) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        if state & (BIASED | RANGES) != 0 {
            return self.try_shared_biased(mine, threads);
        }
        let mut meets = false;
        while state & (WRITER | WRITERS_WAIT | RANGES) == 0 && state & READERS != READERS {
            meets |= state & READERS != 0;
            match self.state.compare_exchange_weak(state, state + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    if meets {
                        self.meet();
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn lock_shared(&self, mine: Option<&Thread>, threads: Option<&Threads>) {
        if !self.try_lock_shared(mine, threads) {
            self.wait_shared(mine, threads);
        }
    }

    /// Tries to take it exclusively. `threads` are all that may share it; `None` for a lock that is never
    /// shared. Async-signal-safe.
    #[inline]
    pub(crate) fn try_lock_exclusive(&self, threads: Option<&Threads>) -> bool {
        self.try_lock_free() || self.overtake(threads)
    }

    /// Tries to take it exclusively if no other thread has it, waits for it, or has left it biased.
    #[inline]
    pub(crate) fn try_lock_unbiased(&self) -> bool {
        // An exchange that fails would take the line from other threads, which find it biased, too.
        self.state.load(Ordering::Relaxed) == 0 && self.try_lock_free()
    }

    #[inline]
    fn try_lock_free(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn lock_exclusive(&self, threads: Option<&Threads>) {
        if !self.try_lock_exclusive(threads) {
            self.wait_exclusive(threads);
        }
    }

    /// Releases a shared lock. `mine` is what it was when the lock was taken. Async-signal-safe.
    #[inline]
    pub(crate) fn unlock_shared(&self, mine: Option<&Thread>) {
        // A thread that shares it twice is counted once; which of the two it releases first makes no difference.
        if let Some(mine) = mine.filter(|mine| mine.shares(self.address())) {
            return self.leave(mine);
        }
        let before = self.state.fetch_sub(READER, Ordering::Release);
        if before & READERS == READER && before & WRITERS_WAIT != 0 {
            self.wake_writer();
        }
    }

    /// Releases an exclusive lock. Async-signal-safe.
    #[inline]
    pub(crate) fn unlock_exclusive(&self) {
        if self.state.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_exclusive_awaited();
        }
    }

    /// Tries to take it for a range of the bytes that it protects: the caller has these exclusively, and shares all else.
    /// Succeeds only where [`allow_ranges`](Self::allow_ranges) was called and no thread has taken the lock otherwise since.
    /// Returns what [`unlock_range`](Self::unlock_range) needs.
    #[inline]
    pub(crate) fn try_lock_range(&self, range: &Range<u64>) -> Option<u64> {
        let is_allowed = |state: u64| state & (RANGES | WRITER | WRITERS_WAIT | READERS) == RANGES;
        if !is_allowed(self.state.load(Ordering::Relaxed)) {
            return None;
        }
        let Some(taken) = self.regions.take(range) else {
            // It may have had some of them for a moment, in which another thread began to wait for that.
            self.wake_after_leaving();
            return None;
        };
        if is_allowed(self.state.load(Ordering::SeqCst)) {
            return Some(taken);
        }
        self.unlock_range(taken);
        None
    }

    /// Releases a range.
    #[inline]
    pub(crate) fn unlock_range(&self, taken: u64) {
        self.regions.give_back(taken);
        self.wake_after_leaving();
    }

    /// Returns whether ranges were allowed a moment ago.
    #[inline]
    pub(crate) fn has_ranges(&self) -> bool {
        self.state.load(Ordering::Relaxed) & RANGES != 0
    }

    /// Notes that a writer has met another one which it could have run beside. Returns whether that has happened so often
    /// that ranges should be allowed.
    pub(crate) fn meet_writer(&self) -> bool {
        self.meetings.fetch_add(1, Ordering::Relaxed) >= sync::MEETINGS
    }

    /// Allows ranges from the next unlock on, for the thread that holds it exclusively; none can be taken before their
    /// regions are [made](Regions::make).
    pub(crate) fn allow_ranges(&self) {
        self.state.fetch_or(RANGES, Ordering::Relaxed);
    }

    /// Returns whether a counted reader or a writer held it a moment ago.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (WRITER | READERS) != 0
    }

    /// Its name among the locks that threads share.
    #[inline]
    fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }

    /// Tries to share it without being counted.
    #[inline]
    fn try_uncounted(&self, mine: &Thread) -> bool {
        mine.set_shares(self.address());
        if self.state.load(Ordering::SeqCst) & (BIASED | WRITER | WRITERS_WAIT) == BIASED {
            return true;
        }
        self.leave(mine);
        false
    }

    /// Releases a lock that is not counted.
    #[inline]
    fn leave(&self, mine: &Thread) {
        mine.set_shares(0);
        self.wake_after_leaving();
    }

    /// Wakes the writer that waits until this thread has left, if there is one.
    #[inline]
    fn wake_after_leaving(&self) {
        if self.state.load(Ordering::SeqCst) & WRITER != 0 {
            self.wake_revoker();
        }
    }

    /// Tries to share it while it is biased.
    #[inline(never)]
    fn try_shared_biased(&self, mine: Option<&Thread>, threads: Option<&Threads>) -> bool {
        if !self.has_ranges()
            && let Some(mine) = mine.filter(|mine| mine.shares_none())
        {
            return self.try_uncounted(mine);
        }
        let mut state = self.state.load(Ordering::Relaxed);
        if state & RANGES != 0 {
            if !self.overtake(threads) {
                return false;
            }
            self.unlock_exclusive();
            state = self.state.load(Ordering::Relaxed);
        }
        // Another thread may allow ranges again, or take it.
        while state & (WRITER | WRITERS_WAIT | RANGES) == 0 && state & READERS != READERS {
            match self.state.compare_exchange_weak(state, state + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Counts that a reader has met another one, for a thread that shares it.
    #[cold]
    fn meet(&self) {
        if self.meetings.fetch_add(1, Ordering::Relaxed) >= sync::MEETINGS {
            self.state.fetch_or(BIASED, Ordering::Relaxed);
        }
    }

    /// Returns whether a thread may have it without being counted: for the thread that has set [`WRITER`], or has seen
    /// the bias.
    fn is_shared(&self, threads: Option<&Threads>) -> bool {
        sync::fence(Ordering::SeqCst);
        threads.is_some_and(|threads| threads.share(self.address())) || self.regions.is_any_taken()
    }

    /// Ends the bias, for the thread that has set [`WRITER`] and has found that no thread shares it: now it has the lock.
    fn end_bias(&self) {
        self.meetings.store(0, Ordering::Relaxed);
        self.state.fetch_and(!(BIASED | RANGES), Ordering::Relaxed);
    }

    /// Takes it exclusively, if it is free, although it is biased or other threads wait for it.
    #[cold]
    fn overtake(&self, threads: Option<&Threads>) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | READERS | URGENT) == 0 {
            if state & (BIASED | RANGES) != 0 && self.is_shared(threads) {
                return false;
            }
            match self.state.compare_exchange_weak(state, state | WRITER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if state & (BIASED | RANGES) == 0 => return true,
                Ok(_) if self.is_shared(threads) => {
                    self.unlock_exclusive_awaited();
                    return false;
                }
                Ok(_) => {
                    self.end_bias();
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    fn wait_shared(&self, mine: Option<&Thread>, threads: Option<&Threads>) {
        if spin(|| self.try_lock_shared(mine, threads)) {
            return;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let free = state & (WRITER | WRITERS_WAIT) == 0;
            if free && state & RANGES != 0 {
                // Not by waiting as a writer does: a reader that shares it again would wait for that.
                match self.state.compare_exchange_weak(state, state | WRITER, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => {
                        self.revoke(threads);
                        self.unlock_exclusive();
                        state = self.state.load(Ordering::Relaxed);
                    }
                    Err(now) => state = now,
                }
                continue;
            }
            let (new, order) =
                if free { (state + READER, Ordering::Acquire) } else { (state + READER_WAITS, Ordering::Relaxed) };
            match self.state.compare_exchange_weak(state, new, order, Ordering::Relaxed) {
                Ok(_) if free => return,
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // It will be handed over. Permits are interchangeable: each is for one waiting thread.
        let mut permits = self.permits.load(Ordering::Relaxed);
        loop {
            if permits == 0 {
                sync::wait(&self.permits, 0);
                permits = self.permits.load(Ordering::Relaxed);
                continue;
            }
            match self.permits.compare_exchange_weak(permits, permits - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => permits = now,
            }
        }
    }

    #[cold]
    fn wait_exclusive(&self, threads: Option<&Threads>) {
        if spin(|| self.try_lock_exclusive(threads)) {
            return;
        }
        self.state.fetch_add(WRITER_WAITS, Ordering::Relaxed);
        let mut slept = 0;
        loop {
            // Before the state is read: a thread that changes the state after that read changes this afterwards, too.
            let wakes = self.wakes.load(Ordering::Acquire);
            let mut state = self.state.load(Ordering::Relaxed);
            loop {
                let (new, order, done) = if state & (WRITER | READERS) == 0 && (state & URGENT == 0 || slept > 0) {
                    ((state - WRITER_WAITS) & !URGENT | WRITER, Ordering::Acquire, true)
                } else if slept >= sync::PATIENCE && state & URGENT == 0 {
                    (state | URGENT, Ordering::Relaxed, false)
                } else {
                    break;
                };
                match self.state.compare_exchange_weak(state, new, order, Ordering::Relaxed) {
                    Ok(_) if done => {
                        if state & (BIASED | RANGES) != 0 {
                            self.revoke(threads);
                        }
                        return;
                    }
                    Ok(_) => break,
                    Err(now) => state = now,
                }
            }
            sync::wait(&self.wakes, wakes);
            slept += 1;
        }
    }

    /// Waits until no thread shares it without being counted, and ends the bias: for the thread that has set [`WRITER`].
    #[cold]
    fn revoke(&self, threads: Option<&Threads>) {
        loop {
            // Before the threads are read, as above.
            let wakes = self.wakes.load(Ordering::Acquire);
            if !self.is_shared(threads) || spin(|| !self.is_shared(threads)) {
                return self.end_bias();
            }
            sync::wait(&self.wakes, wakes);
        }
    }

    /// Wakes the writer that waits in [`revoke`](Self::revoke), and others that sleep at the same word.
    #[cold]
    fn wake_revoker(&self) {
        self.wakes.fetch_add(1, Ordering::Release);
        sync::wake(&self.wakes, sync::ALL);
    }

    #[cold]
    fn unlock_exclusive_awaited(&self) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let readers = (state & READERS_WAIT) / READER_WAITS;
            // Readers that get it now are in the way of ranges that this thread may have allowed.
            let ranges = if readers > 0 { RANGES } else { 0 };
            let new = (state & !(WRITER | READERS_WAIT | ranges)) + readers * READER;
            match self.state.compare_exchange_weak(state, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if readers > 0 => {
                    let readers = readers as u32;
                    self.permits.fetch_add(readers, Ordering::Release);
                    return sync::wake(&self.permits, readers);
                }
                Ok(_) if state & WRITERS_WAIT != 0 => return self.wake_writer(),
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Wakes a writer, which checks the state and finds it free, or that another was faster, which then wakes a thread in
    /// turn.
    #[cold]
    fn wake_writer(&self) {
        self.wakes.fetch_add(1, Ordering::Release);
        sync::wake(&self.wakes, 1);
    }
}

/// Tries a few times.
fn spin(lock: impl Fn() -> bool) -> bool {
    (0..sync::SPINS).any(|_| {
        sync::pause();
        lock()
    })
}
