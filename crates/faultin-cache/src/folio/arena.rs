//! The memory of folios: recycled, in huge pages where these are available.
//!
//! The kernel zeroes new memory, even if all of it is overwritten at once, so recycled memory is twice as fast as fresh
//! memory. The arena grows by parts of segments, up to its limit, and keeps them until the limit falls, or mapped files need
//! it; the memory of freed folios is handed out again as it is. The bits of a [`Folio`](super::Folio) prevent reads of old
//! bytes.
//!
//! One account has all memory of a cache: frames in use, frames that are free and have pages, and the memory of mapped files,
//! which is [elsewhere](Arena::take).

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::mem;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use buddy_system_allocator::FrameAllocator;
use parking_lot::Mutex;

use super::queue::Queue;
use crate::error::Error;
use crate::lock::is_seen;
use crate::signals::without_signals;

/// Maximum number of blocks of a folio.
pub(crate) const MAX_BLOCKS: usize = 512;
/// The buddy allocator's orders: 1 to [`MAX_BLOCKS`] blocks. It never joins more than that, so no folio spans two
/// segments, which are multiples of it.
const ORDERS: usize = MAX_BLOCKS.ilog2() as usize + 1;

/// Maximum number of blocks of a segment.
const SEGMENT_BLOCKS: usize = 16 * MAX_BLOCKS;
/// Size in bytes from which segments are mapped, aligned to it, in huge pages.
const HUGE: usize = 2 << 20;

/// All memory of a cache, up to a limit.
pub(crate) struct Arena {
    block: usize,
    /// Number of blocks of a part: the unit in which the arena grows, a multiple of [`MAX_BLOCKS`].
    part_blocks: usize,
    segment_blocks: usize,
    limit: AtomicUsize,
    used: AtomicUsize,
    /// Number of bytes that are resident, or may be: frames, in use or free, and memory from elsewhere.
    resident: AtomicUsize,
    /// Number of bytes that were ever taken: the clock for how long ago a folio was wanted.
    taken: AtomicU64,
    /// The same in parts of an [`EPOCHS`]th of the limit, in a line that is written that rarely: readers compare it.
    epoch: Epoch,
    /// The bits of the clock within an epoch.
    epoch_bits: u32,
    state: Mutex<State>,
    queue: Queue,
    /// The process that has the memory. A child of `fork` has none of it.
    process: u32,
}

/// Number of epochs in which about as much memory is given away as the limit.
const EPOCHS: usize = 128;

#[repr(align(128))]
struct Epoch(AtomicU64);

struct State {
    free: FrameAllocator<ORDERS>,
    segments: Vec<Segment>,
    /// Number of parts of the segments that are in use or free. The others follow them.
    parts: usize,
    /// Frames whose memory was returned to the kernel, by order. They are neither in use nor free.
    returned: [Vec<usize>; ORDERS],
    pages: Pages,
}

/// Memory of the arena, owned exclusively.
///
/// # Invariants
///
/// 1. `ptr` is valid for reads and writes of as many initialised bytes as `account` has, until the arena is dropped, which
///    does not happen before this is dropped.
/// 2. The bytes are in no other `Frames`: they were allocated, and are not freed before this is dropped.
pub(crate) struct Frames {
    ptr: NonNull<u8>,
    frame: usize,
    account: Account,
}

// SAFETY: the bytes belong to the `Frames` alone (invariant 2), as those of a `Box<[u8]>` do; the arena can be shared.
unsafe impl Send for Frames {}
// SAFETY: as above; a shared `Frames` gives shared slices only, except by `part_mut`, whose callers answer for it.
unsafe impl Sync for Frames {}

/// A number of bytes of the limit, until it is dropped.
pub(crate) struct Account {
    len: usize,
    /// The clock when it was taken.
    at: u64,
    arena: Arc<Arena>,
}

