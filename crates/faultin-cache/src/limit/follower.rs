//! The handle of the thread that follows the memory of the process.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The shortest interval.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);

/// The thread that follows, until this is dropped.
#[derive(Debug)]
pub(crate) struct Follower(pub(super) Arc<Stop>);

#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) is_over: Mutex<bool>,
    pub(super) changed: Condvar,
}

impl Drop for Follower {
    /// Does not wait: it may be this thread.
    fn drop(&mut self) {
        // In a child of `fork` the thread does not exist, and may have had the lock.
        if let Some(mut is_over) = self.0.is_over.try_lock_for(SHORTEST) {
            *is_over = true;
        }
        self.0.changed.notify_all();
    }
}
