//! [`wait_until`]: waiting for a thread that cannot wake the waiter.
//!
//! This crate waits in two places for another thread to finish something short: a signal handler of a mapping whose scan
//! ends, and a change of dispositions. To wake a waiter, the other thread would need a system call, in a signal handler or
//! in a process that was forked meanwhile. So it does not, and the waiter polls.

use std::time::Duration;

use crate::sleep::sleep;

/// Polls before the first sleep: longer than the wait takes where both threads run.
const SPINS: u32 = 1 << 10;

/// The first sleep; each further one is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_micros(1);

/// The longest sleep, and so the longest delay of the waiter.
const LONGEST: Duration = Duration::from_millis(1);

/// Returns once `is_done` returns true. Not async-signal-safe.
///
/// It sleeps between two polls and does not yield: `sched_yield(2)` of a thread with a real-time policy runs only threads
/// of its own priority, and so would keep a thread of a lower priority, which it waits for, off the processor forever.
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

    /// Runs `holder`, which calls its argument while it has what `waiter` waits for. Both run on one processor, and the
    /// waiter has the higher priority: it begins at once, and the holder continues only if the waiter lets it run.
    ///
    /// # Panics
    /// If the waiter does not let it run.
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
            // Twenty seconds count as forever.
            let result = ended.recv_timeout(Duration::from_secs(20));
            let other = libc::sched_param { sched_priority: 0 };
            // SAFETY: a thread of this scope; from now on it lets the other threads run, and the test ends.
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