/// A number of bytes of the limit for memory that is not the arena's, until it is dropped.
pub(crate) struct Elsewhere(Account);

impl Elsewhere {
    pub(crate) fn account(&self) -> &Account {
        &self.0
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.arena.resident.fetch_sub(self.0.len, Ordering::Relaxed);
    }
}

impl Account {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the clock when it was taken.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Returns the current clock.
    pub(crate) fn now(&self) -> u64 {
        self.arena.now()
    }

    /// Returns whether it was taken so recently that about a hundredth of the limit was given away since.
    #[inline]
    pub(crate) fn is_young(&self) -> bool {
        self.arena.epoch.0.load(Ordering::Relaxed) < (self.at >> self.arena.epoch_bits) + 2
    }

    /// Returns the order in which the cache evicts.
    pub(crate) fn queue(&self) -> &Queue {
        &self.arena.queue
    }

    /// Returns whether this is the process that has the memory, and not a child.
    pub(crate) fn is_ours(&self) -> bool {
        self.arena.is_ours()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // `Frames` have given theirs back.
        if self.len > 0 {
            self.arena.used.fetch_sub(self.len, Ordering::Relaxed);
        }
    }
}

impl Arena {
    /// Makes an arena of at most `limit` bytes, for folios of blocks of `block` bytes, a power of two.
    pub(crate) fn new(block: usize, limit: usize) -> Arc<Arena> {
        let blocks = (limit / block).clamp(MAX_BLOCKS, SEGMENT_BLOCKS).next_multiple_of(MAX_BLOCKS);
        // Of a mapped segment, which gets its pages by chunks of that size, a part is no less.
        let part_blocks = if blocks * block >= HUGE { MAX_BLOCKS.max(HUGE / block) } else { MAX_BLOCKS };
        let segment_blocks = blocks.next_multiple_of(part_blocks);
        let state = State {
            free: FrameAllocator::new(),
            segments: Vec::new(),
            parts: 0,
            returned: [const { Vec::new() }; ORDERS],
            pages: Pages::default(),
        };
        Arc::new(Arena {
            block,
            part_blocks,
            segment_blocks,
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
            resident: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            epoch: Epoch(AtomicU64::new(0)),
            epoch_bits: (limit / EPOCHS).max(1).ilog2(),
            state: Mutex::new(state),
            queue: Queue::new(limit, block),
            process: faultin::process(),
        })
    }

