//! The cache: its memory, its limit, and reclaim.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::Error;
use crate::file::CachedFile;
use crate::folio::arena::{Account, MOST_BLOCKS};
use crate::folio::backing::Extent;
use crate::folio::memory::Memory;
use crate::folio::{Arena, Folio, Geometry, Key, Table};
use crate::inode::{Inode, MAX_BYTES};
use crate::store::Store;
use crate::write::{Preallocate, WriteLoop};

/// Number of folios, of one block each, that a file may always have, also beyond the limit, so that an operation can make
/// progress: one that it copies to or from, and the next one. An access across a page boundary needs both at once.
const LEAST_FOLIOS: usize = 2;

/// How often other threads may take the memory that was freed for a block, before it is exchanged for a block of the file
/// itself.
const OUTRUN: u32 = 8;

/// Number of bytes that are freed at once, at most an eighth of the limit.
const TOGETHER: usize = 2 << 20;

/// There are not enough addresses for larger ones.
const LARGEST_BLOCK: usize = 1 << 30;

/// A cache of files. Clones are the same one.
///
/// Closing a file writes back its dirty blocks. Blocks that the store does not take stay in the cache until a
/// [`sync`](Self::sync) succeeds; when the last clone is dropped, one more attempt is made.
#[derive(Clone, Debug)]
pub struct Cache {
    owner: Arc<Owner>,
}

/// The options of a cache.
///
/// ```
/// use faultin_cache::CacheOptions;
///
/// let cache = CacheOptions::new().limit(64 << 20).build();
/// assert_eq!((cache.used(), cache.limit()), (0, 64 << 20));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    limit: usize,
    block: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheOptions {
    /// Returns the default options: a quarter of the machine's memory, in blocks of 4 KiB, or of a page if that is larger.
    pub fn new() -> Self {
        CacheOptions { limit: memory_of_machine() / 4, block: rustix::param::page_size().max(4096) }
    }

    /// Sets the limit of the cache's memory, in bytes. Each file in use may have two blocks beyond that, and each read that
    /// waits for its store one. While the store of a mapped file does not take dirty bytes, accesses through mappings may
    /// take four blocks more for each file of the cache.
    #[must_use]
    pub fn limit(self, bytes: usize) -> Self {
        CacheOptions { limit: bytes, ..self }
    }

    /// Sets the size of a block, in bytes: the unit in which bytes are valid, dirty, read and written. For stores that are aligned to
    /// more than 4 KiB, and for tests.
    ///
    /// # Panics
    /// Unless it is a power of two, at most 1 GiB.
    #[must_use]
    pub fn block(self, bytes: usize) -> Self {
        let is_possible = bytes.is_power_of_two() && bytes <= LARGEST_BLOCK;
        assert!(is_possible, "a block of {bytes} bytes: a power of two is needed, at most {LARGEST_BLOCK}");
        CacheOptions { block: bytes, ..self }
    }

    /// Makes the cache. It allocates no memory yet.
    pub fn build(self) -> Cache {
        let arena = Arena::new(self.block, self.limit);
        let shared = Shared {
            arena,
            block: self.block,
            files: Mutex::new(Vec::new()),
            turn: AtomicUsize::new(0),
            ownerless: AtomicBool::new(false),
            refusals: Mutex::default(),
            numbers: AtomicU64::new(1),
        };
        Cache { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }
}

/// Returns the memory of the machine in bytes; half a gibibyte if it is unknown.
fn memory_of_machine() -> usize {
    let pages = rustix::param::page_size();
    let total = crate::sys::memory().unwrap_or(0);
    if total < pages { 512 << 20 } else { total }
}

/// The options of a cached file.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    max_folio: Option<usize>,
    write_loop: WriteLoop,
}

impl FileOptions {
    /// Returns the default options: folios of up to 512 blocks, and the default [`WriteLoop`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the largest size of a folio, in bytes: rounded up to a power of two of blocks, at most 512 blocks.
    #[must_use]
    pub fn max_folio(self, bytes: usize) -> Self {
        FileOptions { max_folio: Some(bytes), ..self }
    }

    /// Sets the loop of writes.
    #[must_use]
    pub fn write_loop(self, write_loop: WriteLoop) -> Self {
        FileOptions { write_loop, ..self }
    }
}

