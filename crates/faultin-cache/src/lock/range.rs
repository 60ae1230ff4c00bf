//! Ranges of the bytes that a lock protects, each of which a thread may have for itself; and the bias of a lock.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use super::held::HeldLock;
use super::inside::api::{RwLock, WriteGuard};

/// Exclusive access to a range of the bytes that a lock protects, and shared access to all else, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ranged<'a, T> {
    lock: &'a RwLock<T>,
    taken: u64,
    range: Range<u64>,
    _held: HeldLock<'a>,
    /// It stays in its thread, as other guards do.
    stays: PhantomData<*const ()>,
}

/// Tries to take a range, noted as `held`. `None` where it is not possible, as far as one can tell at once.
#[inline]
pub(super) fn try_range<'a, T>(lock: &'a RwLock<T>, range: Range<u64>, held: HeldLock<'a>) -> Option<Ranged<'a, T>> {
    // SAFETY: the lock is not released here.
    let taken = unsafe { lock.raw() }.try_lock_range(&range)?;
    Some(Ranged { lock, taken, range, _held: held, stays: PhantomData })
}

impl<T> Ranged<'_, T> {
    /// Returns the range.
    #[inline]
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl<T> Deref for Ranged<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: no thread has the lock exclusively while this one has a range of it (invariant 5 of `RawLock`).
        unsafe { &*self.lock.data_ptr() }
    }
}

impl<T> Drop for Ranged<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the range was taken by this thread, which `Ranged` does not leave.
        unsafe { self.lock.raw() }.unlock_range(self.taken);
    }
}

/// Returns whether ranges are allowed at the moment.
#[inline]
pub(super) fn has_ranges<T>(lock: &RwLock<T>) -> bool {
    // SAFETY: the lock is not released here.
    unsafe { lock.raw() }.has_ranges()
}

/// Notes that two writers have met; allows ranges if that happens often, with the lock noted as `held`. Returns whether they are
/// allowed.
pub(super) fn meet_writer<T>(lock: &RwLock<T>, held: HeldLock<'_>) -> bool {
    // SAFETY: the lock is not released here.
    let raw = unsafe { lock.raw() };
    if raw.meet_writer()
        && let Some(guard) = lock.try_write()
    {
        #[cfg(test)]
        if let Some(look) = WHILE_ALLOWING.get() {
            look();
        }
        raw.make_regions();
        raw.allow_ranges();
        drop(guard);
    }
    drop(held);
    raw.has_ranges()
}

#[cfg(test)]
thread_local! {
    /// A look at this thread while it allows ranges.
    pub(crate) static WHILE_ALLOWING: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
}

/// Makes [`try_unbiased`] fail until another thread has taken the lock.
pub(super) fn bias<T>(guard: &WriteGuard<'_, T>) {
    // SAFETY: the lock is not released here.
    unsafe { lock_api::RwLockWriteGuard::rwlock(guard).raw() }.allow_ranges();
}

/// Tries to take the lock if no thread has it, waits for it, or has [biased](bias) it. Faster than to find out before.
#[inline]
pub(super) fn try_unbiased<T>(lock: &RwLock<T>) -> Option<WriteGuard<'_, T>> {
    // SAFETY: the lock is not released here.
    let locked = unsafe { lock.raw() }.try_lock_unbiased();
    // SAFETY: it was just taken.
    locked.then(|| unsafe { lock.make_write_guard_unchecked() })
}
