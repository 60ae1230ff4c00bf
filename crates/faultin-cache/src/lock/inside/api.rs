//! The traits of `lock_api` for [`RawLock`].

use lock_api::{GuardNoSend, RawRwLock};

use super::held::SLOTS;
use super::raw::RawLock;
use super::regions::Regions;
use crate::lock::held::mine;
use crate::sync::{AtomicU32, AtomicU64};

pub(crate) type RwLock<T> = lock_api::RwLock<RawLock, T>;
pub(crate) type ReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawLock, T>;
pub(crate) type WriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawLock, T>;

// SAFETY: `RawLock` excludes: its invariant 1.
unsafe impl RawRwLock for RawLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "it is what the trait is made of")]
    const INIT: RawLock = RawLock {
        state: AtomicU64::new(0),
        permits: AtomicU32::new(0),
        wakes: AtomicU32::new(0),
        meetings: AtomicU32::new(0),
        regions: Regions::new(),
    };

    /// The locks that a thread holds are noted in its own memory.
    type GuardMarker = GuardNoSend;

    // Outside signals: the slot of a thread is in its thread-local memory, or it waits.
    #[inline]
    fn lock_shared(&self) {
        RawLock::lock_shared(self, mine(), Some(&SLOTS));
    }

    // Outside signals: the slot of a thread is in its thread-local memory, or it waits.
    #[inline]
    fn try_lock_shared(&self) -> bool {
        RawLock::try_lock_shared(self, mine(), Some(&SLOTS))
    }

    // Outside signals: the slot of a thread is in its thread-local memory.
    #[inline]
    unsafe fn unlock_shared(&self) {
        RawLock::unlock_shared(self, mine());
    }

    /// As of a moment ago; readers that are not counted are not noticed. A plain load.
    #[inline]
    fn is_locked(&self) -> bool {
        self.is_held()
    }

    // Outside signals: the slot of a thread is in its thread-local memory, or it waits.
    #[inline]
    fn lock_exclusive(&self) {
        RawLock::lock_exclusive(self, Some(&SLOTS));
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        RawLock::try_lock_exclusive(self, Some(&SLOTS))
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        RawLock::unlock_exclusive(self);
    }
}
