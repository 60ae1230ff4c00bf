//! The bytes that a store has taken and not made durable.
//!
//! A store that has taken a write may still lose it: the kernel drops the dirty pages that it cannot write, marks them
//! clean, and reports that to one `fsync` only. So the cache remembers what the store has taken since its last successful
//! sync. After a failed sync, the blocks among them that have stayed in memory are dirty again; the rest is *lost*, and
//! each sync fails until those bytes are written again, or are no longer in the file.
//!
//! Blocks in memory have a bit each, in their folio, with the *epoch* of the writes. A sync begins by ending an epoch,
//! under the exclusive inode lock, so that no write is under way; if it succeeds, the writes of that epoch and of those
//! before are durable. Bytes that are no longer in memory, or went past the cache, are in sets of ranges.

#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::ranges::Ranges;

/// The state of one file's syncs, except for the bits of its folios.
#[derive(Debug)]
pub(crate) struct Unsynced {
    /// The epoch of the current writes.
    pub(super) epoch: u64,
    /// The last epoch whose writes are durable.
    pub(super) durable: u64,
    /// The epoch that the sync under way ends. It stays if the store panics, and that sync counts as failed.
    ending: Option<u64>,
    /// Bytes that the store has taken since the last sync began, and that no block has had since.
    absent: Ranges,
    /// The same, from before the last sync began.
    absent_before: Ranges,
    /// The least length to which the store was truncated before the last sync began, since one has succeeded; or
    /// `u64::MAX`.
    cut_before: u64,
    /// The lost bytes.
    lost: Ranges,
    /// The first error of a sync that lost bytes which are still lost.
    error: Option<Arc<io::Error>>,
}

impl Unsynced {
    pub(super) fn new() -> Unsynced {
        Unsynced {
            epoch: 1,
            durable: 0,
            ending: None,
            absent: Ranges::default(),
            absent_before: Ranges::default(),
            cut_before: u64::MAX,
            lost: Ranges::default(),
            error: None,
        }
    }

    /// Returns whether a sync has begun and has neither succeeded nor failed.
    pub(crate) fn is_under_way(&self) -> bool {
        self.ending.is_some()
    }

    /// Begins a sync: no write of the file is under way. `cut` is the least length to which the store was truncated since
    /// the last one.
    pub(crate) fn begin(&mut self, cut: u64) {
        self.ending = Some(self.epoch);
        self.epoch += 1;
        self.absent_before.append(&mut self.absent);
        self.cut_before = self.cut_before.min(cut);
    }

    /// Records that the sync has succeeded.
    pub(crate) fn succeed(&mut self) {
        self.durable = self.ending.take().unwrap_or(self.durable);
        self.absent_before = Ranges::default();
        self.cut_before = u64::MAX;
    }

    /// Records that the sync has failed. The error may also concern writes that were answered during the sync; `cut` is as
    /// in [`begin`](Self::begin). Returns the least length to which the store was truncated since a sync has succeeded: the
    /// store's bytes from there on may reappear.
    pub(super) fn fail(&mut self, cut: u64) -> u64 {
        self.durable = self.ending.take().unwrap_or(self.durable);
        self.absent.append(&mut self.absent_before);
        mem::replace(&mut self.cut_before, u64::MAX).min(cut)
    }

    /// Marks the bytes that no block has as lost, up to the file's `size`.
    pub(super) fn lose(&mut self, error: &Arc<io::Error>, size: u64) {
        self.absent.remove(size..u64::MAX);
        self.lost.append(&mut self.absent);
        if !self.lost.is_empty() {
            self.error.get_or_insert_with(|| Arc::clone(error));
        }
    }

    /// Notes that the store has taken bytes, or zeros, that no block has.
    pub(super) fn is_absent(&mut self, range: Range<u64>) {
        self.absent.insert(range);
    }

    /// Returns whether [`replaced`](Self::replaced) has nothing to note.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.absent.is_empty() && self.absent_before.is_empty() && self.lost.is_empty()
    }

    /// Notes that the store's bytes in `range` do not matter: they are replaced, or no longer in the file.
    #[inline]
    pub(crate) fn replaced(&mut self, range: Range<u64>) {
        if !self.is_quiet() {
            self.forget(range);
        }
    }

    #[cold]
    fn forget(&mut self, range: Range<u64>) {
        for set in [&mut self.absent, &mut self.absent_before, &mut self.lost] {
            set.remove(range.clone());
        }
        if self.lost.is_empty() {
            self.error = None;
        }
    }

    /// Returns the lost ranges, and the error.
    pub(crate) fn lost(&self) -> Option<(Vec<Range<u64>>, Arc<io::Error>)> {
        let error = self.error.as_ref()?;
        Some((self.lost.iter().collect(), Arc::clone(error)))
    }
}
