//! The failures of a file's writeback, for the handles that have not reported them yet.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Number of errors that are kept for handles that have not reported them yet.
const KEPT: usize = 64;

/// The errors of a file's writeback.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    count: u64,
    /// The last ones.
    last: VecDeque<Arc<io::Error>>,
}

impl Errors {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a failure.
    pub(crate) fn record(&mut self, error: Arc<io::Error>) {
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(error);
    }

    /// Returns the first error after the first `seen` that is still kept: later ones may be its consequence.
    pub(crate) fn since(&self, seen: u64) -> Option<Arc<io::Error>> {
        let new = usize::try_from(self.count.saturating_sub(seen)).unwrap_or(usize::MAX).min(self.last.len());
        self.last.get(self.last.len() - new).map(Arc::clone)
    }
}