    /// Returns whether this is the process that made it, and not a child.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == faultin::process()
    }

    /// Returns the size of all folios in bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is in use stays; the clock keeps its units.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.queue.set_limit(limit);
    }

    /// Returns the number of bytes that may be resident: the limit, or what is in use beyond it, and a twentieth.
    fn most_resident(&self) -> usize {
        let limit = self.limit();
        limit.max(self.used()).saturating_add(limit / 20)
    }

    /// Returns the number of bytes that are resident, or may be.
    fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Returns memory that is free to the kernel, until no more is resident than [may be](Self::most_resident). Does not wait:
    /// where another thread has the lock, that one does it, because each calls this after it has unlocked.
    pub(crate) fn trim(&self) {
        loop {
            // Either the thread that has unlocked sees here what others have taken, or these find it unlocked.
            fence(Ordering::SeqCst);
            if self.excess() == 0 {
                return;
            }
            // Not for long at a time: folios are allocated and freed under this lock.
            let Some(mut state) = self.state.try_lock() else { return };
            if !self.return_some(&mut state) {
                return;
            }
        }
    }

    /// Returns how many more bytes are resident than may be.
    fn excess(&self) -> usize {
        self.resident().saturating_sub(self.most_resident())
    }

    /// Returns a piece of memory that is free to the kernel, if too much is resident: as much as that, or less if it is in
    /// smaller pieces. Returns false if nothing is free; otherwise there may be more to return, also because others have taken
    /// some since this has looked, and found the lock taken.
    fn return_some(&self, state: &mut State) -> bool {
        let excess = self.excess();
        if excess == 0 {
            return true;
        }
        let least = rustix::param::page_size().div_ceil(self.block).ilog2() as usize;
        let enough = excess.div_ceil(self.block).next_power_of_two().ilog2() as usize;
        let mut orders = (least..=enough.max(least).min(ORDERS - 1)).rev();
        let Some((order, frame)) = orders.find_map(|order| Some((order, state.free.alloc(1 << order)?))) else {
            return false;
        };
        let (segment, offset) = self.place(frame);
        state.segments[segment].discard(offset, self.block << order);
        state.returned[order].push(frame);
        self.resident.fetch_sub(self.block << order, Ordering::Relaxed);
        true
    }

    /// Returns the segment of a frame, and its offset in it.
    fn place(&self, frame: usize) -> (usize, usize) {
        (frame / self.segment_blocks, frame % self.segment_blocks * self.block)
    }

    /// Returns the order in which the cache evicts.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Returns the clock: the number of bytes that were ever taken.
    pub(crate) fn now(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a part of the limit, for memory from elsewhere: `None` if the limit would be exceeded by more than `beyond`
    /// bytes. Returns as much memory that is free to the kernel.
    pub(crate) fn take(self: &Arc<Self>, len: usize, beyond: usize) -> Option<Elsewhere> {
        let taken = self.take_free(len, beyond)?;
        // Also in a pager thread, which a handler that has interrupted the thread with the lock may wait for.
        self.trim();
        Some(taken)
    }

    /// Takes a part of the limit, for memory from elsewhere: `None` if the limit would be exceeded, or too much memory is free.
    /// Atomic operations, and nothing else. Async-signal-safe.
    pub(crate) fn take_in_signal(self: &Arc<Self>, len: usize) -> Option<Elsewhere> {
        self.take_free(len, 0).filter(|_| self.excess() == 0)
    }

    fn take_free(self: &Arc<Self>, len: usize, beyond: usize) -> Option<Elsewhere> {
        let account = self.charge(len, beyond)?;
        self.resident.fetch_add(len, Ordering::Relaxed);
        Some(Elsewhere(account))
    }

    /// Takes a part of the limit. Atomic operations, and nothing else. Async-signal-safe.
    fn charge(self: &Arc<Self>, len: usize, beyond: usize) -> Option<Account> {
        let most = self.limit().saturating_add(beyond);
        let more = |used: usize| used.checked_add(len).filter(|&used| used <= most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let at = self.taken.fetch_add(len as u64, Ordering::Relaxed) + len as u64;
        let epoch = at >> self.epoch_bits;
        if epoch != (at - len as u64) >> self.epoch_bits {
            self.epoch.0.fetch_max(epoch, Ordering::Relaxed);
        }
        Some(Account { len, at, arena: Arc::clone(self) })
    }

    /// Allocates memory of `len` bytes, a power of two of blocks. `None` if the limit would be exceeded by more than `beyond`
    /// bytes, or if what is free is in smaller pieces, and more must not be resident: one block is always available.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn alloc(self: &Arc<Self>, len: usize, beyond: usize) -> Result<Option<Frames>, Error> {
        let Some(account) = self.charge(len, beyond) else { return Ok(None) };
        let found = self.frame_with_pages(&mut self.state.lock(), len);
        // A part is more than was needed.
        self.trim();
        Ok(found?.map(|(frame, ptr)| Frames { ptr, frame, account }))
    }

    /// Returns a free frame of `len` bytes, and its memory, which has pages.
    fn frame_with_pages(&self, state: &mut State, len: usize) -> Result<Option<(usize, NonNull<u8>)>, Error> {
        let Some(frame) = self.frame(state, len / self.block)? else { return Ok(None) };
        let State { segments, pages, returned, .. } = state;
        let (place, offset) = self.place(frame);
        let segment = &mut segments[place];
        for chunk in offset / HUGE..(offset + len).div_ceil(HUGE) {
            if segment.ready[chunk] {
                continue;
            }
            segment.make_ready(chunk, pages);
            // Pieces of it that were returned are in no account, and may have pages now.
            for (order, frames) in returned.iter().enumerate() {
                let within = |&&frame: &&usize| self.place(frame).0 == place && self.place(frame).1 / HUGE == chunk;
                frames
                    .iter()
                    .filter(within)
                    .for_each(|&frame| segment.discard(self.place(frame).1, self.block << order));
            }
        }
        // SAFETY: the frame is within its segment, at an offset that is less than its size.
        let ptr = unsafe { segment.base.add(offset) };
        Ok(Some((frame, ptr)))
    }

    /// Returns a free frame, which has pages once its segment is ready.
    fn frame(&self, state: &mut State, blocks: usize) -> Result<Option<usize>, Error> {
        loop {
            if let Some(frame) = state.free.alloc(blocks) {
                return Ok(Some(frame));
            }
            // The rest of what becomes resident is free, and is returned again.
            if blocks > 1 && self.resident() + blocks * self.block > self.most_resident() {
                return Ok(None);
            }
            let first = blocks.ilog2() as usize;
            let mut orders = (first..ORDERS).chain((0..first).rev());
            if let Some((order, frame)) = orders.find_map(|order| Some((order, state.returned[order].pop()?))) {
                let (segment, offset) = self.place(frame);
                state.segments[segment].populate(offset, self.block << order);
                state.free.dealloc(frame, 1 << order);
                self.resident.fetch_add(self.block << order, Ordering::Relaxed);
                continue;
            }
            let first = state.parts * self.part_blocks;
            if first == state.segments.len() * self.segment_blocks {
                let new = Segment::new(self.segment_blocks * self.block, self.block);
                state.segments.push(new.map_err(|error| Error::Memory(Arc::new(error)))?);
            }
            // Now the largest folio has room.
            state.free.add_frame(first, first + self.part_blocks);
            state.parts += 1;
            self.resident.fetch_add(self.part_blocks * self.block, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("used", &self.used()).field("limit", &self.limit()).finish_non_exhaustive()
    }
}

impl Frames {
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.account.len
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: invariants 1 and 2; writers have `&mut self`.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len()) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: invariants 1 and 2, and `&mut self`.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len()) }
    }
}

