//! The faults of a file that wait for one of its pager's threads.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use faultin::Access;

use super::inside::mailbox::Ticket;
use super::inside::map::Map;
use super::inside::uffd::Message;

/// The faults that wait, and the threads.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) messages: VecDeque<(Arc<Map>, Message)>,
    /// The message that the thread that leads has taken last, until it is forgotten.
    pub(super) taken: Option<(Arc<Map>, Message)>,
    /// Oldest first.
    pub(super) fetches: Vec<Fetch>,
    pub(super) leads: bool,
    pub(super) threads: usize,
    pub(super) idle: usize,
}

/// A fault of a page of a mapping.
#[derive(Debug)]
pub(super) struct PageFault {
    pub(super) map: Arc<Map>,
    pub(super) page: usize,
    pub(super) access: Option<Access>,
    pub(super) waits: Waits,
}

/// Where the thread waits that has faulted.
#[derive(Debug)]
pub(super) enum Waits {
    InHandler(Ticket),
    InKernel(Message),
}

/// Faults of one block that take the store.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) block: u64,
    pub(super) is_taken: bool,
    pub(super) faults: VecDeque<PageFault>,
    /// The message whose page is being brought in, until it is forgotten.
    pub(super) current: Option<(Arc<Map>, Message)>,
}

impl Waiting {
    /// Takes the oldest message.
    pub(super) fn next_message(&mut self) -> Option<(Arc<Map>, Message)> {
        self.taken = self.messages.pop_front();
        self.taken.clone()
    }

    /// Removes messages about addresses of mappings.
    pub(super) fn forget(&mut self, is_it: impl Fn(&Map, usize) -> bool) {
        self.messages.retain(|(map, message)| !is_it(map, message.address));
        self.taken.take_if(|(map, message)| is_it(map, message.address));
        for fetch in &mut self.fetches {
            fetch.faults.retain(|fault| match &fault.waits {
                Waits::InHandler(_) => true,
                Waits::InKernel(message) => !is_it(&fault.map, message.address),
            });
            fetch.current.take_if(|(map, message)| is_it(map, message.address));
        }
    }
}
