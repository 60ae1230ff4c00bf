//! [`Users`]: counts the signal handlers and threads that use an object, and decides which thread may free it.
//!
//! The object is *open* from [`open`](Users::open) to [`retire`](Users::retire). A user [`enter`](Users::enter)s, and uses
//! the object only if it was open then; it [`leave`](Users::leave)s in any case. A retired object belongs to the one thread
//! whose [`claim`](Users::claim) succeeds, which requires that no user is left. No thread ever has to wait: the owner may
//! retire it and leave, and the last user claims it.

use crate::sync::{AtomicUsize, Ordering};

/// The object is open.
const OPEN: usize = 1 << (usize::BITS - 1);
/// The object was open, and its owner no longer needs it.
const RETIRED: usize = 1 << (usize::BITS - 2);

/// The users of one object, in one word: their number, and whether the object is open or retired. If it is neither, its
/// owner uses it alone, and a user that enters all the same does not touch it.
///
/// # Invariants
///
/// 1. From a successful [`claim`](Self::claim) to the next [`open`](Self::open) no user has seen the object open.
/// 2. The actions of users before they leave happen before a successful claim; the actions of the owner before it opens
///    happen before any action of a user after it has entered.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Users(AtomicUsize);

impl Users {
    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Users(AtomicUsize::new(0))
    }

    /// Lets users in. Called by the owner of an object that is neither open nor retired.
    pub(crate) fn open(&self) {
        self.0.fetch_or(OPEN, Ordering::Release);
    }

    /// Counts a user in. Returns whether it may use the object. Async-signal-safe.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        self.0.fetch_add(1, Ordering::Acquire) & OPEN != 0
    }

    /// Counts a user out. Returns whether the object is retired and no user is left, so that the caller should
    /// [`claim`](Self::claim) it. Async-signal-safe.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Release) == RETIRED + 1
    }

    /// Lets no more users in. Called by the owner of an open object, which must not touch it any more before its own
    /// [`claim`](Self::claim) succeeds.
    pub(crate) fn retire(&self) {
        self.0.fetch_xor(OPEN | RETIRED, Ordering::Relaxed);
    }

    /// Gives a retired object without users to the caller alone. Returns whether it did; true for one caller only.
    pub(crate) fn claim(&self) -> bool {
        self.0.compare_exchange(RETIRED, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives a retired object to the caller alone, whatever the number of its users: in a child of `fork`, which has none
    /// of the threads that were users in its parent.
    pub(crate) fn forget_parents_users(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
