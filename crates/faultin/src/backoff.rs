//! [`wait_until`]: waiting for a thread that wakes no one.
//!
//! Two waits of this crate are for something short that another thread is in: a signal handler of a mapping whose scan ends,
//! and a change of dispositions. The other thread would need a system call to wake a waiter, in a signal handler or in a process
//! that was forked meanwhile, so it does not, and the waiter asks again.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Questions before the first sleep: longer than what is waited for takes where both threads run.
const SPINS: u32 = 1 << 10;

/// The first sleep; each one is twice as long as the one before, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest sleep, and so how late the waiter may be.
const LONGEST: Duration = Duration::from_millis(1);

/// Returns once `is_done` says so. Not in a signal handler.
///
/// It sleeps between two questions and does not yield: `sched_yield(2)` of a thread with a real-time policy lets only threads of
/// its own priority run, and so would keep one of a lower priority, which it waits for, off the processor forever.
pub(crate) fn wait_until(mut is_done: impl FnMut() -> bool) {
    for _ in 0..SPINS {
        if is_done() {
            return;
        }
        core::hint::spin_loop();
    }
    let mut pause = SHORTEST;
    while !is_done() {
        sleep(pause);
        pause = LONGEST.min(pause * 2);
    }
}

/// Sleeps for `pause`, by a futex that no thread wakes. `std::thread::sleep` panics where a filter refuses `clock_nanosleep(2)`.
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    /// Gives this thread a real-time policy with a priority, on the first processor that it may use.
    fn real_time(priority: i32) -> std::io::Result<libc::pid_t> {
        // SAFETY: changes how this thread is scheduled; all zero is a set.
        unsafe {
            let mut allowed: libc::cpu_set_t = core::mem::zeroed();
            let mut one: libc::cpu_set_t = core::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            let fifo = libc::sched_param { sched_priority: priority };
            if libc::sched_getaffinity(0, size, &mut allowed) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &allowed)).unwrap_or(0);
            libc::CPU_SET(first, &mut one);
            if libc::sched_setaffinity(0, size, &one) != 0 || libc::sched_setscheduler(0, libc::SCHED_FIFO, &fifo) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(libc::gettid())
        }
    }

    /// Runs `holder`, which calls its argument while it has what `waiter` waits for. Both run on one processor, and the waiter
    /// has the higher priority: it begins at once, and the holder goes on only if the waiter lets it.
    ///
    /// # Panics
    /// If the waiter does not.
    pub(crate) fn waits_for_a_lower_priority(holder: impl FnOnce(&dyn Fn()) + Send, waiter: impl FnOnce() + Send) {
        let (tell, told) = channel();
        let (go, gone) = sync_channel::<()>(1);
        let (end, ended) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let thread = real_time(2);
                let may = thread.is_ok();
                let _ = tell.send(thread);
                if may && gone.recv().is_ok() {
                    waiter();
                    let _ = end.send(());
                }
            });
            let thread = match told.recv() {
                Ok(Ok(thread)) => thread,
                refused => return faultin_test::skipped("real-time", format!("SCHED_FIFO: {refused:?}")),
            };
            scope.spawn(move || {
                real_time(1).expect("as the other thread");
                holder(&|| go.send(()).expect("it waits"));
            });
            // Twenty seconds are forever.
            let result = ended.recv_timeout(Duration::from_secs(20));
            let other = libc::sched_param { sched_priority: 0 };
            // SAFETY: a thread of this scope; it lets the others run now, and the test ends.
            unsafe { libc::sched_setscheduler(thread, libc::SCHED_OTHER, &other) };
            result.expect("the waiter lets the holder run");
        });
    }

    #[test]
    fn what_is_done_is_not_waited_for() {
        let mut asked = 0;
        wait_until(|| {
            asked += 1;
            asked == 1
        });
        assert_eq!(asked, 1);
    }
}
