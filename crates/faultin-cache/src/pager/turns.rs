//! The turns of a file's pager threads.
//!
//! One thread *leads*: it takes each fault, and resolves it if the page is in memory. For one that takes the store, it lets
//! another thread lead, and calls the store itself; so nothing else waits for that, and no fault takes one more wake-up. If
//! all threads are in the store already, the fault waits for the first that returns. Faults of one block wait for the same
//! call.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::post::Post;
use super::waiting::{Fetch, PageFault, Waits};

/// Maximum number of threads of a file: one leads, the others are in the store.
const MAX_THREADS: usize = 9;

/// How long a thread waits for more.
const LINGER: Duration = Duration::from_millis(100);

/// What a thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Takes faults, and resolves those that do not take the store.
    Lead,
    /// Resolves the faults of a block.
    Fetch(u64),
}

impl Post {
    /// Waits for something to do. `None`: the thread ends.
    pub(super) fn next_turn(&self) -> Option<Turn> {
        let mut waiting = self.waiting.lock();
        let mut is_over = false;
        loop {
            if self.mailbox.is_closed() {
                break;
            }
            if !waiting.leads {
                waiting.leads = true;
                return Some(Turn::Lead);
            }
            if let Some(fetch) = waiting.fetches.iter_mut().find(|fetch| !fetch.is_taken) {
                fetch.is_taken = true;
                return Some(Turn::Fetch(fetch.block));
            }
            if is_over {
                break;
            }
            waiting.idle += 1;
            is_over = self.more.wait_for(&mut waiting, LINGER).timed_out();
            waiting.idle -= 1;
        }
        waiting.threads -= 1;
        None
    }

    /// Counts a thread that is about to start.
    pub(super) fn add_thread(&self) {
        self.waiting.lock().threads += 1;
    }

    /// Enters a fault that takes the store, of a byte of this block. Returns true if the calling thread, which leads, is to
    /// resolve it: then it leads no more. `start` starts a thread, and returns whether it could.
    pub(super) fn enter(&self, block: u64, fault: PageFault, start: impl FnOnce() -> bool) -> bool {
        let mut waiting = self.waiting.lock();
        if matches!(fault.waits, Waits::InKernel(_)) && waiting.taken.take().is_none() {
            // Its thread was woken meanwhile.
            return false;
        }
        if let Some(fetch) = waiting.fetches.iter_mut().find(|fetch| fetch.block == block) {
            // A thread that leaves to handle a signal comes back with another request: so a list that grows by that while the
            // store hangs is at most twice as long as there are threads. It is checked rarely, because each check is of all.
            if fetch.faults.len().is_power_of_two() {
                fetch.faults.retain(|fault| self.has_waiter(fault));
            }
            fetch.faults.push_back(fault);
            return false;
        }
        let faults = VecDeque::from([fault]);
        waiting.fetches.push(Fetch { block, is_taken: false, faults, current: None });
        if waiting.idle == 0 {
            if waiting.threads >= MAX_THREADS {
                return false;
            }
            waiting.threads += 1;
            drop(waiting);
            let is_started = start();
            waiting = self.waiting.lock();
            if !is_started {
                waiting.threads -= 1;
                if waiting.threads > 1 {
                    return false;
                }
                // There is no other thread: this one leads again afterwards.
            }
        }
        // Another thread may have taken it meanwhile, and faults of the block with it.
        let Some(fetch) = waiting.fetches.iter_mut().find(|fetch| fetch.block == block && !fetch.is_taken) else {
            return false;
        };
        fetch.is_taken = true;
        waiting.leads = false;
        drop(waiting);
        self.more.notify_one();
        true
    }

    /// Takes the next fault of a block that is being fetched. `None` after the last one: it is not being fetched any more.
    pub(super) fn next_fault(&self, block: u64) -> Option<PageFault> {
        let mut waiting = self.waiting.lock();
        let at = waiting.fetches.iter().position(|fetch| fetch.block == block)?;
        let fetch = &mut waiting.fetches[at];
        let fault = fetch.faults.pop_front();
        fetch.current = match &fault {
            Some(PageFault { map, waits: Waits::InKernel(message), .. }) => Some((Arc::clone(map), *message)),
            _ => None,
        };
        if fault.is_none() {
            waiting.fetches.remove(at);
        }
        fault
    }

    /// Returns whether the thread still waits, in its handler, that had this fault. One that waits in the kernel does: its fault
    /// would have been forgotten.
    pub(super) fn has_waiter(&self, fault: &PageFault) -> bool {
        match &fault.waits {
            Waits::InHandler(ticket) => self.mailbox.waits(ticket),
            Waits::InKernel(_) => true,
        }
    }

    /// Returns whether the page is still wanted of the fault that was taken last: of this block, or by the thread that leads.
    pub(super) fn is_wanted(&self, block: Option<u64>, fault: &PageFault) -> bool {
        // A thread that has left its handler finds the page when it comes back.
        if matches!(fault.waits, Waits::InHandler(_)) {
            return true;
        }
        let waiting = self.waiting.lock();
        match block {
            Some(block) => waiting.fetches.iter().any(|fetch| fetch.block == block && fetch.current.is_some()),
            None => waiting.taken.is_some(),
        }
    }
}
