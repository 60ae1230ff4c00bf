//! The queue of what is to be read in the background, and the number of its threads.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Maximum number of threads: the number of reads that a store without [`read_many`](crate::store::Store::read_many) of its
/// own does at the same time.
const MAX_THREADS: usize = 4;

/// How long a thread waits for more.
const LINGER: Duration = Duration::from_millis(100);

/// The queue, of ranges of files `F`.
#[derive(Debug)]
pub(crate) struct Prefetcher<F> {
    state: Mutex<State<F>>,
    more: Condvar,
}

#[derive(Debug)]
struct State<F> {
    queue: VecDeque<Job<F>>,
    /// Number of bytes in the queue, and under way.
    bytes: u64,
    threads: usize,
    idle: usize,
}

#[derive(Debug)]
pub(super) struct Job<F> {
    pub(super) file: Arc<F>,
    pub(super) range: Range<u64>,
}

impl<F> Job<F> {
    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl<F> Default for Prefetcher<F> {
    fn default() -> Self {
        let state = State { queue: VecDeque::new(), bytes: 0, threads: 0, idle: 0 };
        Prefetcher { state: Mutex::new(state), more: Condvar::new() }
    }
}

impl<F> Prefetcher<F> {
    /// Enters ranges, as long as no more than `most` bytes wait, and has a thread take them, if need be one that `start`
    /// starts: it returns whether it has. Returns the number of bytes.
    pub(super) fn enter(&self, file: &Arc<F>, runs: Vec<Range<u64>>, most: u64, start: impl FnOnce() -> bool) -> u64 {
        let mut state = self.state.lock();
        let mut taken = 0;
        for run in runs {
            let len = (run.end - run.start).min(most.saturating_sub(state.bytes));
            if len == 0 {
                break;
            }
            state.queue.push_back(Job { file: Arc::clone(file), range: run.start..run.start + len });
            state.bytes += len;
            taken += len;
        }
        if taken > 0 {
            if state.idle > 0 {
                self.more.notify_one();
            } else if state.threads < MAX_THREADS && start() {
                state.threads += 1;
            } else if state.threads == 0 {
                // No thread can be had: nothing will be read.
                state.queue.clear();
                state.bytes = 0;
                taken = 0;
            }
        }
        taken
    }

    /// Forgets what no thread has begun: the cache is dropped.
    pub(crate) fn clear(&self) {
        let dropped = {
            let mut state = self.state.lock();
            let jobs = std::mem::take(&mut state.queue);
            state.bytes -= jobs.iter().map(Job::bytes).sum::<u64>();
            jobs
        };
        // A file may be dropped with its job, and its store with it: without the lock.
        drop(dropped);
    }

    /// Waits for jobs of one file, of at most about `most` bytes. `None` after a while without.
    pub(super) fn next(&self, most: u64) -> Option<Vec<Job<F>>> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            state.idle += 1;
            self.more.wait_for(&mut state, LINGER);
            state.idle -= 1;
        }
        let Some(first) = state.queue.pop_front() else {
            state.threads -= 1;
            return None;
        };
        let mut bytes = first.bytes();
        let mut jobs = vec![first];
        while let Some(job) = state.queue.front()
            && Arc::ptr_eq(&job.file, &jobs[0].file)
            && bytes + job.bytes() <= most
        {
            bytes += job.bytes();
            jobs.extend(state.queue.pop_front());
        }
        if !state.queue.is_empty() && state.idle > 0 {
            self.more.notify_one();
        }
        Some(jobs)
    }

    pub(super) fn done(&self, bytes: u64) {
        self.state.lock().bytes -= bytes;
    }
}
