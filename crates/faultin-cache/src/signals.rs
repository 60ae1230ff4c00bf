//! Blocking signals outside of handlers.
//!
//! A handler may fault on a mapping, and waits for a pager thread then. A lock of a file is seen, and the fault is rejected.
//! The other locks that a pager thread may need (of the files, the arena, the queue, of errors, of counters, of the threads that
//! wait, of a store in memory) are held where no handler can run, or by a thread that has a lock of a file.

#![forbid(unsafe_code)]

use std::cell::Cell;

use crate::inside::sys::Blocked;

thread_local! {
    /// Whether this thread's signals are blocked here already.
    static WITHOUT: Cell<bool> = const { Cell::new(false) };
}

/// Runs something during which no handler of the process's signals runs in this thread: starts a thread, which inherits
/// that, or holds a lock. A handler there could fault, and wait for the very thread that it interrupts.
pub fn without_signals<T>(run: impl FnOnce() -> T) -> T {
    if WITHOUT.get() {
        return run();
    }
    // The C library's own signals stay open: it waits until every thread has had them.
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let open = faults.into_iter().chain(32..libc::SIGRTMIN()).fold(0, |open, signal| open | 1_u64 << (signal - 1));
    let _blocked = Blocked::all_but(open);
    let _noted = Noted::note();
    run()
}

/// Unnotes before the signals are open again, also after a panic.
struct Noted;

impl Noted {
    fn note() -> Noted {
        WITHOUT.set(true);
        Noted
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        WITHOUT.set(false);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};
    use std::{fs, thread};

    use crate::sys;

    /// Checks that a thread which runs this has its signals blocked when it waits for a lock, which the caller holds.
    pub(crate) fn assert_waits_without_signals<G>(held: G, run: impl FnOnce() + Send) {
        let is_blocked = |thread: u32| {
            let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_some_and(|mask| mask & (1 << (libc::SIGUSR1 - 1)) != 0)
        };
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let waits = scope.spawn(move || {
                tell.send(sys::gettid()).unwrap();
                run();
            });
            let thread = told.recv().unwrap();
            // Not only in passing.
            let (start, mut times) = (Instant::now(), 0);
            while times < 50 && start.elapsed() < Duration::from_secs(10) {
                times = if is_blocked(thread) { times + 1 } else { 0 };
                thread::sleep(Duration::from_millis(1));
            }
            drop(held);
            waits.join().unwrap();
            assert_eq!(times, 50, "it waits with its signals open");
        });
    }
}
