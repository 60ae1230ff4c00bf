//! A reader-writer lock on a futex that may be tried and unlocked in a signal handler.
//!
//! `parking_lot`'s may not: when somebody waits, its unlock looks up a queue in a hash table, by way of thread-local
//! memory and a lock. Here those who wait are counted in the lock's own word, and unlocking is atomic operations and at
//! most one system call.
//!
//! # Who goes first
//!
//! * Nobody new shares the lock while somebody waits to have it alone: writers are not overtaken by readers.
//! * Who has had it alone *hands it over* to all who wait to share it: they have it from then on, awake or not, and take
//!   up a *permit* each when they come to it. So readers are overtaken by one writer, the next ones wait for them.
//! * Otherwise the lock is just free, and who waits to have it alone is woken. Another writer may be faster: handing over
//!   to somebody who still has to wake up would make everybody wait for that, each time. Somebody who found that
//!   [`PATIENCE`](sync::PATIENCE) times is *urgent*, and then only who has slept for the lock takes it.

use crate::sync::{self, AtomicU32, AtomicU64, Ordering};

/// The lock.
///
/// # Invariants
///
/// 1. `state` has [`WRITER`], or readers, or neither; never both.
/// 2. Somebody waits to share it only while it has [`WRITER`] or somebody waits to have it alone.
/// 3. It is [`URGENT`] only while somebody waits to have it alone.
/// 4. `permits` are as many as those who were handed the lock and have not noticed yet; these are counted as readers.
#[derive(Debug, Default)]
pub(crate) struct RawLock {
    pub(super) state: AtomicU64,
    /// What readers sleep at, while it is 0.
    pub(super) permits: AtomicU32,
    /// What writers sleep at: how often one was woken. It would have to wrap around between a look and the sleep to be
    /// mistaken.
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
/// Somebody who waits to have it alone was overtaken too often.
const URGENT: u64 = 1 << 62;
/// Somebody has it alone.
const WRITER: u64 = 1 << 63;

impl RawLock {
    /// Async-signal-safe.
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

    /// Async-signal-safe.
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

    /// By who shares it. Async-signal-safe.
    #[inline]
    pub(crate) fn unlock_shared(&self) {
        let before = self.state.fetch_sub(READER, Ordering::Release);
        if before & READERS == READER && before & WRITERS_WAIT != 0 {
            self.wake_writer();
        }
    }

    /// By who has it alone. Async-signal-safe.
    #[inline]
    pub(crate) fn unlock_exclusive(&self) {
        if self.state.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_exclusive_awaited();
        }
    }

    /// Takes it alone, if nobody has it, although somebody waits for it.
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
        // It will be handed over. Whose permit it is does not matter: each is for one who waits.
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
            // Before the look at the state: who changes that after the look changes this after it, too.
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

    /// Whoever it is looks at the state, finds it free or that another was faster; who then wakes somebody in turn.
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
