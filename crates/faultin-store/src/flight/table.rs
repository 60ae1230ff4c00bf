//! [`Table`]: the blocks that are in memory or under way, each once.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Failure, Flight, Waiter};
use crate::error::Cause;

/// Number of entries of blocks that are of another class by now, besides as many as there are blocks.
const SPARE: usize = 64;

/// The number of an object, and that of a block of it.
pub(crate) type Id = (u64, u64);

/// A block.
#[derive(Debug)]
enum Slot {
    Flying(Arc<Flight>),
    Ready(Ready),
}

#[derive(Debug)]
struct Ready {
    bytes: Bytes,
    /// Number of bytes that no access has read.
    left: u32,
    class: Class,
    /// When it was entered.
    since: Instant,
}

/// In the order of eviction: the oldest one of a class first, and the last one that was read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// All of it was read.
    Read,
    /// A part of it was read, or it was fetched because it was between two others.
    Part,
    /// It was read ahead.
    Ahead,
}

/// The blocks of all objects.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: HashMap<Id, Slot>,
    /// The blocks of each class, the oldest one first. Entries of blocks that are of another class by now are skipped.
    queues: [VecDeque<Id>; 3],
    /// Number of blocks of each class.
    counts: [usize; 3],
    /// Number of blocks that are under way and were requested before they were wanted.
    flying_ahead: usize,
}

/// Where a block is.
#[derive(Debug)]
pub(crate) enum Place {
    Ready(Bytes),
    Flying(Arc<Flight>),
    Nowhere,
}

impl Table {
    pub(crate) fn find(&self, id: Id) -> Place {
        match self.slots.get(&id) {
            Some(Slot::Ready(ready)) => Place::Ready(ready.bytes.clone()),
            Some(Slot::Flying(flight)) => Place::Flying(Arc::clone(flight)),
            None => Place::Nowhere,
        }
    }

    pub(crate) fn has(&self, id: Id) -> bool {
        self.slots.contains_key(&id)
    }

    /// Returns the number of blocks that were requested before they were wanted, and were not read yet.
    pub(crate) fn ahead(&self) -> usize {
        self.flying_ahead + self.counts[Class::Ahead as usize]
    }

    /// Enters a flight, none of whose blocks is in the table.
    pub(crate) fn depart(&mut self, object: u64, flight: &Arc<Flight>) {
        for block in flight.blocks.clone() {
            self.slots.insert((object, block), Slot::Flying(Arc::clone(flight)));
        }
        if flight.is_ahead {
            self.flying_ahead += flight.eaten.len();
        }
    }

    /// Ends a flight: what has arrived of it stays, where it is kept. Returns the blocks that have arrived.
    pub(crate) fn land(&mut self, object: u64, flight: &Arc<Flight>, outcome: Result<(), Failure>) -> Vec<Bytes> {
        let arrived = flight.end(outcome);
        for (at, block) in flight.blocks.clone().enumerate() {
            let id = (object, block);
            let is_its = matches!(self.slots.get(&id), Some(Slot::Flying(other)) if Arc::ptr_eq(other, flight));
            if !is_its {
                continue;
            }
            self.slots.remove(&id);
            self.flying_ahead -= usize::from(flight.is_ahead);
            if let Some(bytes) = arrived.get(at) {
                let eaten = flight.eaten[at].load(Ordering::Relaxed);
                self.keep(id, bytes.clone(), eaten, flight.is_ahead);
            }
        }
        arrived
    }

    /// Keeps a block, of which `eaten` bytes were read.
    pub(crate) fn keep(&mut self, id: Id, bytes: Bytes, eaten: u32, is_ahead: bool) {
        if self.slots.contains_key(&id) {
            return;
        }
        let left = (bytes.len() as u32).saturating_sub(eaten);
        let class = match (left, eaten) {
            (0, _) => Class::Read,
            (_, 0) if is_ahead => Class::Ahead,
            _ => Class::Part,
        };
        self.slots.insert(id, Slot::Ready(Ready { bytes, left, class, since: Instant::now() }));
        self.enter(id, class);
    }

    /// Notes that a block is of a class from now on.
    fn enter(&mut self, id: Id, class: Class) {
        let at = class as usize;
        self.counts[at] += 1;
        if self.queues[at].len() > 2 * self.counts[at] + SPARE {
            let queue = std::mem::take(&mut self.queues[at]);
            self.queues[at] =
                queue.into_iter().filter(|&other| other != id && self.class(other) == Some(class)).collect();
        }
        self.queues[at].push_back(id);
    }

    /// Notes that an access has read bytes of a block.
    pub(crate) fn eat(&mut self, id: Id, bytes: u32) {
        match self.slots.get_mut(&id) {
            Some(Slot::Flying(flight)) => {
                flight.eaten[(id.1 - flight.blocks.start) as usize].fetch_add(bytes, Ordering::Relaxed);
            }
            Some(Slot::Ready(ready)) => {
                ready.left = ready.left.saturating_sub(bytes);
                let class = if ready.left == 0 { Class::Read } else { Class::Part };
                if class != ready.class {
                    self.counts[ready.class as usize] -= 1;
                    ready.class = class;
                    self.enter(id, class);
                }
            }
            None => {}
        }
    }

