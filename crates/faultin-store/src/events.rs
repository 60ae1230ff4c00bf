//! What has gone wrong, and what was done about it: the last events of a store.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::error::Cause;

/// Number of events that are kept.
const KEPT: usize = 256;

/// Something that a [`Store`](crate::Store) has noticed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The number of the event: 0 for the first one of the store.
    pub sequence: u64,
    /// When.
    pub time: SystemTime,
    /// The URL of the object, without credentials.
    pub object: Arc<str>,
    /// The range of the request.
    pub range: Range<u64>,
    /// The number of the attempt, from 1 on; 0 if no request was made.
    pub attempt: u32,
    /// What happened.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// An attempt has failed, and another one follows.
    Retried(Cause),
    /// The request has failed.
    Failed(Cause),
    /// No thread waited for the request any more.
    Cancelled,
    /// The store does not work: from now on accesses fail at once.
    Down(Cause),
    /// The store works again.
    Up,
}

#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    last: VecDeque<Event>,
}

impl Events {
    pub(crate) fn add(&self, object: &Arc<str>, range: Range<u64>, attempt: u32, what: What) {
        let time = SystemTime::now();
        let mut ring = self.0.lock();
        let sequence = ring.next;
        ring.next += 1;
        if ring.last.len() == KEPT {
            ring.last.pop_front();
        }
        ring.last.push_back(Event { sequence, time, object: Arc::clone(object), range, attempt, what });
    }

    pub(crate) fn last(&self) -> Vec<Event> {
        self.0.lock().last.iter().cloned().collect()
    }
}
