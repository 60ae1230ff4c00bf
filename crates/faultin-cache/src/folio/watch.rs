//! Reads of the store while no lock is held: each watches its range, and is told if the store's bytes there may have changed while
//! no folio records that.
//!
//! A folio that was written is newer than what was read. Once it is evicted, or its blocks are dropped, nothing else tells that:
//! so whatever does this marks the watches of the same bytes, and no others.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

/// A part of a file that is being read from its store.
#[derive(Debug)]
pub(crate) struct Watch {
    range: Range<u64>,
    is_stale: AtomicBool,
}

impl Watch {
    /// Returns whether what was read may be older than the file. For holders of the inode lock.
    pub(crate) fn is_stale(&self) -> bool {
        // The lock orders it.
        self.is_stale.load(Relaxed)
    }
}

/// The watches of a file. One that only this list has is over: so a store that panics leaves nothing behind.
#[derive(Debug, Default)]
pub(in crate::folio) struct Watches(Mutex<Vec<Arc<Watch>>>);

impl Watches {
    pub(in crate::folio) fn add(&self, range: Range<u64>) -> Arc<Watch> {
        let watch = Arc::new(Watch { range, is_stale: AtomicBool::new(false) });
        let mut all = self.0.lock();
        all.retain(|other| Arc::strong_count(other) > 1);
        all.push(Arc::clone(&watch));
        watch
    }

    /// Marks those that have bytes of a range.
    pub(in crate::folio) fn mark(&mut self, range: &Range<u64>) {
        for watch in self.0.get_mut() {
            if watch.range.start < range.end && range.start < watch.range.end {
                watch.is_stale.store(true, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watches_of_the_same_bytes_are_marked_and_those_that_are_over_are_forgotten() {
        let mut watches = Watches::default();
        let all: Vec<_> = (0..5).map(|at| watches.add(8 * at..8 * at + 8)).collect();
        watches.mark(&(8..8));
        watches.mark(&(15..25));
        let stale: Vec<_> = all.iter().map(|watch| watch.is_stale()).collect();
        assert_eq!(stale, [false, true, true, true, false]);
        drop(all);
        let last = watches.add(0..u64::MAX);
        assert_eq!(watches.0.get_mut().len(), 1);
        watches.mark(&(u64::MAX - 1..u64::MAX));
        assert!(last.is_stale());
    }
}
