//! [`sleep`], which does not panic.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sleeps for `pause`, by a futex that no thread wakes. `std::thread::sleep` panics where a filter rejects
/// `clock_nanosleep(2)`.
pub fn sleep(pause: Duration) {
    let (never, lock, end) = (Condvar::new(), Mutex::new(()), Instant::now() + pause);
    let mut held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        held = never.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
