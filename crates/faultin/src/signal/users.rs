//! How a thing ends while signal handlers may be using it: [`Users`] counts them, and says which thread may free it.
//!
//! The thing is *open* from [`open`](Users::open) to [`retire`](Users::retire). A user [`enter`](Users::enter)s, and uses
//! the thing only if it was open then; it [`leave`](Users::leave)s in any case. A retired thing belongs to the one thread
//! whose [`claim`](Users::claim) succeeds, which needs that no user is left. No thread ever has to wait: the owner may
//! retire and go away, and the last user claims.

use crate::sync::{AtomicUsize, Ordering};

/// The thing is open.
const OPEN: usize = 1 << (usize::BITS - 1);
/// The thing was open, and its owner has no use for it any more.
const RETIRED: usize = 1 << (usize::BITS - 2);

/// The users of one thing, in one word: their number, and whether the thing is open or retired. If it is neither, it is
/// its owner's alone, and a user that enters all the same does not touch it.
///
/// # Invariants
///
/// 1. From a successful [`claim`](Self::claim) to the next [`open`](Self::open) no user has seen the thing open.
/// 2. What users did before they left happens before a successful claim; what the owner did before it opened happens
///    before anything that a user does after it has entered.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Users(AtomicUsize);

impl Users {
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Self {
        Users(AtomicUsize::new(0))
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Users(AtomicUsize::new(0))
    }

    /// Lets users in. By the owner of a thing that is neither open nor retired.
    pub(crate) fn open(&self) {
        self.0.fetch_or(OPEN, Ordering::Release);
    }

    /// Counts a user in. Returns whether it may use the thing. Async-signal-safe.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        self.0.fetch_add(1, Ordering::Acquire) & OPEN != 0
    }

    /// Counts a user out. Returns whether the thing is retired and no user is left, so that it is time to
    /// [`claim`](Self::claim) it. Async-signal-safe.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Release) == RETIRED + 1
    }

    /// Lets no more users in. By the owner of an open thing, which must not touch it any more before a
    /// [`claim`](Self::claim) of its own succeeds.
    pub(crate) fn retire(&self) {
        self.0.fetch_xor(OPEN | RETIRED, Ordering::Relaxed);
    }

    /// Makes a retired thing that has no users the caller's alone. Returns whether it did; to one caller only.
    pub(crate) fn claim(&self) -> bool {
        self.0.compare_exchange(RETIRED, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Makes a retired thing the caller's alone, whatever the number of its users: in a child of `fork`, which has none
    /// of the threads that were users in its parent.
    pub(crate) fn forget_parents_users(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
