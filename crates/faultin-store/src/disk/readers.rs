//! [`Readers`]: reads that have to wait for the disk, by threads of their own, so that the caller need not wait longer than it wants.
//!
//! A read from a disk cannot be cancelled. A caller that stops waiting leaves it to the thread, which drops the bytes. Callers do not
//! wait for a disk that is known to be slow: after [`STRIKES`] reads in a row that took too long, no read is tried for a second, then a
//! single one, and the pause doubles up to a minute until a read is in time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::device::Device;

/// Number of reads at the same time.
const THREADS: usize = 16;

/// Number of reads that may wait for a thread.
const WAITING: usize = 64;

/// A thread that has had nothing to do for this time ends.
const IDLE: Duration = Duration::from_secs(5);

/// Number of late reads in a row that make a disk slow.
const STRIKES: u32 = 3;

/// The first and the longest pause of a slow disk.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// A read that was not made, or not in time.
#[derive(Debug)]
pub enum Unread {
    /// It took too long.
    Late,
    /// It was not tried: the disk is slow, or has too many reads to do.
    Busy,
    /// The disk returned an error.
    Failed,
}

/// Threads that read from one device.
pub struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    device: Arc<dyn Device>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_closed: bool,
    /// Number of late reads since the last one that was in time.
    strikes: u32,
    /// Reads are not tried before.
    slow_until: Option<Instant>,
}

struct Job {
    pos: u64,
    len: usize,
    /// Gone when the caller no longer waits.
    reply: Weak<Reply>,
}

#[derive(Default)]
struct Reply {
    result: Mutex<Option<io::Result<Vec<u8>>>>,
    done: Condvar,
}

impl Readers {
    pub fn new(device: Arc<dyn Device>) -> Readers {
        Readers { shared: Arc::new(Shared { device, state: Mutex::default(), wake: Condvar::new() }) }
    }

    /// Reads `len` bytes from `pos` on, and waits until `deadline`.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read(&self, len: usize, pos: u64, deadline: Instant) -> Result<Vec<u8>, Unread> {
        let reply = Arc::new(Reply::default());
        self.submit(Job { pos, len, reply: Arc::downgrade(&reply) })?;
        let mut result = reply.result.lock();
        while result.is_none() && !reply.done.wait_until(&mut result, deadline).timed_out() {}
        let result = result.take();
        let mut state = self.shared.state.lock();
        match result {
            Some(result) => {
                (state.strikes, state.slow_until) = (0, None);
                drop(state);
                result.map_err(|_| Unread::Failed)
            }
            None => {
                state.strikes = state.strikes.saturating_add(1);
                if state.strikes >= STRIKES {
                    state.slow_until = Some(Instant::now() + pause(state.strikes));
                }
                Err(Unread::Late)
            }
        }
    }

    fn submit(&self, job: Job) -> Result<(), Unread> {
        let mut state = self.shared.state.lock();
        if let Some(until) = state.slow_until {
            let now = Instant::now();
            if now < until {
                return Err(Unread::Busy);
            }
            // This read is the one that tries; others wait for what becomes of it.
            state.slow_until = Some(now + pause(state.strikes));
        }
        if state.jobs.len() >= WAITING {
            return Err(Unread::Busy);
        }
        if state.jobs.len() >= state.idle && state.threads < THREADS {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("faultin-disk-read".into()).stack_size(128 << 10);
            match faultin_cache::pager::without_signals(|| thread.spawn(move || shared.work())) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => return Err(Unread::Busy),
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.wake.notify_all();
    }
}

/// Returns the pause after a number of late reads.
fn pause(strikes: u32) -> Duration {
    let [first, longest] = PAUSE;
    first.saturating_mul(1 << strikes.saturating_sub(STRIKES).min(10)).min(longest)
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            let Some(job) = state.jobs.pop_front() else {
                state.idle += 1;
                let is_over = !state.is_closed && self.wake.wait_for(&mut state, IDLE).timed_out();
                state.idle -= 1;
                if state.is_closed || (is_over && state.jobs.is_empty()) {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            drop(state);
            if job.reply.strong_count() > 0 {
                let mut bytes = vec![0; job.len];
                let result = self.device.read(&mut bytes, job.pos).map(|()| bytes);
                if let Some(reply) = job.reply.upgrade() {
                    *reply.result.lock() = Some(result);
                    reply.done.notify_one();
                }
            }
            state = self.state.lock();
        }
    }
}
