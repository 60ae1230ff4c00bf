//! [`Pool`]: the buffers of blocks, whose number is limited. A block that waits for the disk tier counts as long as it does.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Buffers of one size, which are used again.
pub(crate) struct Pool {
    block: usize,
    limit: usize,
    account: Mutex<Account>,
    /// Memory that was freed. It goes back to the allocator with the pool: freed one by one, it would leave holes.
    free: Mutex<Vec<Vec<u8>>>,
}

/// Who has the blocks, and who waits for some. A request is served in the moment in which there is enough for it, and not when its task
/// runs next: so the account is exact at any time, and no more is evicted than is missing.
#[derive(Debug, Default)]
struct Account {
    /// Number of blocks that nobody has: fewer than the first one waits for.
    left: usize,
    /// In the order in which they are served.
    waiting: VecDeque<Waiting>,
    /// The sum over them.
    wanted: usize,
    /// Number of requests that have waited so far.
    number: u64,
    /// The addresses of blocks that were evicted, and that somebody still holds.
    leaving: HashSet<usize>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    blocks: usize,
    sender: oneshot::Sender<Room>,
}

/// A request that waits no more once this is dropped.
struct Queued<'p> {
    pool: &'p Arc<Pool>,
    number: u64,
}

/// Room for blocks, of which each [`Buffer`] takes one.
#[derive(Debug)]
pub(crate) struct Room {
    pool: Arc<Pool>,
    blocks: usize,
    /// What it takes of the share of a server, until this is dropped.
    #[allow(dead_code, reason = "is dropped with it")]
    share: Option<OwnedSemaphorePermit>,
}

/// The bytes of one block.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
    /// Whether it has room of its own: not once that is a [`Room`]'s again.
    has_room: bool,
}

impl Account {
    /// Takes those from the queue for which there is enough now.
    fn served(&mut self) -> Vec<Waiting> {
        let mut served = Vec::new();
        while self.waiting.front().is_some_and(|first| first.blocks <= self.left)
            && let Some(first) = self.waiting.pop_front()
        {
            self.left -= first.blocks;
            self.wanted -= first.blocks;
            served.push(first);
        }
        served
    }
}

impl Pool {
    /// Makes a pool of at most `limit` buffers of `block` bytes.
    pub(crate) fn new(block: usize, limit: usize) -> Arc<Pool> {
        let account = Mutex::new(Account { left: limit, ..Account::default() });
        Arc::new(Pool { block, limit, account, free: Mutex::default() })
    }

    /// Returns the maximum number of buffers.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the number of buffers that are in use, or reserved.
    pub(crate) fn used(&self) -> usize {
        self.limit - self.account.lock().left
    }

    /// Returns how many blocks have to be evicted for the requests that wait. Of those that were evicted and that somebody still holds,
    /// `stuck` may be held for long.
    pub(crate) fn missing(&self, stuck: usize) -> usize {
        let account = self.account.lock();
        account.wanted.saturating_sub(account.left + account.leaving.len().saturating_sub(stuck))
    }

    /// Returns whether requests wait for blocks.
    pub(crate) fn is_wanted(&self) -> bool {
        self.account.lock().wanted > 0
    }

    /// Notes that blocks were evicted: they come back once those who hold them have dropped them.
    pub(crate) fn evicted(&self, blocks: &[Bytes]) {
        self.account.lock().leaving.extend(blocks.iter().map(|bytes| bytes.as_ptr() as usize));
    }

    /// Reserves room, if there is some and nobody waits for it.
    pub(crate) fn try_room(self: &Arc<Self>, blocks: usize) -> Option<Room> {
        let mut account = self.account.lock();
        if !account.waiting.is_empty() {
            return None;
        }
        account.left = account.left.checked_sub(blocks)?;
        Some(self.room_of(blocks))
    }

    /// Waits for room. Those that wait get it in their order. `None` if there will never be as much. `begun` is called once it waits.
    pub(crate) async fn room(self: &Arc<Self>, blocks: usize, begun: impl FnOnce()) -> Option<Room> {
        if blocks > self.limit {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let (number, served) = {
            let mut account = self.account.lock();
            account.number += 1;
            account.wanted += blocks;
            let number = account.number;
            account.waiting.push_back(Waiting { number, blocks, sender });
            (number, account.served())
        };
        // Before the receiver: what it was sent meanwhile goes back with it.
        let _queued = Queued { pool: self, number };
        self.serve(served);
        begun();
        receiver.await.ok()
    }

    /// Takes blocks back.
    fn release(self: &Arc<Self>, blocks: usize) {
        let served = {
            let mut account = self.account.lock();
            account.left += blocks;
            account.served()
        };
        self.serve(served);
    }

    /// Hands out what was taken from the account. If a request has been given up meanwhile, its room goes back.
    fn serve(self: &Arc<Self>, served: Vec<Waiting>) {
        for Waiting { blocks, sender, .. } in served {
            let _ = sender.send(self.room_of(blocks));
        }
    }

    fn room_of(self: &Arc<Self>, blocks: usize) -> Room {
        Room { pool: Arc::clone(self), blocks, share: None }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let served = {
            let mut account = self.pool.account.lock();
            let Some(at) = account.waiting.iter().position(|waiting| waiting.number == self.number) else { return };
            let given_up = account.waiting.remove(at);
            account.wanted -= given_up.map_or(0, |waiting| waiting.blocks);
            // It may have been the first one, which wanted more than the next.
            account.served()
        };
        self.pool.serve(served);
    }
}

impl Room {
    /// Keeps a part of a share as long as the room.
    pub(crate) fn of_share(mut self, permit: OwnedSemaphorePermit) -> Room {
        self.share = Some(permit);
        self
    }

