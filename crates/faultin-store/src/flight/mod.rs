//! [`Flight`]: a request under way, for however many threads wait for its blocks.

pub(crate) mod table;

use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::Cause;

/// A request for a run of blocks, with its retries.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) blocks: Range<u64>,
    pub(crate) begun: Instant,
    /// Whether it was begun before any access wanted it.
    pub(crate) is_ahead: bool,
    /// Whether it is the one that finds out whether the store works again.
    pub(crate) is_probe: bool,
    progress: Mutex<Progress>,
    /// Number of accesses that wait for it; changed under the table's lock.
    waiters: AtomicU32,
    /// Number of bytes of each block that were read by accesses so far.
    eaten: Vec<AtomicU32>,
    pub(crate) task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Progress {
    /// The blocks that have arrived, from the first one on.
    done: Vec<Bytes>,
    outcome: Option<Result<(), Failure>>,
    /// The latest deadline, and the largest number of retries, of those that wait.
    deadline: Instant,
    /// The time that the access with that deadline has.
    time: Duration,
    retries: u32,
    attempts: u32,
    last: Option<Cause>,
    waiting: Vec<Arc<Waiter>>,
}

/// Why a flight has failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Box<Cause>,
    pub(crate) attempts: u32,
    pub(crate) blocks: Range<u64>,
}

/// Where an access of this thread waits for any of its flights. It has no lock: a handler of a signal that interrupts the wait
/// may need what wakes it.
#[derive(Debug)]
pub(crate) struct Waiter {
    has_news: AtomicBool,
    thread: Thread,
    notify: Notify,
}

impl Waiter {
    /// Makes one of the calling thread.
    pub(crate) fn new() -> Arc<Waiter> {
        Arc::new(Waiter { has_news: AtomicBool::new(false), thread: thread::current(), notify: Notify::new() })
    }

    pub(crate) fn wake(&self) {
        self.has_news.store(true, Ordering::Release);
        self.thread.unpark();
        self.notify.notify_one();
    }

    /// Waits for news, in the thread that has made it. Returns at `until` at the latest.
    pub(crate) fn wait(&self, until: Instant) {
        while !self.has_news.swap(false, Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Waits for news, in a task.
    pub(crate) async fn wait_async(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until, self.notify.notified()).await;
        self.has_news.store(false, Ordering::Relaxed);
    }
}

/// What an access may take, and how often it is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) deadline: Instant,
    /// The time that it had from its beginning to the deadline.
    pub(crate) time: Duration,
    pub(crate) retries: u32,
}

impl Flight {
    pub(crate) fn new(blocks: Range<u64>, begun: Instant, terms: Terms, is_ahead: bool, is_probe: bool) -> Arc<Flight> {
        let eaten = blocks.clone().map(|_| AtomicU32::new(0)).collect();
        let progress = Progress {
            done: Vec::new(),
            outcome: None,
            deadline: terms.deadline,
            time: terms.time,
            retries: if is_probe { 0 } else { terms.retries },
            attempts: 0,
            last: None,
            waiting: Vec::new(),
        };
        Arc::new(Flight {
            blocks,
            begun,
            is_ahead,
            is_probe,
            progress: Mutex::new(progress),
            waiters: AtomicU32::new(0),
            eaten,
            task: OnceLock::new(),
        })
    }

    /// Returns the number of blocks that have arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.progress.lock().done.len() as u64
    }

    /// Adds an access that waits, under the table's lock.
    pub(crate) fn join(&self, waiter: &Arc<Waiter>, terms: Terms) {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let mut progress = self.progress.lock();
        if terms.deadline > progress.deadline {
            (progress.deadline, progress.time) = (terms.deadline, terms.time);
        }
        if !self.is_probe {
            progress.retries = progress.retries.max(terms.retries);
        }
        progress.waiting.push(Arc::clone(waiter));
    }

    /// Removes it again, under the table's lock. Returns whether no access waits any more for a flight that has not ended.
    fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let is_last = self.waiters.fetch_sub(1, Ordering::Relaxed) == 1;
        let mut progress = self.progress.lock();
        if let Some(at) = progress.waiting.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            progress.waiting.swap_remove(at);
        }
        // Once all blocks are there, only its end is left.
        is_last && progress.outcome.is_none() && progress.done.len() < self.eaten.len()
    }

    fn has_waiters(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Returns a block, if it has arrived, or the reason why it will not. `None` if it is under way.
    pub(crate) fn get(&self, block: u64) -> Option<Result<Bytes, Failure>> {
        let progress = self.progress.lock();
        let at = usize::try_from(block.checked_sub(self.blocks.start)?).ok()?;
        if let Some(bytes) = progress.done.get(at) {
            return Some(Ok(bytes.clone()));
        }
        match &progress.outcome {
            Some(Err(failure)) => Some(Err(failure.clone())),
            Some(Ok(())) | None => None,
        }
    }

    /// Returns whether it has ended, or was cancelled.
    pub(crate) fn is_over(&self) -> bool {
        self.progress.lock().outcome.is_some()
    }

    /// Adds blocks that have arrived.
    pub(crate) fn push(&self, blocks: impl IntoIterator<Item = Bytes>) {
        let mut progress = self.progress.lock();
        progress.done.extend(blocks);
        progress.waiting.iter().for_each(|waiter| waiter.wake());
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.progress.lock().deadline
    }

    /// Returns the deadline, and the number of retries.
    pub(crate) fn terms(&self) -> (Instant, u32) {
        let progress = self.progress.lock();
        (progress.deadline, progress.retries)
    }

    /// Returns the time that the access with that deadline has.
    pub(crate) fn time(&self) -> Duration {
        self.progress.lock().time
    }

    /// Begins an attempt, and returns its number.
    pub(crate) fn attempt(&self) -> u32 {
        let mut progress = self.progress.lock();
        progress.attempts += 1;
        progress.attempts
    }

    /// Notes why an attempt has failed. Returns the number of the next retry, if it may be tried again.
    pub(crate) fn failed(&self, cause: &Cause) -> Option<u32> {
        let mut progress = self.progress.lock();
        progress.last = Some(cause.clone());
        (cause.is_transient() && progress.attempts <= progress.retries).then_some(progress.attempts)
    }

    /// Returns the number of attempts so far, and why the last one that has ended failed.
    pub(crate) fn so_far(&self) -> (u32, Option<Cause>) {
        let progress = self.progress.lock();
        (progress.attempts, progress.last.clone())
    }

    pub(crate) fn failure(&self, cause: Cause) -> Failure {
        Failure { cause: Box::new(cause), attempts: self.progress.lock().attempts, blocks: self.blocks.clone() }
    }

    /// Ends it, under the table's lock. Returns the blocks that have arrived.
    fn end(&self, outcome: Result<(), Failure>) -> Vec<Bytes> {
        let mut progress = self.progress.lock();
        if progress.outcome.is_none() {
            progress.outcome = Some(outcome);
        }
        progress.waiting.iter().for_each(|waiter| waiter.wake());
        progress.done.clone()
    }
}
