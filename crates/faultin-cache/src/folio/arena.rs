//! The memory of folios: recycled, in huge pages where these are available.
//!
//! The kernel zeroes new memory, even if all of it is overwritten at once, so recycled memory is twice as fast as fresh
//! memory. The arena grows by parts of segments, up to its limit, and keeps them until the limit falls; the memory of freed
//! folios is handed out again as it is. The bits of a [`Folio`](super::Folio) prevent reads of old bytes.

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use buddy_system_allocator::FrameAllocator;
use parking_lot::Mutex;

use super::queue::Queue;
use crate::error::Error;

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
    segment_blocks: usize,
    limit: AtomicUsize,
    used: AtomicUsize,
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
    /// Number of parts of the segments, of [`MAX_BLOCKS`] blocks each, that are in use or free. The others follow them.
    parts: usize,
    /// Frames whose memory was returned to the kernel, and their number of blocks. They are neither in use nor free.
    returned: Vec<(usize, usize)>,
    returned_blocks: usize,
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
        self.arena.used.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Arena {
    /// Makes an arena of at most `limit` bytes, for folios of blocks of `block` bytes, a power of two.
    pub(crate) fn new(block: usize, limit: usize) -> Arc<Arena> {
        let segment_blocks = (limit / block).clamp(MAX_BLOCKS, SEGMENT_BLOCKS).next_multiple_of(MAX_BLOCKS);
        let state = State {
            free: FrameAllocator::new(),
            segments: Vec::new(),
            parts: 0,
            returned: Vec::new(),
            returned_blocks: 0,
            pages: Pages::default(),
        };
        Arc::new(Arena {
            block,
            segment_blocks,
            limit: AtomicUsize::new(limit),
            used: AtomicUsize::new(0),
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

    /// Returns the size in bytes of a part: the unit in which the arena grows.
    fn part(&self) -> usize {
        MAX_BLOCKS * self.block
    }

    /// Returns the number of bytes that may be resident, in use or free: the limit, or what is in use beyond it, in whole
    /// parts, and a twentieth.
    fn most_resident(&self) -> usize {
        let limit = self.limit();
        let parts = limit.max(self.used()).div_ceil(self.part());
        parts.saturating_mul(self.part()).saturating_add(limit / 20)
    }

    /// Returns the number of bytes that are resident, or may be.
    fn resident(&self, state: &State) -> usize {
        (state.parts * MAX_BLOCKS - state.returned_blocks) * self.block
    }

    /// Returns memory that is free to the kernel, until no more is resident than [may be](Self::most_resident).
    pub(crate) fn trim(&self) {
        let page = rustix::param::page_size();
        loop {
            // Not for long at a time: folios are allocated and freed under this lock.
            let mut state = self.state.lock();
            if self.resident(&state) <= self.most_resident() {
                return;
            }
            let mut orders = (0..ORDERS).rev().map(|order| 1 << order).filter(|blocks| blocks * self.block >= page);
            let Some((frame, blocks)) = orders.find_map(|blocks| Some((state.free.alloc(blocks)?, blocks))) else {
                return;
            };
            let (segment, offset) = self.place(frame);
            state.segments[segment].discard(offset, blocks * self.block);
            state.returned.push((frame, blocks));
            state.returned_blocks += blocks;
        }
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
    /// bytes. Two atomic operations, and nothing else. Async-signal-safe.
    pub(crate) fn take(self: &Arc<Self>, len: usize, beyond: usize) -> Option<Account> {
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
    /// bytes, or if what is free is in smaller pieces, and more must not be resident: one block can always be had.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn alloc(self: &Arc<Self>, len: usize, beyond: usize) -> Result<Option<Frames>, Error> {
        let Some(account) = self.take(len, beyond) else { return Ok(None) };
        let mut state = self.state.lock();
        let Some(frame) = self.frame(&mut state, len / self.block)? else { return Ok(None) };
        let State { segments, pages, .. } = &mut *state;
        let (segment, offset) = self.place(frame);
        let segment = &mut segments[segment];
        segment.make_ready(offset + len, pages);
        // SAFETY: the frame is within its segment, at an offset that is less than its size.
        let ptr = unsafe { segment.base.add(offset) };
        Ok(Some(Frames { ptr, frame, account }))
    }

    fn frame(&self, state: &mut State, blocks: usize) -> Result<Option<usize>, Error> {
        loop {
            if let Some(frame) = state.free.alloc(blocks) {
                return Ok(Some(frame));
            }
            let more = state.returned.last().map_or(self.part(), |(_, blocks)| blocks * self.block);
            if blocks > 1 && self.resident(state) + more > self.most_resident() {
                return Ok(None);
            }
            if let Some((frame, blocks)) = state.returned.pop() {
                state.returned_blocks -= blocks;
                let (segment, offset) = self.place(frame);
                state.segments[segment].populate(offset, blocks * self.block);
                state.free.dealloc(frame, blocks);
                continue;
            }
            let first = state.parts * MAX_BLOCKS;
            if first == state.segments.len() * self.segment_blocks {
                let new = Segment::new(self.segment_blocks * self.block, self.block);
                state.segments.push(new.map_err(|error| Error::Memory(Arc::new(error)))?);
            }
            // Now the largest folio has room.
            state.free.add_frame(first, first + MAX_BLOCKS);
            state.parts += 1;
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
        arena.state.lock().free.dealloc(self.frame, self.account.len / arena.block);
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
    /// Number of bytes from the beginning on that have pages.
    ready: usize,
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
        let ready = if len >= HUGE { 0 } else { len };
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
    /// Populates pages up to `end`, part by part, each as large as a huge page: also for smaller requests, because a page
    /// fault for each small page costs more.
    fn make_ready(&mut self, end: usize, pages: &mut Pages) {
        while self.ready < end {
            let len = HUGE.min(self.len - self.ready);
            let kind = pages.choose(self.ready == 0);
            let advice = match kind {
                Kind::Huge => libc::MADV_HUGEPAGE,
                Kind::Small => libc::MADV_NOHUGEPAGE,
            };
            let start = Instant::now();
            // SAFETY: a part of the segment's own mapping, whose bytes stay the same. The kernel's result does not matter:
            // pages that are not populated are faulted in when they are touched.
            unsafe {
                let part = self.base.add(self.ready).as_ptr().cast();
                libc::madvise(part, len, advice);
                libc::madvise(part, len, libc::MADV_POPULATE_WRITE);
            }
            pages.took(kind, start.elapsed());
            self.ready += len;
        }
    }
}

impl Segment {
    /// Returns the pages of a part that is free to the kernel. Small segments keep theirs.
    fn discard(&mut self, offset: usize, len: usize) {
        if self.len >= HUGE && self.process == faultin::process() {
            // SAFETY: a part of the segment's own mapping that is in no `Frames`. Its bytes become zeros.
            unsafe { libc::madvise(self.base.add(offset).as_ptr().cast(), len, libc::MADV_DONTNEED) };
        }
    }

    /// Gives pages to a part that has none: page faults would take longer.
    fn populate(&mut self, offset: usize, len: usize) {
        if self.len >= HUGE {
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
            let old = memories.pop().unwrap().ptr;
            drop(beyond);
            assert_eq!(arena.alloc(2 * block, 0).unwrap().unwrap().ptr, old);
        }
    }

    /// Memory that is free in small pieces is used for small folios, instead of more memory for large ones.
    #[test]
    fn no_more_is_resident_than_the_limit_and_a_falling_one_returns_memory() {
        let block = rustix::param::page_size();
        let part = MAX_BLOCKS * block;
        let arena = Arena::new(block, 8 * part);
        let resident = |arena: &Arena| arena.resident(&arena.state.lock());
        let mut blocks: Vec<_> = (0..8 * MAX_BLOCKS).map(|_| arena.alloc(block, 0).unwrap().unwrap()).collect();
        assert_eq!((resident(&arena), arena.used()), (8 * part, 8 * part));
        // Every other one.
        let mut index = 0;
        blocks.retain(|_| {
            index += 1;
            index % 2 == 0
        });
        assert!(arena.alloc(2 * block, 0).unwrap().is_none());
        blocks.extend((0..100).map(|_| arena.alloc(block, 0).unwrap().unwrap()));
        assert_eq!(resident(&arena), 8 * part);
        // One block can always be had.
        blocks.extend((0..5 * MAX_BLOCKS).map(|_| arena.alloc(block, usize::MAX).unwrap().unwrap()));
        assert!(resident(&arena) <= arena.used() + part);
        arena.set_limit(2 * part);
        arena.trim();
        assert!(resident(&arena) <= arena.used() + part + part / 10, "what is in use stays");
        blocks.truncate(MAX_BLOCKS);
        arena.trim();
        assert!(resident(&arena) <= 2 * part + part / 10);
        for (index, memory) in blocks.iter_mut().enumerate() {
            memory.bytes_mut().fill(index as u8);
        }
        // The memory is there again when the limit rises.
        arena.set_limit(8 * part);
        blocks.extend(std::iter::from_fn(|| arena.alloc(block, 0).unwrap()));
        assert_eq!((arena.used(), resident(&arena)), (8 * part, 8 * part));
        blocks[MAX_BLOCKS..].iter_mut().for_each(|memory| memory.bytes_mut().fill(7));
        let is_own = |(index, memory): (usize, &Frames)| memory.bytes().iter().all(|&byte| byte == index as u8);
        assert!(blocks[..MAX_BLOCKS].iter().enumerate().all(is_own));
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
