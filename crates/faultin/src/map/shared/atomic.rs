//! Atomic operations on shared memory, with the names and orderings of [`scalar`](crate::raw#scalars).

use std::sync::atomic::Ordering;

use super::SharedMap;
use crate::blocked;
use crate::fault::{Fault, Short};
use crate::map::error::{MapError, OperationError, Reason};
use crate::map::mapping::Mapping;
use crate::scalar::{self, Scalar};

macro_rules! fetch {
    ($($name:ident)*) => {$(
        /// The operation of [`scalar`](crate::raw#scalars) with this name; returns the old value.
        ///
        /// # Errors
        /// Those of [`swap`](Self::swap).
        #[inline]
        pub fn $name<T: Scalar>(&self, at: u64, value: T, order: Ordering) -> Result<T, MapError> {
            // SAFETY: `place` is within the mapping, whose invariants are the preconditions.
            self.atomic(at, |place| unsafe { scalar::$name(place, value, order) })
        }
    )*};
}

impl SharedMap {
    /// Loads a value atomically. `order` is `Relaxed`, `Acquire` or `SeqCst`.
    ///
    /// # Errors
    /// Those of [`load`](Self::load). [`Fault`](Reason::Fault) with [`Cause::Alignment`](crate::Cause::Alignment) if it is
    /// not aligned to its size, and with [`Cause::Unsupported`](crate::Cause::Unsupported) if the ordering or the machine
    /// does not support it. [`Unsupported`](Reason::Unsupported) over pread.
    #[inline]
    pub fn load_atomic<T: Scalar>(&self, at: u64, order: Ordering) -> Result<T, MapError> {
        let before = self.epoch();
        self.atomic(at, |place| {
            // SAFETY: `place` is within the mapping, whose invariants are the preconditions.
            let value = unsafe { scalar::load_atomic(place, order) }?;
            self.whole_since(before, place).map(|()| value)
        })
    }

    /// Stores a value atomically. `order` is `Relaxed`, `Release` or `SeqCst`.
    ///
    /// # Errors
    /// Those of [`swap`](Self::swap).
    #[inline]
    pub fn store_atomic<T: Scalar>(&self, at: u64, value: T, order: Ordering) -> Result<(), MapError> {
        // SAFETY: as above.
        self.atomic(at, |place: *mut T| unsafe { scalar::store_atomic(place, value, order) })
    }

    /// Exchanges a value, sequentially consistent; returns the old one.
    ///
    /// # Errors
    /// Those of [`load_atomic`](Self::load_atomic), and of [`write_at`](Self::write_at). After [`Changed`](Reason::Changed)
    /// the operation may have been made, on memory that no longer belongs to the file; after any other error nothing was
    /// stored.
    #[inline]
    pub fn swap<T: Scalar>(&self, at: u64, value: T) -> Result<T, MapError> {
        // SAFETY: as above.
        self.atomic(at, |place| unsafe { scalar::swap(place, value) })
    }

    /// Stores `new` if the value is `current`, and returns `Ok(Ok(old))` if it was, `Ok(Err(old))` if not.
    ///
    /// # Errors
    /// Those of [`swap`](Self::swap).
    #[inline]
    pub fn compare_exchange<T: Scalar>(
        &self,
        at: u64,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, MapError> {
        let before = self.epoch();
        self.atomic(at, |place: *mut T| {
            // SAFETY: as above.
            let exchanged = unsafe { scalar::compare_exchange(place, current, new, success, failure) }?;
            // (If the comparison failed, nothing was stored.)
            if exchanged.is_err() {
                self.whole_since(before, place)?;
            }
            Ok(exchanged)
        })
    }

    fetch!(fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_nand fetch_max fetch_min);

    /// Returns the epoch for a later [`whole_since`](Self::whole_since).
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.mapping.as_ref().map_or(0, Mapping::epoch)
    }

    /// Checks that a value that was loaded from `place` is the peer's, and not the zeros of a scan.
    #[inline]
    pub(super) fn whole_since<T>(&self, before: u64, place: *const T) -> Result<(), Fault> {
        self.mapping.as_ref().map_or(Ok(()), |mapping| mapping.whole_since(before, place.cast()))
    }

    #[inline]
    fn atomic<T: Scalar, R>(&self, at: u64, operation: impl FnOnce(*mut T) -> Result<R, Fault>) -> Result<R, MapError> {
        let (start, len) = self.clamp(at, size_of::<T>());
        self.prepare();
        self.atomic_at(start, len, operation)
            .and_then(|value| self.look(start, len).map(|()| value))
            .map_err(|stop| self.error(at, OperationError { done: 0, ..stop }))
    }

    /// Does not check the file unless the access faults: for the words of a ring, which are checked with its data.
    #[inline]
    pub(super) fn atomic_at<T: Scalar, R>(
        &self,
        start: usize,
        len: usize,
        operation: impl FnOnce(*mut T) -> Result<R, Fault>,
    ) -> Result<R, OperationError> {
        if len < size_of::<T>() {
            return Err(self.past_end(0));
        }
        let Some(mapping) = &self.mapping else {
            return Err(OperationError::new(0, Reason::Unsupported("an atomic operation over pread")));
        };
        blocked::unblocked(|| operation(mapping.base().wrapping_add(self.lead() + start).cast()))
            .map_err(|fault| self.explain_store(start, Short { done: 0, fault }))
    }
}
