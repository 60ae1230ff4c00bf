//! The length of a store, as far as the cache knows it.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// The largest position, and the largest length: those of the kernel's `loff_t`.
pub(crate) const MAX_BYTES: u64 = i64::MAX as u64;

/// An unknown bound, or a position that no store has.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Bounds of a store's length. If they are equal, they are the length.
///
/// They change under the writeback lock with the inode lock shared, or under the inode lock alone, and around the calls that
/// change the store: the upper bound is [`UNKNOWN`] before such a call begins, the lower one already reduced, and both stay so
/// if the call fails or panics. A reader without a lock therefore never sees a store that is shorter than the lower bound.
#[derive(Debug)]
pub(crate) struct Length {
    /// The store has these bytes. A read that ends before is an error.
    least: AtomicU64,
    /// The store has no byte from here on.
    most: AtomicU64,
    /// The store's bytes from here on do not belong to the file, and must be truncated before the file grows; or
    /// [`UNKNOWN`].
    leftover: AtomicU64,
    /// The least length to which the store was truncated since [`take_cut`](Self::take_cut), or [`UNKNOWN`].
    cut: AtomicU64,
    /// The store neither grows nor shrinks.
    is_fixed: bool,
}

impl Length {
    pub(crate) fn new(len: u64, is_fixed: bool) -> Length {
        Length { least: len.into(), most: len.into(), leftover: UNKNOWN.into(), cut: UNKNOWN.into(), is_fixed }
    }

    /// Returns whether the length never changes.
    pub(crate) fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// Returns the end of the bytes that the store must have.
    pub(crate) fn least(&self) -> u64 {
        self.least.load(Ordering::Acquire)
    }

    /// Returns the end of the bytes that the store may have: bytes past it read as zeros without a call.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Acquire).min(self.leftover.load(Ordering::Acquire))
    }

    /// Returns whether the store certainly has `len` bytes.
    pub(crate) fn is(&self, len: u64) -> bool {
        self.is_fixed || (self.least() == len && self.most.load(Ordering::Acquire) == len)
    }

    /// Records that the store is about to be written up to `end`. Returns the bound for [`grew`](Self::grew).
    pub(super) fn grows(&self, end: u64) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        if end > most && !self.is_fixed {
            self.most.store(UNKNOWN, Ordering::Release);
        }
        most
    }

    /// Records that write: `before` is the result of [`grows`](Self::grows). The store has the bytes up to `reached`, and
    /// no more if `is_exact`.
    pub(super) fn grew(&self, before: u64, reached: u64, is_exact: bool) {
        if self.is_fixed {
            return;
        }
        self.least.fetch_max(reached, Ordering::Release);
        if is_exact {
            self.most.store(before.max(reached), Ordering::Release);
        }
    }

    /// Records that the length of the store is about to be set to `len` bytes, or may become that.
    pub(super) fn changes(&self, len: u64) {
        if !self.is_fixed {
            self.least.fetch_min(len, Ordering::Release);
            self.most.store(UNKNOWN, Ordering::Release);
        }
    }

    /// Returns whether the store may have more than `len` bytes.
    pub(super) fn may_exceed(&self, len: u64) -> bool {
        !self.is_fixed && self.most.load(Ordering::Acquire) > len
    }

    /// Records that the store now has `len` bytes, which is a truncation if it was longer.
    pub(super) fn changed(&self, len: u64, is_cut: bool) {
        if !self.is_fixed {
            if is_cut {
                self.cut.fetch_min(len, Ordering::Relaxed);
            }
            self.most.store(len, Ordering::Release);
            self.least.store(len, Ordering::Release);
            self.leftover.fetch_update(Ordering::Release, Ordering::Relaxed, |at| (len <= at).then_some(UNKNOWN)).ok();
        }
    }

    /// Returns the least length to which the store was truncated since the last call; otherwise [`UNKNOWN`].
    pub(super) fn take_cut(&self) -> u64 {
        self.cut.swap(UNKNOWN, Ordering::Relaxed)
    }

    /// Records that the store may have bytes from `len` on that do not belong to the file.
    pub(super) fn note_leftover(&self, len: u64) {
        if !self.is_fixed {
            self.leftover.fetch_min(len, Ordering::Release);
        }
    }

    /// Returns the start of such bytes, if there may be some.
    pub(super) fn leftover(&self) -> Option<u64> {
        Some(self.leftover.load(Ordering::Relaxed)).filter(|&at| at != UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_meet_only_where_the_store_has_answered() {
        let length = Length::new(100, false);
        assert!(length.is(100));
        let before = length.grows(200);
        assert_eq!((length.least(), length.most()), (100, UNKNOWN), "under way");
        length.grew(before, 150, false);
        assert_eq!((length.least(), length.most()), (150, UNKNOWN), "it failed behind that");
        length.changes(120);
        assert_eq!((length.least(), length.most(), length.is(120)), (120, UNKNOWN, false));
        length.changed(120, false);
        assert!(length.is(120));
        let before = length.grows(80);
        length.grew(before, 40, false);
        assert!(length.is(120), "a write within it does not change it");
    }

    #[test]
    fn leftover_bytes_are_not_read_and_end_with_a_truncation() {
        let length = Length::new(100, false);
        length.grows(200);
        length.note_leftover(100);
        assert_eq!((length.most(), length.leftover(), length.is(100)), (100, Some(100), false));
        length.changes(150);
        length.changed(150, false);
        assert_eq!((length.leftover(), length.most()), (Some(100), 100), "longer than that is no cut");
        length.changes(100);
        length.changed(100, true);
        assert!(length.is(100) && length.leftover().is_none());
        assert_eq!((length.take_cut(), length.take_cut()), (100, UNKNOWN));
    }

    #[test]
    fn a_fixed_length_stays() {
        let length = Length::new(100, true);
        let before = length.grows(200);
        length.grew(before, 0, false);
        length.changes(50);
        length.note_leftover(10);
        assert!(length.is(100) && length.is_fixed() && length.most() == 100 && length.least() == 100);
    }
}
