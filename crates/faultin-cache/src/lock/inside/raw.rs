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

use crate::sync::{self, AtomicU32, AtomicU64, Ordering};

/// A reader-writer lock.
///
/// # Invariants
///
/// 1. `state` has [`WRITER`], or readers, or neither; never both.
/// 2. A thread waits to share it only while it has [`WRITER`] or a thread waits for it exclusively.
/// 3. It is [`URGENT`] only while a thread waits for it exclusively.
/// 4. `permits` is the number of threads that were handed the lock and have not noticed yet; these are counted as readers.
#[derive(Debug, Default)]
pub(crate) struct RawLock {
    pub(crate) state: AtomicU64,
    /// The word that readers sleep at, while it is 0.
    pub(crate) permits: AtomicU32,
    /// The word that writers sleep at: counts wakes. It would have to wrap around between a check and the sleep to cause an
    /// error.
    pub(super) wakes: AtomicU32,
}

// Three counters, each with room for a million threads at one lock.
const BITS: u32 = 20;
const READER: u64 = 1;
const READERS: u64 = (1 << BITS) - 1;
const READER_WAITS: u64 = 1 << BITS;
pub(super) const READERS_WAIT: u64 = READERS << BITS;
const WRITER_WAITS: u64 = 1 << (2 * BITS);
pub(super) const WRITERS_WAIT: u64 = READERS << (2 * BITS);
/// A thread that waits for it exclusively was overtaken too often.
const URGENT: u64 = 1 << 62;
/// A thread holds it exclusively.
const WRITER: u64 = 1 << 63;

impl RawLock {
    /// Tries to share it. Async-signal-safe.
    #[inline]
    pub(crate) fn try_lock_shared(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | WRITERS_WAIT) == 0 && state & READERS != READERS {
            match self.state.compare_exchange_weak(state, state + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn lock_shared(&self) {
        if !self.try_lock_shared() {
            self.wait_shared();
        }
    }

    /// Tries to take it exclusively. Async-signal-safe.
    #[inline]
    pub(crate) fn try_lock_exclusive(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok() || self.overtake()
    }

    #[inline]
    pub(crate) fn lock_exclusive(&self) {
        if !self.try_lock_exclusive() {
            self.wait_exclusive();
        }
    }

    /// Releases a shared lock. Async-signal-safe.
    #[inline]
    pub(crate) fn unlock_shared(&self) {
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

    /// Takes it exclusively, if it is free, although other threads wait for it.
    #[cold]
    fn overtake(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (WRITER | READERS | URGENT) == 0 {
            match self.state.compare_exchange_weak(state, state | WRITER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    fn wait_shared(&self) {
        if spin(|| self.try_lock_shared()) {
            return;
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let free = state & (WRITER | WRITERS_WAIT) == 0;
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
    fn wait_exclusive(&self) {
        if spin(|| self.try_lock_exclusive()) {
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
                    Ok(_) if done => return,
                    Ok(_) => break,
                    Err(now) => state = now,
                }
            }
            sync::wait(&self.wakes, wakes);
            slept += 1;
        }
    }

    #[cold]
    fn unlock_exclusive_awaited(&self) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let readers = (state & READERS_WAIT) / READER_WAITS;
            let new = (state & !(WRITER | READERS_WAIT)) + readers * READER;
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
