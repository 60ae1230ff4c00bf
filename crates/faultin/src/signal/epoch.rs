//! Whether what was read of a mapping is the file's: [`Epoch`].

use crate::sync::{AtomicU64, Ordering, fence};

/// A number that is odd while something is substituted, and never returns to an earlier value.
///
/// # Invariant
///
/// A reader that has seen a substituted byte sees an epoch that is odd, or another than before: the number is raised before
/// the bytes are substituted, and again after the last one has been put back.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Epoch(AtomicU64);

impl Epoch {
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Self {
        Epoch(AtomicU64::new(0))
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Epoch(AtomicU64::new(0))
    }

    /// To compare with later: whether what is read now is the file's.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether nothing was substituted since [`now`](Self::now) said `before`, nor then. What was read in between is the
    /// file's.
    #[inline(always)]
    pub(crate) fn was_whole(&self, before: u64) -> bool {
        // What was read, first.
        fence(Ordering::Acquire);
        before & 1 == 0 && self.0.load(Ordering::Relaxed) == before
    }

    /// Whether something is substituted.
    pub(crate) fn is_damaged(&self) -> bool {
        self.now() & 1 != 0
    }

    /// Something is about to be substituted. Async-signal-safe.
    pub(crate) fn damage(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Everything has been put back. By the only one that could substitute now.
    pub(crate) fn heal(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
