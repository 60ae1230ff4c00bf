//! What the parts that run in signal handlers are made of: atomics, and the futex as a bare system call, which touches
//! neither thread-local memory nor `errno`.
//!
//! Those parts use nothing else, and ask this module for it, so that `crates/faultin-cache-loom` can put its own in place
//! of it and run the very same code under every order of steps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::sys;

/// How often a lock is looked at before a thread goes to sleep for it: a few microseconds, what the sleep would cost.
pub(crate) const SPINS: u32 = 100;

/// How often somebody who waits is woken and finds that another was faster, before others have to let it go first.
/// Each time costs a switch of threads, so this is well below a millisecond.
pub(crate) const PATIENCE: u32 = 8;

/// Sleeps until it is woken, if `word` is `expected`. Also returns for no reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    // That the word has another value and that a signal came are both reasons to look again, as is having been woken.
    sys::futex_wait_for(word, expected, None);
}

/// As [`wait`], and also returns after some time: little enough for somebody who presses ^C, and enough for most answers.
pub(crate) fn wait_a_while(word: &AtomicU32, expected: u32) {
    const WHILE: Duration = Duration::from_millis(20);
    sys::futex_wait_for(word, expected, Some(WHILE));
}

/// Wakes as many as `count` of those who sleep at `word`.
pub(crate) fn wake(word: &AtomicU32, count: u32) {
    sys::futex_wake(word, count);
}

/// How many words those who wait for an answer of the pager share: more than there are processors on most machines.
pub(crate) const WORDS: usize = 64;

/// Between two looks at a word that another thread is to change.
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// Something to poll until it rings: an eventfd.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// # Errors
    /// The kernel's, for want of descriptors, or where a filter of system calls lets it not be rung: those who wait for it
    /// would wait forever.
    pub(crate) fn new() -> io::Result<Bell> {
        let named = |call: &'static str| move |error: Errno| faultin::CallError::name(call, error.into());
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(named("eventfd2"))?;
        sys::write(fd.as_fd(), &1_u64.to_ne_bytes()).map_err(named("write"))?;
        sys::read(fd.as_fd(), &mut [0_u8; 8]).map_err(named("read"))?;
        Ok(Bell(fd))
    }

    /// Async-signal-safe.
    pub(crate) fn ring(&self) {
        // It fails if it has been rung 2^64 times; then it is ringing.
        while sys::write(self.as_fd(), &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// No longer rings for what was before.
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

#[cfg(test)]
thread_local! {
    /// What another thread does just before this one silences a bell the next time.
    pub(crate) static BEFORE_SILENCE: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}
