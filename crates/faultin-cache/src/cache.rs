//! The cache: its options, its files, and what they share.

#![forbid(unsafe_code)]

mod reclaim;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use reclaim::EvictionScope;
use slab::Slab;

use crate::error::Error;
use crate::file::CachedFile;
use crate::folio::arena::MAX_BLOCKS;
use crate::folio::queue::Candidate;
use crate::folio::{Arena, Folio, Geometry, Home};
use crate::inode::{Inode, Refusals, Shared};
use crate::limit::Follow;
use crate::limit::follower::Follower;
use crate::many::recent::Recent;
use crate::prefetch::queue::Prefetcher;
use crate::signals::without_signals;
use crate::stats::{CacheStats, Counted, Register};
use crate::store::{MAX_BYTES, Store};
use crate::write::{Preallocate, WriteLoop};

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
    limit: Option<usize>,
    follow: Option<Follow>,
    block: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheOptions {
    /// Returns the default options: a quarter of the [memory that this process may use](crate::limit::memory_of_process), as
    /// it is when the cache is made, in blocks of 4 KiB, or of a page if that is larger.
    pub fn new() -> Self {
        CacheOptions { limit: None, follow: None, block: rustix::param::page_size().max(4096) }
    }

    /// Sets the limit of the cache's memory, in bytes. Each file in use may have two blocks beyond that, and each read that
    /// waits for its store one. While the store of a mapped file does not take dirty bytes, accesses through mappings may
    /// take four blocks more for each file of the cache.
    #[must_use]
    pub fn limit(self, bytes: usize) -> Self {
        CacheOptions { limit: Some(bytes), ..self }
    }

    /// Has the limit follow the memory that this process may use: see [`limit`](crate::limit). A [limit](Self::limit) that is
    /// set as well is the most that it can be.
    #[must_use]
    pub fn follow(self, follow: Follow) -> Self {
        CacheOptions { follow: Some(follow), ..self }
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
        let limit = match self.follow {
            Some(follow) => follow.limit(self.limit),
            None => self.limit.or_else(|| Follow::new().limit(None)),
        };
        let arena = Arena::new(self.block, limit.unwrap_or(UNKNOWN));
        let shared = Shared {
            arena,
            block: self.block,
            files: Mutex::new(Slab::new()),
            ownerless: AtomicBool::new(false),
            refusals: Refusals::default(),
            numbers: AtomicU64::new(1),
            register: Arc::new(Register::new()),
            prefetcher: Prefetcher::default(),
            filling: AtomicUsize::new(0),
            recent: Recent::default(),
            follower: OnceLock::new(),
        };
        let shared = Arc::new(shared);
        if let Some(follow) = self.follow {
            shared.follower.get_or_init(|| Follower::start(&shared, follow, self.limit));
        }
        Cache { owner: Arc::new(Owner { shared }) }
    }
}

