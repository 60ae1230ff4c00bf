//! Which threads hold a lock of a cache that a page fault may need: see [`held`](crate::lock::held).

use super::slots::Threads;

pub(in crate::lock) static SLOTS: Threads = Threads::new();

/// Returns whether the thread with this id (`gettid`) holds an inode lock or a writeback lock of any cache, or is about to:
/// from before it has the lock until after it has released it, also while it waits for it.
///
/// This is exact for the calling thread, and for one that has stopped (for example because it waits for the caller). A
/// thread that runs may have changed it meanwhile. Not counted are locks [taken in a signal](super::Lock::try_in_signal),
/// and those that a thread takes while its thread-local values are being dropped. In a child of a bare `clone` system call,
/// which the C library does not know of, the calling thread counts under its parent's id.
///
/// Async-signal-safe.
pub(crate) fn held_by(thread: u32) -> bool {
    SLOTS.is_held_by(thread)
}
