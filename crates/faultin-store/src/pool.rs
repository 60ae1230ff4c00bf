//! [`Pool`]: the buffers of blocks, whose number is limited. A block that waits for the disk tier counts as long as it does.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout};

/// How long a block that was evicted is expected to come back: whoever holds it copies it. A disk that is slow, or a thread that waits,
/// may hold it for longer.
const LEAVES: Duration = Duration::from_millis(10);

/// Buffers of one size, which are used again.
pub(crate) struct Pool {
    block: usize,
    limit: usize,
    account: Mutex<Account>,
    /// Number of blocks that nobody has: fewer than the first one waits for. Changed under the account's lock, and read without it.
    left: AtomicUsize,
    /// Memory that was freed. It goes back to the allocator with the pool: freed one by one, it would leave holes.
    free: Mutex<Vec<Vec<u8>>>,
}

/// Who has the blocks, and who waits for some. A request is served in the moment in which there is enough for it, and not when its task
/// runs next: so the account is exact at any time, and no more is evicted than is missing.
#[derive(Debug, Default)]
struct Account {
    /// In the order in which they are served.
    waiting: VecDeque<Waiting>,
    /// The sum over them.
    wanted: usize,
    /// Number of requests that have waited so far.
    number: u64,
    /// The addresses of blocks that were evicted and that somebody still holds, and when they were.
    leaving: HashMap<usize, Instant>,
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

impl Pool {
    /// Makes a pool of at most `limit` buffers of `block` bytes.
    pub(crate) fn new(block: usize, limit: usize) -> Arc<Pool> {
        Arc::new(Pool {
            block,
            limit,
            account: Mutex::default(),
            left: AtomicUsize::new(limit),
            free: Mutex::default(),
        })
    }

    /// Returns the maximum number of buffers.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the number of buffers that are in use, or reserved.
    pub(crate) fn used(&self) -> usize {
        self.limit - self.left.load(Ordering::Relaxed)
    }

    /// Returns how many blocks have to be evicted for the requests that wait, besides those that were evicted a moment ago and that
    /// somebody still holds. If these do not come back, there are more to be evicted later: a request that waits asks again.
    pub(crate) fn missing(&self) -> usize {
        let account = self.account.lock();
        let missing = account.wanted.saturating_sub(self.left.load(Ordering::Relaxed));
        if missing == 0 || account.leaving.is_empty() {
            return missing;
        }
        let now = Instant::now();
        let leave = |since: &&Instant| now.saturating_duration_since(**since) < LEAVES;
        missing.saturating_sub(account.leaving.values().filter(leave).count())
    }

    /// Returns whether requests wait for blocks.
    pub(crate) fn is_wanted(&self) -> bool {
        self.account.lock().wanted > 0
    }

    /// Notes that blocks were evicted: they come back once those who hold them have dropped them.
    pub(crate) fn evicted(&self, blocks: &[Bytes]) {
        if !blocks.is_empty() {
            let now = Instant::now();
            self.account.lock().leaving.extend(blocks.iter().map(|bytes| (bytes.as_ptr() as usize, now)));
        }
    }

    /// Reserves room, if there is some and nobody waits for it.
    pub(crate) fn try_room(self: &Arc<Self>, blocks: usize) -> Option<Room> {
        let account = self.account.lock();
        if !account.waiting.is_empty() {
            return None;
        }
        let left = self.left.load(Ordering::Relaxed).checked_sub(blocks)?;
        self.left.store(left, Ordering::Relaxed);
        Some(self.room_of(blocks))
    }

    /// Waits for room. Those that wait get it in their order. `None` if there will never be as much. `evict` is called when it begins to
    /// wait, and now and then.
    pub(crate) async fn room(self: &Arc<Self>, blocks: usize, evict: impl Fn()) -> Option<Room> {
        if blocks > self.limit {
            return None;
        }
        let (sender, mut receiver) = oneshot::channel();
        let (number, served) = {
            let mut account = self.account.lock();
            account.number += 1;
            account.wanted += blocks;
            let number = account.number;
            account.waiting.push_back(Waiting { number, blocks, sender });
            (number, self.served(&mut account, 0))
        };
        let _queued = Queued { pool: self, number };
        self.serve(served);
        loop {
            evict();
            if let Ok(room) = timeout(LEAVES, &mut receiver).await {
                return room.ok();
            }
        }
    }

    /// Takes blocks back.
    fn release(self: &Arc<Self>, blocks: usize) {
        let served = self.served(&mut self.account.lock(), blocks);
        self.serve(served);
    }

