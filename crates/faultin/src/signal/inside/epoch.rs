//! [`Epoch`]: whether bytes that were read from a mapping are the file's.

use crate::sync::{AtomicU64, Ordering, fence};

/// A number that is odd while something is substituted, and never returns to an earlier value.
///
/// # Invariant
///
/// A reader that has seen a substituted byte sees an epoch that is odd, or different from before: the number is raised
/// before the bytes are substituted, and again after the last one has been restored.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Epoch(AtomicU64);

impl Epoch {
    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Epoch(AtomicU64::new(0))
    }

    /// Returns the epoch, to compare with later.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Returns whether nothing was substituted since [`now`](Self::now) returned `before`, nor at that time. Bytes that
    /// were read in between are the file's.
    #[inline(always)]
    pub(crate) fn was_whole(&self, before: u64) -> bool {
        // The reads before the epoch.
        fence(Ordering::Acquire);
        before & 1 == 0 && self.0.load(Ordering::Relaxed) == before
    }

    /// Returns whether something is substituted.
    pub(crate) fn is_damaged(&self) -> bool {
        self.now() & 1 != 0
    }

    /// Records that something is about to be substituted. Async-signal-safe.
    pub(crate) fn damage(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Records that everything has been restored. Called only by the thread that alone could substitute now.
    pub(crate) fn heal(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
