//! The clock of the curves.

use std::time::Duration;

/// Measures the processor time of this thread: the operations of the curves do not wait, and time of other programs does not
/// count.
pub struct Clock(Duration);

impl Clock {
    pub fn start() -> Clock {
        Clock(now())
    }

    /// Returns the nanoseconds of one of this number of operations since the start.
    pub fn each(&self, operations: usize) -> f64 {
        (now() - self.0).as_secs_f64() * 1e9 / operations.max(1) as f64
    }
}

fn now() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a local value. It cannot fail: the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