impl Cache {
    /// Makes a cache with [the default options](CacheOptions::new).
    pub fn new() -> Cache {
        CacheOptions::new().build()
    }

    /// Opens a file whose bytes are in `store`.
    ///
    /// Two files whose stores are the same one are not coherent.
    ///
    /// # Errors
    /// If the store cannot report its length, or that is more than a file can have; if its alignment is larger than a
    /// block; if it cannot do what the [`WriteLoop`] needs.
    pub fn open(&self, store: impl Store + 'static) -> io::Result<CachedFile> {
        self.open_with(store, FileOptions::new())
    }

    /// Opens a file as [`open`](Self::open) does, with these options.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(&self, store: impl Store + 'static, options: FileOptions) -> io::Result<CachedFile> {
        let shared = &self.owner.shared;
        let size = store.len()?;
        if size > MAX_BYTES {
            let says = format!("the store has {size} bytes; a file has at most {MAX_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        let alignment = store.alignment();
        if !alignment.is_power_of_two() || alignment > shared.block {
            let says = format!(
                "the store is aligned to {alignment} bytes, the cache's blocks have {}: use CacheOptions::block",
                shared.block
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        if store.is_fixed() && !size.is_multiple_of(alignment as u64) {
            let says = format!("the store has {size} bytes, cannot change that, and is aligned to {alignment}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        let how = &options.write_loop;
        let is_missing = |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::Unsupported);
        if how.reserve && is_missing(store.reserve(0)) {
            let says = "WriteLoop::reserve is wanted, which this store does not support: Store::reserve";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        if how.preallocate != Preallocate::No && is_missing(store.allocate(size..size)) {
            let says = "WriteLoop::preallocate is wanted, which this store does not support: Store::allocate";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
        let most = shared.block * MOST_BLOCKS;
        let max_folio = options.max_folio.unwrap_or(most).clamp(shared.block, most);
        let geometry = Geometry { block: shared.block, max_folio: max_folio.next_power_of_two() };
        let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
        let inode = Inode::new(number, Arc::clone(shared), Box::new(store), geometry, options.write_loop, size);
        // With a handle before it is published: the next sync forgets a file without one.
        let inode = Arc::new(inode);
        let file = CachedFile::new(Arc::clone(&inode));
        shared.files.lock().push(inode);
        Ok(file)
    }

    /// Returns the size of all folios in bytes.
    pub fn used(&self) -> usize {
        self.owner.shared.arena.used()
    }

    /// Returns the limit of the size of all folios in bytes.
    pub fn limit(&self) -> usize {
        self.owner.shared.arena.limit()
    }

    /// Writes back all dirty blocks of all files, also of closed ones, and makes them durable.
    ///
    /// # Errors
    /// The first failure. The other files are written all the same.
    pub fn sync(&self) -> Result<(), Error> {
        self.owner.shared.sync()
    }

    /// Evicts the clean folios of all files that no thread is using at the moment.
    pub fn drop_clean(&self) {
        for inode in self.owner.shared.snapshot() {
            if let Some(mut table) = inode.table.try_exclusive() {
                // Clean folios need no store.
                let _ = inode.evict(
                    &mut table,
                    usize::MAX,
                    &What { dirty: false, referenced: true, kept: false, wanted: true },
                );
            }
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

/// Dropped with the last clone of a [`Cache`]: closed files that are still dirty are written back once more.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    /// Where the thread panics already, another thread does the work: a store that panics as well would end the process.
    fn drop(&mut self) {
        // A child of `fork` would write its parent's data a second time, later, and wait for locks of threads that it does
        // not have.
        if !self.shared.is_ours() {
            return;
        }
        self.shared.ownerless.store(true, Ordering::Release);
        for inode in self.shared.snapshot() {
            let close = || self.shared.close(&inode);
            if !std::thread::panicking() {
                close();
                continue;
            }
            std::thread::scope(|scope| {
                let _ = std::thread::Builder::new().spawn_scoped(scope, close).map(|thread| thread.join());
            });
        }
    }
}

/// The data that the files of a cache share.
#[derive(Debug)]
pub(crate) struct Shared {
    arena: Arc<Arena>,
    block: usize,
    /// Files that are open, or closed and dirty.
    files: Mutex<Vec<Arc<Inode>>>,
    /// The file that reclaim begins with next time.
    turn: AtomicUsize,
    /// Whether the last clone of the [`Cache`] was dropped.
    ownerless: AtomicBool,
    refusals: Mutex<Refusals>,
    numbers: AtomicU64,
}

/// The reason why a folio is brought in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A copy by this crate, which needs one folio at a time. Its loop is bounded.
    Copy,
    /// An access through a mapping, which is repeated until all its folios are accessible, at most [`LEAST_FOLIOS`] of a
    /// file at once.
    Access,
}

/// Memory that the cache has denied because stores do not take dirty blocks.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    last: Option<Arc<io::Error>>,
}

/// The folios that reclaim takes.
struct What {
    dirty: bool,
    /// Also folios that were used since the last pass.
    referenced: bool,
    /// Also folios that were faulted in and are about to be used.
    kept: bool,
    /// Also folios that an operation has wanted so recently that its next round may still need them.
    wanted: bool,
}

impl Shared {
    /// Returns whether this is the process that made the cache, and not a child.
    pub(crate) fn is_ours(&self) -> bool {
        self.arena.is_ours()
    }

    /// Takes a part of the limit, if one is free without eviction. Async-signal-safe.
    pub(crate) fn take(&self, len: usize) -> Option<Account> {
        self.arena.take(len, 0)
    }

    /// Returns the maximum number of bytes that an operation brings in at once, of its file and of its buffer each: so few
    /// that both stay until they are used.
    pub(crate) fn share(&self) -> usize {
        (self.arena.limit() / 8).max(self.block)
    }

    /// Returns whether an operation has wanted a folio so recently that its next round may still need it: since half of the
    /// memory was given away. A round wants less than that.
    fn is_wanted(&self, folio: &Folio) -> bool {
        folio.age() < (self.arena.limit() / 2).max(self.block) as u64
    }

    fn snapshot(&self) -> Vec<Arc<Inode>> {
        self.files.lock().clone()
    }

    fn sync(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for inode in self.snapshot() {
            let seen = AtomicU64::new(inode.errors.lock().count());
            let result = inode.sync(false).and_then(|()| inode.report(&seen));
            // Blocks that are dirty again after a failed sync stay for the next one.
            if result.is_ok() || inode.dirty.load(Ordering::Relaxed) == 0 {
                self.close(&inode);
            }
            first = first.and(result);
        }
        first
    }

    /// Forgets a file without handles, if it could be written back, or no cache is left to try again.
    pub(crate) fn close(&self, inode: &Arc<Inode>) {
        if inode.handles.load(Ordering::Acquire) > 0 {
            return;
        }
        let written = inode.write_back(0..u64::MAX).and_then(|()| inode.settle_len());
        if written.is_ok() || self.ownerless.load(Ordering::Acquire) {
            self.files.lock().retain(|other| !Arc::ptr_eq(other, inode));
        }
    }

    /// Returns how often memory was denied because a store does not take dirty blocks.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.lock().count
    }

    /// Returns the error of the last such denial, if there were more than `before`.
    pub(crate) fn refused_since(&self, before: u64) -> Option<Error> {
        let refusals = self.refusals.lock();
        let is_new = refusals.count > before;
        is_new.then(|| self.full(refusals.last.clone()))
    }

    fn full(&self, store: Option<Arc<io::Error>>) -> Error {
        Error::Full { used: self.arena.used(), limit: self.arena.limit(), store }
    }

    /// Returns memory for a folio at `start` of `want` bytes, or of fewer, for a file whose inode lock the caller holds.
    ///
    /// # Errors
    /// [`Error::Full`] if nothing can be freed within the limit; [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn memory_for(
        &self,
        inode: &Inode,
        table: &mut Table,
        start: u64,
        want: usize,
        what_for: Use,
    ) -> Result<Memory, Error> {
        // One folio has at most half of the memory, so that it does not empty the cache.
        let most = (self.arena.limit() / 2).max(inode.geometry.block);
        let mut len = want.min(1 << most.ilog2());
        let mut failed = None;
        while len >= inode.geometry.block {
            for _ in 0..if len == inode.geometry.block { OUTRUN } else { 1 } {
                if let Some(memory) = self.alloc(table, start, len, 0)? {
                    return Ok(memory);
                }
                let before = table.len();
                let freed = self.reclaim(inode, table, len);
                if let Some(memory) = self.alloc(table, start, len, 0)? {
                    return Ok(memory);
                }
                let has_freed = freed.is_ok() || table.len() < before;
                failed = failed.or(freed.err().flatten());
                if !has_freed {
                    break;
                }
                // Another thread was faster, and has taken the memory that this one freed.
            }
            len /= 2;
        }
        self.last_block(inode, table, start, what_for, failed)
    }

    /// Returns memory for one block where reclaim has found nothing more: the remaining folios are about to be used, or
    /// cannot be written.
    ///
    /// The evicted folio may be one that the caller is about to use as well. For a copy this is bounded by its loop. An
    /// access through a mapping has no bound, so for that a file always keeps [`LEAST_FOLIOS`] that can be evicted, the
    /// youngest ones, one of which is the requested one.
    ///
    /// # Errors
    /// [`Error::Full`] if no folio can be exchanged.
    fn last_block(
        &self,
        inode: &Inode,
        table: &mut Table,
        start: u64,
        what_for: Use,
        mut failed: Option<Arc<io::Error>>,
    ) -> Result<Memory, Error> {
        let block = inode.geometry.block;
        let exchange = |table: &mut Table| self.alloc(table, start, block, usize::MAX);
        if table.len() < LEAST_FOLIOS
            && let Some(memory) = exchange(table)?
        {
            return Ok(memory);
        }
        // The number of evictable folios that a file must have, for one to be evicted.
        let (of_this, of_others) = match what_for {
            Use::Copy => (1, 1),
            Use::Access => (LEAST_FOLIOS, LEAST_FOLIOS + 1),
        };
        if inode.evict_oldest(table, of_this, &mut failed)
            && let Some(memory) = exchange(table)?
        {
            return Ok(memory);
        }
        let files = self.snapshot();
        // Folios that cannot be written do not count among those that a file may always have for its accesses; but there is
        // a bound.
        let beyond = if what_for == Use::Access { 2 * LEAST_FOLIOS * files.len() * block } else { 0 };
        if let Some(memory) = self.alloc(table, start, block, beyond)? {
            return Ok(memory);
        }
        for other in files.iter().filter(|other| other.number != inode.number) {
            let Some(mut others) = other.table.try_exclusive() else { continue };
            while other.evict_oldest(&mut others, of_others, &mut failed) {
                // No exchange: afterwards the other file may have its missing folio beyond the limit.
                if let Some(memory) = self.alloc(table, start, block, beyond)? {
                    return Ok(memory);
                }
            }
        }
        if failed.is_some() {
            let mut refusals = self.refusals.lock();
            refusals.count += 1;
            refusals.last.clone_from(&failed);
        }
        Err(self.full(failed))
    }

    /// Allocates memory: for a mapped file the memory that its mappings show at that place, otherwise from the arena.
    /// `None` if it would exceed the limit by more than `beyond` bytes.
    fn alloc(&self, table: &Table, start: u64, len: usize, beyond: usize) -> Result<Option<Memory>, Error> {
        match &table.mapped {
            Some(mapped) => {
                let account = self.arena.take(len, beyond);
                Ok(account.map(|account| Memory::Extent(Extent::new(&mapped.backing, start, account))))
            }
            None => Ok(self.arena.alloc(len, beyond)?.map(Memory::Frames)),
        }
    }

    /// Moves a folio to memory that mappings show.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn make_shared(&self, table: &mut Table, key: Key) -> Result<(), Error> {
        let folio = table.get(key);
        if folio.is_shared() {
            return Ok(());
        }
        // Its old memory is freed at once.
        match self.alloc(table, folio.start(), folio.len(), usize::MAX)? {
            Some(memory) => table.get_mut(key).move_to(memory),
            None => Ok(()),
        }
    }

    /// Evicts folios until `want` more bytes are within the limit, in this order: clean folios that were not used lately,
    /// of any file that no thread is using at the moment; clean folios; dirty folios of this file; dirty folios of other
    /// files, unless this file has fewer than it may always have (another file's store may hang).
    fn reclaim(&self, inode: &Inode, table: &mut Table, want: usize) -> Result<(), Option<Arc<io::Error>>> {
        // A little more at once, because searching has a cost.
        let arena = &self.arena;
        let goal = want.max(TOGETHER.min(arena.limit() / 8));
        let missing = |bytes: usize| (arena.used() + bytes).saturating_sub(arena.limit());
        let mut failed = None;
        let files = self.snapshot();
        let begin = self.turn.fetch_add(1, Ordering::Relaxed);
        // Folios that an operation is about to use are skipped: they would be brought in again at once, and evict others
        // that are about to be used. If there are no others: see `last_block`.
        for (dirty, referenced, others) in
            [(false, false, true), (false, true, true), (true, true, false), (true, true, true)]
        {
            let what = What { dirty, referenced, kept: false, wanted: false };
            if others && dirty && table.len() < LEAST_FOLIOS {
                break;
            }
            for turn in 0..files.len() {
                if missing(goal) == 0 {
                    return Ok(());
                }
                let other = &files[(begin + turn) % files.len()];
                let result = if other.number == inode.number {
                    inode.evict(table, missing(goal), &what)
                } else if others {
                    match other.table.try_exclusive() {
                        Some(mut table) => other.evict(&mut table, missing(goal), &what),
                        None => Ok(()),
                    }
                } else {
                    Ok(())
                };
                failed = failed.or(result.err());
            }
        }
        if missing(want) == 0 { Ok(()) } else { Err(failed) }
    }
}

impl Inode {
    /// Evicts every folio of this file that can be evicted: also dirty ones if `dirty`.
    ///
    /// # Errors
    /// The store's error, if a dirty folio had to stay.
    #[cfg(test)]
    pub(crate) fn evict_all(&self, table: &mut Table, dirty: bool) -> Result<(), Arc<io::Error>> {
        self.evict(table, usize::MAX, &What { dirty, referenced: true, kept: true, wanted: true })
    }

    /// Evicts the folio that an operation has wanted longest ago, if at least `least` can be evicted; a dirty one is
    /// written first. Returns whether it did; `failed` is the first failure of the store.
    fn evict_oldest(&self, table: &mut Table, least: usize, failed: &mut Option<Arc<io::Error>>) -> bool {
        let mut oldest = None;
        let mut count = 0;
        for key in table.by_age() {
            if !self.made_clean(table, key, failed) {
                continue;
            }
            let oldest = *oldest.get_or_insert(key);
            count += 1;
            if count == least {
                table.remove(oldest);
                return true;
            }
        }
        false
    }

    /// Returns whether a folio can be evicted, after writing it if it is dirty; `failed` is the first failure of the store.
    fn made_clean(&self, table: &mut Table, key: Key, failed: &mut Option<Arc<io::Error>>) -> bool {
        if !table.get(key).is_dirty() {
            return true;
        }
        match self.write_folio(table, key) {
            Ok(()) => return true,
            Err(Error::Store(error)) => drop(failed.get_or_insert(error)),
            Err(_) => {}
        }
        false
    }

    /// Evicts folios of this file until `bytes` bytes are free, or no other is left.
    ///
    /// # Errors
    /// The store's error, if a dirty folio had to stay.
    fn evict(&self, table: &mut Table, bytes: usize, what: &What) -> Result<(), Arc<io::Error>> {
        let mut freed = 0;
        let mut failed = None;
        for _ in 0..table.len() {
            if freed >= bytes {
                break;
            }
            let Some(key) = table.next_victim() else { break };
            let folio = table.get(key);
            if !what.wanted && self.cache.is_wanted(folio) {
                continue;
            }
            if folio.take_referenced() && !what.referenced {
                continue;
            }
            if !what.kept && table.is_kept(folio.start()..folio.end()) {
                continue;
            }
            if folio.is_dirty() && !what.dirty || !self.made_clean(table, key, &mut failed) {
                continue;
            }
            freed += table.remove(key).len();
        }
        failed.map_or(Ok(()), Err)
    }
}
