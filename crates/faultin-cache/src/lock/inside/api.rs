//! The traits of `lock_api` for [`RawLock`].

use lock_api::{GuardNoSend, RawRwLock};

use super::raw::RawLock;
use crate::sync::{AtomicU32, AtomicU64};

pub(crate) type RwLock<T> = lock_api::RwLock<RawLock, T>;
pub(crate) type ReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawLock, T>;
pub(crate) type WriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawLock, T>;

// SAFETY: `RawLock` excludes: its invariant 1.
unsafe impl RawRwLock for RawLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "it is what the trait is made of")]
    const INIT: RawLock = RawLock { state: AtomicU64::new(0), permits: AtomicU32::new(0), wakes: AtomicU32::new(0) };

    /// The locks that a thread holds are noted in its own memory.
    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock_shared(&self) {
        RawLock::lock_shared(self);
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        RawLock::try_lock_shared(self)
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        RawLock::unlock_shared(self);
    }

    #[inline]
    fn lock_exclusive(&self) {
        RawLock::lock_exclusive(self);
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        RawLock::try_lock_exclusive(self)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        RawLock::unlock_exclusive(self);
    }
}
