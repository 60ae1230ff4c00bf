//! [`Pool`]: the buffers of blocks, whose number is limited. A block that waits for the disk tier counts as long as it does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Buffers of one size, which are used again.
pub(crate) struct Pool {
    block: usize,
    limit: usize,
    permits: Semaphore,
    /// Number of blocks that requests wait for.
    wanted: AtomicUsize,
    /// Memory that was freed. It goes back to the allocator with the pool: freed one by one, it would leave holes.
    free: Mutex<Vec<Vec<u8>>>,
}

/// A request that waits for memory, so that less is kept.
pub(crate) struct Hunger<'p> {
    pool: &'p Pool,
    blocks: usize,
}

/// Room for blocks, of which each [`Buffer`] takes one.
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
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Arc::new(Pool {
            block,
            limit,
            permits: Semaphore::new(limit),
            wanted: AtomicUsize::new(0),
            free: Mutex::default(),
        })
    }

    /// Returns the maximum number of buffers.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the number of buffers that are in use, or reserved.
    pub(crate) fn used(&self) -> usize {
        self.limit - self.permits.available_permits()
    }

    /// Notes that a request waits for some blocks, until this is dropped.
    pub(crate) fn hunger(&self, blocks: usize) -> Hunger<'_> {
        self.wanted.fetch_add(blocks, Ordering::Relaxed);
        Hunger { pool: self, blocks }
    }

    /// Returns how many blocks requests wait for. What was freed for them counts until they run: who else may have taken it is
    /// not known.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Reserves room, if there is some.
    pub(crate) fn try_room(self: &Arc<Self>, blocks: usize) -> Option<Room> {
        let permits = self.permits.try_acquire_many(u32::try_from(blocks).ok()?).ok()?;
        permits.forget();
        Some(Room { pool: Arc::clone(self), blocks, share: None })
    }

    /// Waits for room. Those that wait get it in their order. `None` if there will never be as much.
    pub(crate) async fn room(self: &Arc<Self>, blocks: usize) -> Option<Room> {
        let many = u32::try_from(blocks).ok().filter(|_| blocks <= self.limit)?;
        self.permits.acquire_many(many).await.ok()?.forget();
        Some(Room { pool: Arc::clone(self), blocks, share: None })
    }
}

impl Drop for Hunger<'_> {
    fn drop(&mut self) {
        self.pool.wanted.fetch_sub(self.blocks, Ordering::Relaxed);
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
        self.pool.permits.add_permits(self.blocks);
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
        bytes.clear();
        if bytes.capacity() == self.pool.block {
            self.pool.free.lock().push(bytes);
        }
        self.pool.permits.add_permits(usize::from(self.has_room));
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("used", &self.used()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is freed may go to others than those that wait.
    #[test]
    fn what_was_freed_for_others_hides_no_demand() {
        let pool = Pool::new(4, 30);
        let waits = pool.hunger(1);
        drop(pool.try_room(20).unwrap());
        let waits_later = pool.hunger(16);
        drop(waits);
        assert_eq!(pool.wanted(), 16);
        drop(waits_later);
        assert_eq!(pool.wanted(), 0);
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