/// The limit in bytes if nothing is known about the machine's memory.
const UNKNOWN: usize = 128 << 20;

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
        let store = Counted::new(Box::new(store), &shared.register);
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
        let most = shared.block * MAX_BLOCKS;
        let max_folio = options.max_folio.unwrap_or(most).clamp(shared.block, most);
        let geometry = Geometry { block: shared.block, max_folio: max_folio.next_power_of_two() };
        let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
        let (calls, store) = (store.calls(), Box::new(store));
        shared.with_files(|files| {
            let entry = files.vacant_entry();
            let slot = u32::try_from(entry.key()).map_err(|_| {
                io::Error::new(io::ErrorKind::OutOfMemory, "the cache has 2^32 files, and no more at once")
            })?;
            let home = Home { number, slot };
            let inode = Inode::new(home, Arc::clone(shared), store, calls, geometry, options.write_loop, size);
            let inode = Arc::new(inode);
            // With a handle before it is published: the next sync forgets a file without one.
            let file = CachedFile::new(Arc::clone(&inode));
            entry.insert(inode);
            Ok(file)
        })
    }

    /// Returns the size of all folios in bytes.
    pub fn used(&self) -> usize {
        self.owner.shared.arena.used()
    }

    /// Returns the limit of the size of all folios in bytes.
    pub fn limit(&self) -> usize {
        self.owner.shared.arena.limit()
    }

    /// Changes the limit of the size of all folios. If it falls, folios are evicted until no more are in use, dirty ones after
    /// they were written, and their memory is returned to the kernel. What cannot be evicted now stays until room is needed
    /// for something else (see [`limit`](crate::limit)). A cache that [follows](CacheOptions::follow) its process's memory
    /// sets the limit again at its next interval.
    ///
    /// ```
    /// use faultin_cache::{CacheOptions, store::MemoryStore};
    ///
    /// let cache = CacheOptions::new().limit(64 << 20).build();
    /// let file = cache.open(MemoryStore::new(vec![7; 32 << 20]))?;
    /// file.read_exact_at(&mut vec![0; 32 << 20], 0)?;
    /// cache.set_limit(8 << 20);
    /// assert!(cache.used() <= 8 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) {
        self.owner.shared.set_limit(bytes);
    }

    /// Returns what this cache has done so far.
    pub fn stats(&self) -> CacheStats {
        let shared = &self.owner.shared;
        let dirty = shared.with_files(|files| files.iter().map(|(_, inode)| inode.dirty()).sum());
        CacheStats { dirty, used: shared.arena.used() as u64, ..shared.register.stats() }
    }

    /// Writes back all dirty blocks of all files, also of closed ones, and makes them durable.
    ///
    /// A file that was closed when it had no dirty blocks, or whose blocks were written back as it was closed, is no longer
    /// known to the cache, and is not synced: like [`std::fs::File`], sync it before closing it if it has to be durable.
    ///
    /// # Errors
    /// The first failure. The other files are written all the same.
    pub fn sync(&self) -> Result<(), Error> {
        self.owner.shared.sync()
    }

    /// Evicts the clean folios of all files that no thread is using at the moment.
    pub fn drop_clean(&self) {
        for inode in self.owner.shared.snapshot() {
            if let Some(mut table) = inode.table().try_exclusive() {
                // Clean folios need no store.
                let _ = inode.evict(&mut table, usize::MAX, &EvictionScope { dirty: false, kept: false, wanted: true });
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
        self.shared.prefetcher.clear();
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

impl Shared {
    /// Returns whether this is the process that made the cache, and not a child.
    pub(crate) fn is_ours(&self) -> bool {
        self.arena.is_ours()
    }

    pub(crate) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Returns the size of all folios in bytes.
    pub(crate) fn used(&self) -> usize {
        self.arena.used()
    }

    /// Returns the limit of the size of all folios in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.arena.limit()
    }

    /// Returns the maximum number of bytes that an operation brings in at once, of its file and of its buffer each: so few
    /// that both stay until they are used.
    pub(crate) fn share(&self) -> usize {
        (self.arena.limit() / 8).max(self.block)
    }

    /// Returns whether an operation has wanted a folio so recently that its next round may still need it: since half of the
    /// memory was given away. A round wants less than that.
    fn is_wanted(&self, folio: &Folio) -> bool {
        folio.is_wanted((self.arena.limit() / 2).max(self.block) as u64)
    }

    fn snapshot(&self) -> Vec<Arc<Inode>> {
        self.with_files(|files| files.iter().map(|(_, inode)| Arc::clone(inode)).collect())
    }

    /// Calls `with` with the files, where no handler can wait for a pager thread, which may need them.
    fn with_files<T>(&self, with: impl FnOnce(&mut Slab<Arc<Inode>>) -> T) -> T {
        without_signals(|| with(&mut self.files.lock()))
    }

    /// Returns the files of these candidates for an eviction, except the file in the slot `own`. Candidates are of any
    /// files, so each file is in other lines of memory: all are loaded before the first one is needed, which takes hardly
    /// longer than one.
    fn files_of(&self, candidates: &[Candidate], own: u32) -> Vec<Option<Arc<Inode>>> {
        // The caller's lock of a file is seen.
        let files = self.files.lock();
        let others = || candidates.iter().map(|other| files.get(other.file as usize).filter(|_| other.file != own));
        // A count is changed by an atomic operation, which waits for all loads before it.
        let users: usize =
            others().flatten().map(|file| Arc::strong_count(file) + usize::from(file.table().is_free())).sum();
        std::hint::black_box(users);
        others().map(Option::<&Arc<Inode>>::cloned).collect()
    }

    fn sync(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for inode in self.snapshot() {
            let seen = AtomicU64::new(inode.failures());
            let result = inode.sync(false).and_then(|()| inode.report(&seen));
            // Blocks that are dirty again after a failed sync stay for the next one.
            if result.is_ok() || inode.dirty() == 0 {
                self.close(&inode);
            }
            first = first.and(result);
        }
        first
    }

    /// Forgets a file without handles, if it could be written back, or no cache is left to try again.
    pub(crate) fn close(&self, inode: &Arc<Inode>) {
        if inode.has_handles() {
            return;
        }
        let written = inode.write_back(0..u64::MAX).and_then(|()| inode.settle_len());
        if written.is_ok() || self.ownerless.load(Ordering::Acquire) {
            self.with_files(|files| {
                // Unless it was forgotten before, and its slot may have another file.
                let slot = inode.slot() as usize;
                if files.get(slot).is_some_and(|other| Arc::ptr_eq(other, inode)) {
                    files.remove(slot);
                }
            });
        }
    }

    /// Returns how often memory was denied because a store does not take dirty blocks.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.count.load(Ordering::Relaxed)
    }

    /// Returns the error of the last such denial, if there were more than `before`.
    pub(crate) fn refused_since(&self, before: u64) -> Option<Error> {
        let (is_new, last) = without_signals(|| {
            let last = self.refusals.last.lock();
            (self.refusals() > before, last.clone())
        });
        is_new.then(|| self.full(last))
    }

    fn full(&self, store: Option<Arc<io::Error>>) -> Error {
        Error::Full { used: self.arena.used(), limit: self.arena.limit(), store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::tests::assert_waits_without_signals;
    use crate::store::MemoryStore;

    #[test]
    fn who_waits_for_the_files_or_a_refusal_has_its_signals_blocked() {
        let cache = CacheOptions::new().limit(1 << 20).build();
        let shared = &cache.owner.shared;
        let file = cache.open(MemoryStore::new([7; 100])).unwrap();
        assert_waits_without_signals(shared.files.lock(), || _ = cache.stats());
        assert_waits_without_signals(shared.files.lock(), || drop(cache.open(MemoryStore::new([])).unwrap()));
        assert_waits_without_signals(shared.files.lock(), || cache.sync().unwrap());
        assert_waits_without_signals(shared.files.lock(), || drop(file));
        assert_waits_without_signals(shared.refusals.last.lock(), || assert!(shared.refused_since(0).is_none()));
    }
}