    /// Takes an empty buffer. `None` once all are taken.
    pub(crate) fn take(&mut self) -> Option<Buffer> {
        self.blocks = self.blocks.checked_sub(1)?;
        let free = self.pool.free.lock().pop();
        let bytes = free.unwrap_or_else(|| Vec::with_capacity(self.pool.block));
        Some(Buffer { bytes, pool: Arc::clone(&self.pool), has_room: true })
    }

    /// Takes a buffer back, to take another one instead.
    pub(crate) fn give_back(&mut self, mut buffer: Buffer) {
        buffer.has_room = false;
        self.blocks += 1;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pool.release(self.blocks);
    }
}

impl Buffer {
    /// Returns the bytes. At most a block of them may be added.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.pool.account.lock().leaving.remove(&(bytes.as_ptr() as usize));
        bytes.clear();
        if bytes.capacity() == self.pool.block {
            self.pool.free.lock().push(bytes);
        }
        self.pool.release(usize::from(self.has_room));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("used", &self.used()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Polls a request once, and returns its room if it has got it.
    fn poll(request: Pin<&mut impl Future<Output = Option<Room>>>) -> Option<Room> {
        match request.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room.expect("there will be as much")),
            Poll::Pending => None,
        }
    }

    /// One after the other, in their order, and not only once they run.
    #[test]
    fn what_is_freed_is_of_those_that_wait_at_once() {
        let pool = Pool::new(4, 8);
        let mut rooms = [pool.try_room(3), pool.try_room(3), pool.try_room(2)].map(Option::unwrap);
        let (mut first, mut second) = (pin!(pool.room(4, || {})), pin!(pool.room(2, || {})));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert_eq!(pool.missing(0), 6);
        rooms[0].blocks -= 3;
        pool.release(3);
        assert_eq!((pool.missing(0), pool.used()), (3, 5), "the first one waits for one more");
        assert!(pool.try_room(1).is_none(), "what others wait for");
        rooms[1].blocks -= 3;
        pool.release(3);
        assert_eq!((pool.missing(0), pool.used()), (0, 8), "both are served, though neither has run");
        let (first, second) = (poll(first), poll(second));
        assert_eq!(first.map(|room| room.blocks), Some(4));
        assert_eq!(second.map(|room| room.blocks), Some(2));
    }

    #[test]
    fn a_request_that_is_given_up_leaves_its_blocks_to_the_next() {
        let pool = Pool::new(4, 4);
        let all = pool.try_room(4).unwrap();
        let mut large = Box::pin(pool.room(4, || {}));
        let mut served = Box::pin(pool.room(2, || {}));
        let mut last = pin!(pool.room(3, || {}));
        assert!(poll(large.as_mut()).is_none() && poll(served.as_mut()).is_none() && poll(last.as_mut()).is_none());
        assert!(pool.try_room(5).is_none());
        assert_eq!(pool.missing(0), 9);
        drop(large);
        assert_eq!(pool.missing(0), 5);
        drop(all);
        // It has got its room, and never runs again.
        assert_eq!(pool.missing(0), 1);
        drop(served);
        assert_eq!((pool.missing(0), pool.used()), (0, 3));
        drop(poll(last).unwrap());
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_was_evicted_is_not_missing_while_somebody_holds_it() {
        let pool = Pool::new(4, 2);
        let mut room = pool.try_room(2).unwrap();
        let blocks = [(); 2].map(|()| {
            let mut buffer = room.take().unwrap();
            buffer.bytes_mut().extend_from_slice(b"abcd");
            buffer.freeze()
        });
        let mut waits = pin!(pool.room(2, || {}));
        assert!(poll(waits.as_mut()).is_none());
        pool.evicted(&blocks[..1]);
        assert_eq!((pool.missing(0), pool.missing(1)), (1, 2));
        let [first, second] = blocks;
        drop(first);
        assert_eq!((pool.missing(0), pool.missing(1)), (1, 1));
        drop(second);
        assert_eq!(pool.missing(0), 0);
        assert_eq!(poll(waits).unwrap().blocks, 2);
    }

    #[test]
    fn a_buffer_counts_until_its_last_clone_is_dropped() {
        let pool = Pool::new(4, 3);
        let mut room = pool.try_room(2).unwrap();
        let mut buffer = room.take().unwrap();
        buffer.bytes_mut().extend_from_slice(b"abcd");
        drop(room);
        assert_eq!(pool.used(), 1);
        let bytes = buffer.freeze();
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&part[..], pool.used()), (&b"bc"[..], 1));
        assert!(pool.try_room(3).is_none());
        drop(part);
        assert_eq!(pool.used(), 0);
        let mut room = pool.try_room(3).unwrap();
        let buffer = room.take().unwrap();
        assert!(buffer.as_ref().is_empty(), "what is used again has no old bytes");
        assert!(pool.free.lock().is_empty());
    }
}