impl Frames {
    /// Returns a part of the bytes, mutable.
    ///
    /// # Panics
    /// If it is not within them.
    ///
    /// # Safety
    /// No other reference to this part is used as long as the result is.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "that no other reference is used is the caller's to ensure")]
    pub(crate) unsafe fn part_mut(&self, within: Range<usize>) -> &mut [u8] {
        assert!(within.start <= within.end && within.end <= self.len(), "{within:?} of {} bytes", self.len());
        // SAFETY: invariants 1 and 2, the check above, and this function's contract. It makes no reference to other bytes.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr().add(within.start), within.len()) }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let arena = &self.account.arena;
        // In a child of `fork` the lock may be held by a thread that does not exist there.
        if !arena.is_ours() {
            return;
        }
        let free = || arena.state.lock().free.dealloc(self.frame, self.account.len / arena.block);
        // What was not installed, because the store panicked, has no lock of a file around it.
        if is_seen() {
            free()
        } else {
            without_signals(free)
        }
        // Not in use any more: that may make it too much, as may its move elsewhere.
        arena.used.fetch_sub(mem::take(&mut self.account.len), Ordering::Relaxed);
        arena.trim();
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("frame", &self.frame).field("len", &self.len()).finish()
    }
}

/// # Invariants
///
/// `base` is valid for reads and writes of `len` bytes, initialised (as zeros, at first), and owned by the segment. A small
/// segment was allocated with its `align`.
struct Segment {
    base: NonNull<u8>,
    len: usize,
    align: usize,
    /// For each chunk, as long as a huge page, whether it has pages, apart from smaller pieces of it that were returned.
    ready: Vec<bool>,
    /// The process that has the mapping: in a child another mapping may be there.
    process: u32,
}