    /// Evicts blocks until `count` are evicted, or there are none; those that were read ahead only if `may_take_ahead`, the last
    /// ones first, as a scan wants the oldest ones next. Returns them, to be dropped without a lock.
    pub(crate) fn evict(&mut self, count: usize, may_take_ahead: bool) -> Vec<Bytes> {
        let mut evicted = Vec::new();
        let classes = [Class::Read, Class::Part, Class::Ahead];
        for class in &classes[..if may_take_ahead { 3 } else { 2 }] {
            let queue = *class as usize;
            while evicted.len() < count
                && let Some(id) = match class {
                    Class::Ahead => self.queues[queue].pop_back(),
                    Class::Read | Class::Part => self.queues[queue].pop_front(),
                }
            {
                if self.class(id) == Some(*class) {
                    evicted.extend(self.remove(id));
                }
            }
        }
        evicted
    }

    /// Evicts blocks that were read ahead before an instant, and of which no access has read since, the oldest ones first, until `count`
    /// are evicted. Returns them, to be dropped without a lock.
    pub(crate) fn evict_stale(&mut self, count: usize, before: Instant) -> Vec<Bytes> {
        let mut evicted = Vec::new();
        while evicted.len() < count
            && let Some(&id) = self.queues[Class::Ahead as usize].front()
        {
            match self.slots.get(&id) {
                Some(Slot::Ready(ready)) if ready.class == Class::Ahead && ready.since >= before => break,
                Some(Slot::Ready(ready)) if ready.class == Class::Ahead => evicted.extend(self.remove(id)),
                _ => {}
            }
            self.queues[Class::Ahead as usize].pop_front();
        }
        evicted
    }

    /// Evicts blocks that were read as a whole, the oldest ones first, until at most `most` are left.
    pub(crate) fn trim(&mut self, most: usize) -> Vec<Bytes> {
        let mut evicted = Vec::new();
        while self.counts[Class::Read as usize] > most
            && let Some(id) = self.queues[Class::Read as usize].pop_front()
        {
            if self.class(id) == Some(Class::Read) {
                evicted.extend(self.remove(id));
            }
        }
        evicted
    }

    fn class(&self, id: Id) -> Option<Class> {
        match self.slots.get(&id) {
            Some(Slot::Ready(ready)) => Some(ready.class),
            _ => None,
        }
    }

    /// Removes a block that is ready.
    fn remove(&mut self, id: Id) -> Option<Bytes> {
        match self.slots.remove(&id)? {
            Slot::Ready(ready) => {
                self.counts[ready.class as usize] -= 1;
                Some(ready.bytes)
            }
            flying => {
                self.slots.insert(id, flying);
                None
            }
        }
    }

    /// Gives up what was read ahead of `blocks`, and no access has wanted. Returns the flights that were cancelled, and
    /// blocks to be dropped without a lock.
    pub(crate) fn forget(&mut self, object: u64, blocks: Range<u64>) -> (Vec<Arc<Flight>>, Vec<Bytes>) {
        let (mut cancelled, mut evicted) = (Vec::new(), Vec::new());
        for block in blocks.clone() {
            if let Some(Slot::Flying(flight)) = self.slots.get(&(object, block))
                && flight.is_ahead
                && !flight.has_waiters()
                && blocks.start <= flight.blocks.start
                && flight.blocks.end <= blocks.end
            {
                let flight = Arc::clone(flight);
                self.cancel(object, &flight);
                cancelled.push(flight);
            }
        }
        // Also what had arrived of those.
        for block in blocks {
            if self.class((object, block)) == Some(Class::Ahead) {
                evicted.extend(self.remove((object, block)));
            }
        }
        (cancelled, evicted)
    }

    /// Removes an access from a flight. Returns whether the flight was cancelled: no access wants it.
    pub(crate) fn leave(&mut self, object: u64, flight: &Arc<Flight>, waiter: &Arc<Waiter>) -> bool {
        let is_unwanted = flight.leave(waiter) && !flight.is_ahead;
        if is_unwanted {
            self.cancel(object, flight);
        }
        is_unwanted
    }

    /// Ends a flight at once. What has arrived of it stays.
    fn cancel(&mut self, object: u64, flight: &Arc<Flight>) {
        self.land(object, flight, Err(flight.failure(Cause::Closed)));
        if let Some(task) = flight.task.get() {
            task.abort();
        }
    }

    /// Removes everything of an object that is no longer used. Returns as [`forget`](Self::forget) does.
    pub(crate) fn close(&mut self, object: u64) -> (Vec<Arc<Flight>>, Vec<Bytes>) {
        let ids: Vec<Id> = self.slots.keys().copied().filter(|id| id.0 == object).collect();
        let (mut cancelled, mut evicted): (Vec<Arc<Flight>>, Vec<Bytes>) = Default::default();
        for &id in &ids {
            if let Some(Slot::Flying(flight)) = self.slots.get(&id) {
                let flight = Arc::clone(flight);
                self.cancel(object, &flight);
                cancelled.push(flight);
            }
        }
        for id in ids {
            evicted.extend(self.remove(id));
        }
        for queue in &mut self.queues {
            queue.retain(|id| id.0 != object);
        }
        (cancelled, evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan wants the oldest ones first.
    #[test]
    fn of_what_was_read_ahead_the_last_one_is_evicted_first() {
        let mut table = Table::default();
        for block in 0..4 {
            table.keep((1, block), Bytes::from_static(b"abcd"), 0, true);
        }
        assert_eq!(table.evict(1, true).len(), 1);
        let left = |table: &Table| (0..4).filter(|&block| table.has((1, block))).collect::<Vec<_>>();
        assert_eq!(left(&table), [0, 1, 2]);
        table.eat((1, 2), 4);
        table.evict(2, true);
        assert_eq!(left(&table), [0]);
    }
}
