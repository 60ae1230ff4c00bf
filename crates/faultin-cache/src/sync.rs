//! What the parts that run in signal handlers are made of: atomics, and the futex as a bare system call, which touches
//! neither thread-local memory nor `errno`.
//!
//! Those parts use nothing else, and ask this module for it, so that `crates/faultin-cache-loom` can put its own in place
//! of it and run the very same code under every order of steps.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex::{self, Flags};

/// How often a lock is looked at before a thread goes to sleep for it: a few microseconds, what the sleep would cost.
pub(crate) const SPINS: u32 = 100;

/// How often somebody who waits is woken and finds that another was faster, before others have to let it go first.
/// Each time costs a switch of threads, so this is well below a millisecond.
pub(crate) const PATIENCE: u32 = 8;

/// Sleeps until it is woken, if `word` is `expected`. Also returns for no reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    // That the word has another value and that a signal came are both reasons to look again, as is having been woken.
    let _ = futex::wait(word, Flags::PRIVATE, expected, None);
}

/// Wakes as many as `count` of those who sleep at `word`.
pub(crate) fn wake(word: &AtomicU32, count: u32) {
    // The kernel takes a signed number. It fails only if the word is not memory.
    let _ = futex::wake(word, Flags::PRIVATE, count.min(i32::MAX as u32));
}

/// Between two looks at a word that another thread is to change.
pub(crate) fn pause() {
    core::hint::spin_loop();
}