// SAFETY: it owns its memory; the pointer is only an address.
unsafe impl Send for Segment {}

impl Segment {
    /// Allocates memory of `len` bytes, aligned to blocks: a store may require that.
    fn new(len: usize, block: usize) -> io::Result<Segment> {
        let align = block.max(64);
        let base = if len >= HUGE { map(len)? } else { allocate(len, align)? };
        // Small segments are not mapped here, and have the pages of their allocation.
        let ready = vec![len < HUGE; len.div_ceil(HUGE)];
        Ok(Segment { base, len, align, ready, process: faultin::process() })
    }

    /// Returns the layout of a small segment, for caches that are small on purpose, in tests.
    fn layout(len: usize, align: usize) -> io::Result<Layout> {
        Layout::from_size_align(len, align).map_err(io::Error::other)
    }
}

/// The kind of pages that new memory gets.
///
/// Huge pages are the cheapest by far, unless the machine is a virtual one whose host has reclaimed free memory (free page
/// reporting): then the first touch of a huge page waits for the host to find all of it, and small pages, which are not
/// reported to the host, take a fraction of the time. The kernel does not tell which case it is, so it is measured: the
/// first part of each segment gets a huge page, and the rest whichever took less time.
#[derive(Debug, Default)]
struct Pages {
    /// The last time that a part took, with huge pages and with small ones.
    huge: Option<Duration>,
    small: Option<Duration>,
}

impl Pages {
    fn choose(&self, is_first: bool) -> Kind {
        match (self.huge, self.small) {
            _ if is_first => Kind::Huge,
            (Some(huge), Some(small)) if huge <= small => Kind::Huge,
            _ => Kind::Small,
        }
    }