    /// Takes blocks back, and those from the queue for which there is enough now.
    fn served(&self, account: &mut Account, blocks: usize) -> Vec<Waiting> {
        let mut left = self.left.load(Ordering::Relaxed) + blocks;
        let mut served = Vec::new();
        while account.waiting.front().is_some_and(|first| first.blocks <= left)
            && let Some(first) = account.waiting.pop_front()
        {
            left -= first.blocks;
            account.wanted -= first.blocks;
            served.push(first);
        }
        self.left.store(left, Ordering::Relaxed);
        served
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
            let Ok(at) = account.waiting.binary_search_by_key(&self.number, |waiting| waiting.number) else { return };
            let given_up = account.waiting.remove(at);
            account.wanted -= given_up.map_or(0, |waiting| waiting.blocks);
            // It may have been the first one, which wanted more than the next.
            self.pool.served(&mut account, 0)
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
        let pool = &self.pool;
        let served = {
            let mut account = pool.account.lock();
            account.leaving.remove(&(bytes.as_ptr() as usize));
            bytes.clear();
            if bytes.capacity() == pool.block {
                pool.free.lock().push(bytes);
            }
            pool.served(&mut account, usize::from(self.has_room))
        };
        pool.serve(served);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("used", &self.used()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use tokio::runtime::Builder;
    use tokio::time::advance;

    use super::*;

    /// Polls a request once, and returns its room if it has got it.
    fn poll(request: Pin<&mut impl Future<Output = Option<Room>>>) -> Option<Room> {
        match request.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room.expect("there will be as much")),
            Poll::Pending => None,
        }
    }

    /// Runs a test with a clock that stands still.
    fn paused(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime").block_on(test);
    }

    /// One after the other, in their order, and not only once they run.
    #[test]
    fn what_is_freed_is_of_those_that_wait_at_once() {
        paused(async {
            let pool = Pool::new(4, 8);
            let [first_part, second_part, _rest] = [3, 3, 2].map(|blocks| pool.try_room(blocks).unwrap());
            let (mut first, mut second) = (pin!(pool.room(4, || {})), pin!(pool.room(2, || {})));
            assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
            assert_eq!(pool.missing(), 6);
            drop(first_part);
            assert_eq!((pool.missing(), pool.used()), (3, 5), "the first one waits for one more");
            assert!(pool.try_room(1).is_none(), "what others wait for");
            drop(second_part);
            assert_eq!((pool.missing(), pool.used()), (0, 8), "both are served, though neither has run");
            let (first, second) = (poll(first), poll(second));
            assert_eq!(first.map(|room| room.blocks), Some(4));
            assert_eq!(second.map(|room| room.blocks), Some(2));
        });
    }

    #[test]
    fn a_request_that_is_given_up_leaves_its_blocks_to_the_next() {
        paused(async {
            let pool = Pool::new(4, 4);
            let half = pool.try_room(2).unwrap();
            let mut large = Box::pin(pool.room(4, || {}));
            let mut served = Box::pin(pool.room(2, || {}));
            let mut last = pin!(pool.room(3, || {}));
            assert!(poll(large.as_mut()).is_none() && poll(served.as_mut()).is_none() && poll(last.as_mut()).is_none());
            assert_eq!((pool.missing(), pool.used()), (7, 2));
            drop(large);
            // The next one has got its room, and never runs again.
            assert_eq!((pool.missing(), pool.used()), (3, 4));
            drop(served);
            assert_eq!((pool.missing(), pool.used()), (1, 2));
            drop(half);
            assert_eq!(poll(last).unwrap().blocks, 3);
            assert_eq!(pool.used(), 0);
        });
    }

    /// For a while: who holds it may wait for the request.
    #[test]
    fn what_was_evicted_is_not_missing_while_somebody_holds_it() {
        paused(async {
            let pool = Pool::new(4, 2);
            let mut room = pool.try_room(2).unwrap();
            let [first, second] = [(); 2].map(|()| {
                let mut buffer = room.take().unwrap();
                buffer.bytes_mut().extend_from_slice(b"abcd");
                buffer.freeze()
            });
            let asked = Cell::new(0);
            let mut waits = pin!(pool.room(2, || asked.set(asked.get() + 1)));
            assert!(poll(waits.as_mut()).is_none());
            pool.evicted(std::slice::from_ref(&first));
            assert_eq!((pool.missing(), asked.get()), (1, 1));
            advance(LEAVES).await;
            assert!(poll(waits.as_mut()).is_none());
            assert_eq!((pool.missing(), asked.get()), (2, 2));
            drop(first);
            assert_eq!(pool.missing(), 1);
            // What has its address is another block.
            pool.evicted(std::slice::from_ref(&second));
            assert_eq!(pool.missing(), 0);
            drop(second);
            assert_eq!(pool.missing(), 0);
            assert_eq!(poll(waits).unwrap().blocks, 2);
            assert!(pool.account.lock().leaving.is_empty());
        });
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
