//! The building blocks of code that runs in signal handlers: atomics, and the futex as a bare system call, which touches
//! neither thread-local memory nor `errno`.
//!
//! Such code uses nothing else, and imports it from this module, so that `crates/faultin-cache-loom` can substitute its own
//! and run the very same code under every order of steps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
pub(crate) use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use faultin::signal::slots::{Blank, Slot, Slots};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::sys;

/// How often a lock is checked before a thread sleeps for it: a few microseconds, the cost of the sleep.
pub(crate) const SPINS: u32 = 100;

/// How often a waiting thread is woken and finds that another was faster, before other threads have to let it go first.
/// Each time costs a switch of threads, so this is well below a millisecond.
pub(crate) const PATIENCE: u32 = 8;

/// How often readers meet in a lock before it is biased. That takes them a few microseconds, as long as a writer then takes
/// to examine a hundred threads.
pub(crate) const MEETINGS: u32 = 64;

/// A number of threads that is large enough for all.
pub(crate) const ALL: u32 = i32::MAX as u32;

/// Stores, after all that this thread has done before, and before all that it does afterwards. One instruction does both on
/// x86-64, and takes less time there than a store and a barrier.
#[inline(always)]
pub(crate) fn publish(word: &AtomicU64, value: u64) {
    word.swap(value, Ordering::SeqCst);
}

/// Number of regions of a lock whose ranges threads have for themselves.
pub(crate) const REGIONS: usize = 64;

/// Makes a word 1 that is 0, before all that this thread does afterwards. Returns whether it was 0.
#[inline(always)]
pub(crate) fn take(word: &AtomicU32) -> bool {
    word.compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Makes a word 0, after all that this thread has done before, and before all that it does afterwards.
#[inline(always)]
pub(crate) fn give_back(word: &AtomicU32) {
    word.swap(0, Ordering::SeqCst);
}

/// Sleeps until it is woken, if `word` is `expected`. May also return spuriously.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    // A changed word, a signal and a wake are all reasons to check again.
    sys::futex_wait_for(word, expected, None);
}

/// Sleeps as [`wait`] does, and also returns after some time: short enough for a user who presses ^C, and long enough for
/// most answers.
pub(crate) fn wait_a_while(word: &AtomicU32, expected: u32) {
    const WHILE: Duration = Duration::from_millis(20);
    sys::futex_wait_for(word, expected, Some(WHILE));
}

/// Wakes at most `count` of the threads that sleep at `word`.
pub(crate) fn wake(word: &AtomicU32, count: u32) {
    sys::futex_wake(word, count);
}

/// Number of words that threads waiting for an answer of the pager share: more than there are processors on most machines.
pub(crate) const WORDS: usize = 64;

/// Pauses between two checks of a word that another thread is about to change.
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// A descriptor to poll until it rings: an eventfd.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    // Outside signals: it opens a descriptor.
    /// # Errors
    /// The kernel's error, for lack of descriptors, or where a filter of system calls prevents ringing: its waiters would
    /// wait forever.
    pub(crate) fn new() -> io::Result<Bell> {
        let named = |call: &'static str| move |error: Errno| faultin::CallError::name(call, error.into());
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(named("eventfd2"))?;
        sys::write(fd.as_fd(), &1_u64.to_ne_bytes()).map_err(named("write"))?;
        sys::read(fd.as_fd(), &mut [0_u8; 8]).map_err(named("read"))?;
        Ok(Bell(fd))
    }

    /// Rings. Async-signal-safe.
    pub(crate) fn ring(&self) {
        // It fails if it has been rung 2^64 times; then it is ringing.
        while sys::write(self.as_fd(), &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Clears all earlier rings.
    pub(crate) fn silence(&self) {
        #[cfg(test)]
        if let Some(act) = BEFORE_SILENCE.take() {
            act();
        }
        // It fails if it does not ring.
        while sys::read(self.as_fd(), &mut [0_u8; 8]) == Err(Errno::INTR) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// Outside signals: for tests.
#[cfg(test)]
thread_local! {
    /// An action of another thread just before this one silences a bell the next time.
    pub(crate) static BEFORE_SILENCE: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}