    fn took(&mut self, kind: Kind, time: Duration) {
        match kind {
            Kind::Huge => self.huge = Some(time),
            Kind::Small => self.small = Some(time),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Huge,
    Small,
}

impl Segment {
    /// Populates the pages of a chunk, as large as a huge page: also for smaller requests, because a page fault for each small
    /// page costs more.
    fn make_ready(&mut self, chunk: usize, pages: &mut Pages) {
        let offset = chunk * HUGE;
        let len = HUGE.min(self.len - offset);
        let kind = pages.choose(chunk == 0);
        let advice = match kind {
            Kind::Huge => libc::MADV_HUGEPAGE,
            Kind::Small => libc::MADV_NOHUGEPAGE,
        };
        let start = Instant::now();
        // SAFETY: a part of the segment's own mapping, whose bytes stay the same. The kernel's result does not matter:
        // pages that are not populated are faulted in when they are touched.
        unsafe {
            let part = self.base.add(offset).as_ptr().cast();
            libc::madvise(part, len, advice);
            libc::madvise(part, len, libc::MADV_POPULATE_WRITE);
            // A huge page stays. But the kernel would make one of small pages later, and give pieces pages that were returned.
            libc::madvise(part, len, libc::MADV_NOHUGEPAGE);
        }
        pages.took(kind, start.elapsed());
        self.ready[chunk] = true;
    }
}

impl Segment {
    /// Returns the pages of a part that is free to the kernel. Small segments keep theirs.
    fn discard(&mut self, offset: usize, len: usize) {
        if self.len >= HUGE && self.process == faultin::process() {
            // SAFETY: a part of the segment's own mapping that is in no `Frames`. Its bytes become zeros.
            unsafe { libc::madvise(self.base.add(offset).as_ptr().cast(), len, libc::MADV_DONTNEED) };
            if len >= HUGE {
                // It is aligned to its length.
                self.ready[offset / HUGE..(offset + len) / HUGE].fill(false);
            }
        }
    }

    /// Gives pages to a part that was discarded, of a chunk that has its other pages: page faults would take longer.
    fn populate(&mut self, offset: usize, len: usize) {
        if self.len >= HUGE && self.ready[offset / HUGE] {
            // SAFETY: a part of the segment's own mapping, whose bytes stay the same. A failure has no effect.
            unsafe { libc::madvise(self.base.add(offset).as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) };
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.len >= HUGE {
            if self.process != faultin::process() {
                return;
            }
            // SAFETY: this mapping is the segment's own, and no `Frames` in it are left: each keeps the arena.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        } else if let Ok(layout) = Self::layout(self.len, self.align) {
            // SAFETY: allocated with this layout; as above.
            unsafe { alloc::dealloc(self.base.as_ptr(), layout) };
        }
    }
}

fn allocate(len: usize, align: usize) -> io::Result<NonNull<u8>> {
    let layout = Segment::layout(len, align)?;
    // SAFETY: `len` is not 0.
    NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory.into())
}

/// Anonymous memory, aligned to [`HUGE`].
fn map(len: usize) -> io::Result<NonNull<u8>> {
    let whole = len.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), whole, protection, flags | libc::MAP_NORESERVE, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(faultin::CallError::name("mmap", io::Error::last_os_error()));
    }
    let before = base.addr().next_multiple_of(HUGE) - base.addr();
    let behind = HUGE - before;
    // SAFETY: `before` is less than `whole`.
    let aligned = unsafe { base.byte_add(before) };
    // SAFETY: both parts are of the mapping above and outside of the kept part, which is `aligned` to `aligned + len`.
    unsafe {
        if before > 0 {
            libc::munmap(base, before);
        }
        libc::munmap(aligned.byte_add(len), behind);
        // A child would see folios as they were at the fork, and write back none of them.
        libc::madvise(aligned, len, libc::MADV_DONTFORK);
    }
    NonNull::new(aligned.cast()).ok_or(io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::tests::assert_waits_without_signals;

    #[test]
    fn memory_is_recycled_and_the_limit_holds() {
        for block in [8, 4096] {
            let arena = Arena::new(block, 8 * block);
            let mut memories: Vec<_> = (0..4).map(|_| arena.alloc(2 * block, 0).unwrap().unwrap()).collect();
            assert_eq!(arena.used(), 8 * block);
            assert!(arena.alloc(block, 0).unwrap().is_none());
            for (index, memory) in memories.iter_mut().enumerate() {
                memory.bytes_mut().fill(index as u8);
            }
            for (index, memory) in memories.iter().enumerate() {
                assert!(memory.bytes().iter().all(|&byte| byte == index as u8));
            }
            let beyond = arena.alloc(block, usize::MAX).unwrap().unwrap();
            assert_eq!(arena.used(), 9 * block);
            // First: what is free while more than the limit is in use is returned, in pieces.
            drop(beyond);
            let old = memories.pop().unwrap().ptr;
            assert_eq!(arena.alloc(2 * block, 0).unwrap().unwrap().ptr, old);
        }
    }

    /// Memory that is free in small pieces is used for small folios, instead of more memory for large ones.
    #[test]
    fn no_more_is_resident_than_the_limit_and_a_falling_one_returns_memory() {
        let block = rustix::param::page_size();
        let part = MAX_BLOCKS * block;
        let arena = Arena::new(block, 8 * part);
        let mut blocks: Vec<_> = (0..8 * MAX_BLOCKS).map(|_| arena.alloc(block, 0).unwrap().unwrap()).collect();
        assert_eq!((arena.resident(), arena.used()), (8 * part, 8 * part));
        // Every other one.
        let mut index = 0;
        blocks.retain(|_| {
            index += 1;
            index % 2 == 0
        });
        let most = |limit: usize| limit + limit / 20;
        let large: Vec<_> = std::iter::from_fn(|| arena.alloc(2 * block, 0).unwrap()).collect();
        assert!(large.len() < MAX_BLOCKS / 4, "{} of {} bytes, and no more", large.len(), 2 * block);
        blocks.extend((0..100).map(|_| arena.alloc(block, 0).unwrap().unwrap()));
        assert!(arena.resident() <= most(8 * part));
        drop(large);
        // One block can always be had.
        blocks.extend((0..5 * MAX_BLOCKS).map(|_| arena.alloc(block, usize::MAX).unwrap().unwrap()));
        assert!(arena.resident() <= arena.used() + most(8 * part) - 8 * part);
        arena.set_limit(2 * part);
        arena.trim();
        assert!(arena.resident() <= arena.used() + part / 10, "what is in use stays");
        blocks.truncate(MAX_BLOCKS);
        arena.trim();
        assert!(arena.resident() <= most(2 * part));
        for (index, memory) in blocks.iter_mut().enumerate() {
            memory.bytes_mut().fill(index as u8);
        }
        // The memory is there again when the limit rises.
        arena.set_limit(8 * part);
        blocks.extend(std::iter::from_fn(|| arena.alloc(block, 0).unwrap()));
        assert_eq!(arena.used(), 8 * part);
        assert!(arena.resident() <= most(8 * part));
        blocks[MAX_BLOCKS..].iter_mut().for_each(|memory| memory.bytes_mut().fill(7));
        let is_own = |(index, memory): (usize, &Frames)| memory.bytes().iter().all(|&byte| byte == index as u8);
        assert!(blocks[..MAX_BLOCKS].iter().enumerate().all(is_own));
    }

    #[test]
    fn memory_that_is_given_back_while_more_than_the_limit_is_in_use_does_not_stay() {
        let block = rustix::param::page_size();
        let arena = Arena::new(block, MAX_BLOCKS * block);
        let mut blocks: Vec<_> = (0..MAX_BLOCKS).map(|_| arena.alloc(block, 0).unwrap().unwrap()).collect();
        arena.set_limit(block);
        while blocks.pop().is_some() {
            assert!(arena.resident() <= arena.used().max(block) + block / 20, "{} blocks are in use", blocks.len());
        }
    }

    /// Pieces are returned before they had pages, and others of the same chunk are used afterwards.
    #[test]
    fn no_more_pages_are_there_than_the_account_has_whatever_the_size_of_a_block() {
        let page = rustix::param::page_size();
        for block in [512, page / 2, page, 16 << 10, 64 << 10, 1 << 20] {
            // Smaller ones are not mapped.
            let arena = Arena::new(block, (MAX_BLOCKS * block).max(HUGE));
            let pages = || {
                let mut count = 0;
                for segment in &arena.state.lock().segments {
                    let mut states = vec![0_u8; segment.len / page];
                    // SAFETY: the segment's own mapping, and a byte for each of its pages.
                    let result =
                        unsafe { libc::mincore(segment.base.as_ptr().cast(), segment.len, states.as_mut_ptr()) };
                    assert_eq!(result, 0);
                    count += states.iter().filter(|&state| state & 1 == 1).count();
                }
                count * page
            };
            let random = faultin_test::Random::new(block as u64);
            let below = |end: usize| random.below(end as u64) as usize;
            let (mut frames, mut elsewhere) = (vec![arena.alloc(block, 0).unwrap().unwrap()], Vec::new());
            for turn in 0..40 {
                let blocks = if turn == 0 { MAX_BLOCKS * 5 / 8 } else { 1 + below(MAX_BLOCKS / 2) };
                elsewhere.extend(arena.take(blocks * block, 0));
                while let Some(more) = arena.alloc(block << below(4), 0).unwrap() {
                    frames.push(more);
                }
                let taken: usize = elsewhere.iter().map(|part: &Elsewhere| part.account().len()).sum();
                assert!(
                    pages() + taken <= arena.resident(),
                    "{block} {turn}: {} + {taken} of {}",
                    pages(),
                    arena.resident()
                );
                if turn % 2 == 0 {
                    elsewhere.clear();
                }
                for _ in 0..below(frames.len() + 1) {
                    frames.swap_remove(below(frames.len()));
                }
            }
        }
    }

    /// As in a pager thread, which a handler waits for that has interrupted the thread with the lock.
    #[test]
    fn memory_from_elsewhere_is_taken_without_waiting() {
        let block = rustix::param::page_size();
        let arena = Arena::new(block, MAX_BLOCKS * block);
        drop(arena.alloc(block, 0).unwrap());
        let held = arena.state.lock();
        let taken = arena.take(MAX_BLOCKS / 2 * block, 0).unwrap();
        assert!(arena.excess() > 0);
        drop(held);
        // Whoever had the lock does this next.
        arena.trim();
        assert_eq!(arena.excess(), 0);
        drop(taken);
    }

    /// Free frames and memory from elsewhere are one account, also where a part of the arena is as large as the limit.
    #[test]
    fn memory_from_elsewhere_takes_the_place_of_free_frames() {
        let block = rustix::param::page_size();
        for limit in [MAX_BLOCKS / 2, MAX_BLOCKS, 8 * MAX_BLOCKS].map(|blocks| blocks * block) {
            let arena = Arena::new(block, limit);
            let most = limit + limit / 20;
            let random = faultin_test::Random::new(limit as u64);
            let below = |end: usize| random.below(end as u64) as usize;
            let (mut frames, mut elsewhere) = (Vec::new(), Vec::new());
            for turn in 0..20_000 {
                // The whole limit, from one side to the other and back.
                let is_for_frames = turn / 2000 % 2 == 0;
                let len = block << below(6);
                if is_for_frames {
                    frames.extend(arena.alloc(len, 0).unwrap());
                } else {
                    elsewhere.extend(if below(2) == 0 { arena.take(len, 0) } else { arena.take_in_signal(len) });
                }
                assert!(arena.resident() >= arena.used());
                assert!(arena.resident() <= most, "{} at a limit of {limit}", arena.resident());
                if arena.used() + len > limit {
                    if is_for_frames && !elsewhere.is_empty() {
                        elsewhere.swap_remove(below(elsewhere.len()));
                    } else if !frames.is_empty() {
                        frames.swap_remove(below(frames.len()));
                    }
                }
            }
            assert!(arena.used() > limit / 2);
            drop((frames, elsewhere));
            assert_eq!(arena.used(), 0);
            assert!(arena.resident() <= most);
        }
    }

    /// The file has no lock then that a pager thread would see.
    #[test]
    fn who_drops_the_folios_of_a_file_has_its_signals_blocked() {
        let cache = crate::CacheOptions::new().limit(1 << 20).build();
        let file = cache.open(crate::store::MemoryStore::new([7; 100_000])).unwrap();
        file.read_at(&mut [0; 100_000], 0).unwrap();
        let arena = Arc::clone(file.inode().cache().arena());
        assert_waits_without_signals(arena.state.lock(), || drop(file));
        assert_eq!(arena.used(), 0);
    }

    #[test]
    fn folios_of_all_sizes_in_several_segments_do_not_overlap() {
        let block = 4096;
        let arena = Arena::new(block, 80 << 20);
        let mut memories = Vec::new();
        for turn in 0.. {
            match arena.alloc(block << (turn % ORDERS), 0).unwrap() {
                Some(memory) => memories.push(memory),
                None => break,
            }
        }
        let mut ranges: Vec<_> = memories.iter().map(|m| (m.ptr.addr().get(), m.len())).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(ranges.iter().all(|(at, len)| at % len.min(&HUGE) == 0), "naturally aligned");
        drop(memories);
        assert_eq!(arena.used(), 0);
    }
}
