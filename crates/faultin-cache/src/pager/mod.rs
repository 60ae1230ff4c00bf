//! Mappings of cached files, whose page faults this process resolves.
//!
//! A [`Mapping`] shows the folios of its file: bytes that are stored through it are visible to
//! [`read_iter`](crate::CachedFile::read_iter), and bytes that [`write_iter`](crate::CachedFile::write_iter) writes are
//! visible in it. Pages are read from the store when they are first touched; stores are noticed before they can be lost;
//! eviction, [`set_len`](crate::CachedFile::set_len) and [`punch_hole`](crate::CachedFile::punch_hole) unmap pages.
//!
//! ```
//! use faultin::map::Rights;
//! use faultin_cache::pager::Mode;
//! use faultin_cache::{Cache, store::MemoryStore};
//!
//! let file = Cache::new().open(MemoryStore::new(vec![7; 100_000]))?;
//! let map = file
//!     .map(0..100_000, Rights::ReadWrite, Mode::Signal)
//!     .or_else(|_| file.map(0..100_000, Rights::ReadWrite, Mode::Mprotect))?;
//! // SAFETY: within the mapping; each page comes from the store when it is touched.
//! unsafe { map.as_ptr().add(50_000).write_volatile(8) };
//! let mut bytes = [0; 2];
//! file.read_at(&mut bytes, 49_999)?;
//! assert_eq!(bytes, [7, 8]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An access fails past the page in which the file ends, where the store fails, and where the cache is full of bytes that
//! the store does not take (see [`CacheOptions::limit`](crate::CacheOptions::limit)). For copies of this project that is a
//! short count and a cause, for other code a signal (SIGBUS; in [`Mode::Mprotect`] SIGSEGV). A failure is not permanent:
//! when the store works again, so does the access.
//!
//! An access may need two pages of a file at once, across a page boundary; these stay until it is done, however small the
//! cache is. An instruction that needs more (a `movs` whose source and destination in the same file both cross a page
//! boundary) needs a limit of that many blocks.
//!
//! # Modes
//!
//! | | [`Signal`](Mode::Signal) | [`Thread`](Mode::Thread) | [`Mprotect`](Mode::Mprotect) |
//! |---|---|---|---|
//! | the fault of an ordinary instruction is resolved by | the thread itself, in the signal | a pager thread, which is woken | as `Signal` |
//! | a system call that is given such memory | `EFAULT`, unless it was faulted in | waits, and works | `EFAULT`, unless it was faulted in |
//! | needs | Linux 6.6 | Linux 6.6, and `CAP_SYS_PTRACE`, `vm.unprivileged_userfaultfd` or `/dev/userfaultfd` | nothing |
//! | threads with SIGBUS and SIGSEGV blocked | die of a fault | work | die of a fault |
//! | pages with different rights | any number | any number | at most about `vm.max_map_count` changes between them; then all pages are revoked at once, or brought in at once |
//! | a page | the fastest | a wake-up of another thread each | slower |
//!
//! In all modes copies of this project come back short (in [`Thread`](Mode::Thread) from memory whose faults need a lock
//! that the copying thread holds; a system call by other code that is given that very page at that moment gets `EFAULT`),
//! and [`fault_in`](faultin::ReadView::fault_in) resolves the fault as an ordinary function. So a mapping may be the buffer
//! of any read or write, of its own file, too. A mapping is not inherited over `fork`: the child has nothing there.
//!
//! # Signals and their stacks
//!
//! While a fault is resolved in its signal, the thread's other signals wait, as they do while the kernel resolves one: a
//! profiler's samples are taken when the instruction is repeated. A thread that waits for a pager thread handles its
//! signals within about 20 ms: it returns to the instruction, which faults again after them. So SIGINT and SIGTERM work
//! while a store hangs.
//!
//! Below the kernel's frame and up to 2 KiB of [`faultin`]'s own handler ([`faultin::signal::status`]), resolving a fault
//! in the signal takes up to 4 KiB of the alternate signal stack, and handing it over 2.5 KiB; a third of that in optimized
//! builds. Where less than the former is left, the fault is handed over to a pager thread; where less than the latter
//! is left, it is not resolved, and the access fails. Each handler that itself runs on the alternate stack (`SA_ONSTACK`)
//! and touches mappings needs room for one more of the kernel's frames. Without an alternate stack the room is not checked.
//!
//! A handler that touches a mapping may wait for a pager thread; in [`Thread`](Mode::Thread) one that copies from a
//! mapping, too. So it must not have interrupted code that holds a lock which that thread may need: a lock of the file's
//! store, or of an allocator that has one lock for all threads. (A store is read while no lock of the file is held. The locks of
//! [`MemoryStore`](crate::store::MemoryStore) are held with signals blocked.) If it has interrupted a call of the cache that holds a
//! file's lock, that is detected: the fault is rejected, and a copy comes back short. The cache's other locks are held with
//! signals blocked: the handler runs a little later.
//!
//! # As the buffer of a read or a write
//!
//! [`Mapping::source`] and [`Mapping::dest`] end where the file does, and come back short where it has been truncated
//! since. The [views](Mapping::read_view) are of whole pages: their bytes after the end of the file are zeros that belong
//! to no file.
//!
//! In a signal a fault is resolved with a duplicate of the file's [descriptor](crate::store::Store::descriptor) if the
//! store has one, and no method of the store is called; otherwise, and whenever a wait is needed, it is handed over to a
//! pager thread.
//!
//! # A store that is slow
//!
//! A file has one pager thread, and up to eight more while they wait for the store, which end 100 ms after the last of these
//! faults. A fault of a page that is in memory does not wait for the store, and those of other blocks are fetched beside it.
//! Faults of one block wait for the same thread, one after the other if the store fails, also if another operation brings the
//! block in meanwhile: later faults find it. When eight blocks are being fetched, faults that need others wait for the first of
//! them. A file that is closed, and a cache that is dropped, do not wait for
//! these threads: each keeps the file until the store has answered.

#![deny(unsafe_code)]

pub(crate) mod bug;
mod error;
#[cfg(test)]
mod explore;
mod inside;
#[cfg(test)]
#[allow(unsafe_code, reason = "polls, and sends signals")]
mod mailbox_stress;
mod mapped;
pub(crate) mod post;
mod segment;
mod serve;
mod server;
mod thread;
mod turns;
mod waiting;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use faultin::map::Rights;
use faultin::pager::Registration;
use faultin::{InstallError, ReadView, WriteView};

pub use error::AttachError;
pub use inside::mode::Mode;
pub(crate) use inside::{mapped::Mapped, step};
pub use segment::{MappingDest, MappingSource};

use self::inside::hardware::{Hardware, Kind};
use self::inside::map::Map;
use self::inside::mapped::Source;
use self::inside::uffd::Faults;
use self::server::Server;
use crate::error::Error;
use crate::file::CachedFile;
#[doc(hidden)]
pub use crate::signals::without_signals;

impl Mode {
    fn kind(self) -> Kind {
        match self {
            Mode::Signal => Kind::Uffd(Faults::Signal),
            Mode::Thread => Kind::Uffd(Faults::Message),
            Mode::Mprotect => Kind::Mprotect,
        }
    }
}

/// A part of a cached file, in memory. Unmapped when it is dropped; stored bytes are in the file.
///
/// Keeps the file open.
#[derive(Debug)]
pub struct Mapping {
    file: CachedFile,
    map: Arc<Map>,
    /// `None` once it is being dropped.
    registration: Option<Registration>,
}

/// Number of faults of a mapping, by the way they were resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// In the signal, by the thread that has faulted.
    pub in_signal: u64,
    /// By a pager thread.
    pub by_thread: u64,
    /// By `fault_in` and `probe`, as an ordinary function.
    pub by_call: u64,
    /// Not resolved: the access has failed.
    pub rejected: u64,
}

impl Mapping {
    /// Returns the first address. Accesses fault, and are resolved; the [module](self) says for which code. Bytes change
    /// through the file and through other mappings at any time, so do not make references to them (`&[u8]`): use the views,
    /// or volatile and atomic accesses.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.base().as_ptr()
    }

    /// Returns the length in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns false: an empty mapping is rejected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the file that is mapped.
    pub fn file(&self) -> &CachedFile {
        &self.file
    }

    /// Returns how its faults are resolved.
    pub fn mode(&self) -> Mode {
        self.map.mode()
    }

    /// Returns a view for reading all of it: whole pages, also where the file ends within the last one. See
    /// [`source`](Self::source).
    ///
    /// # Errors
    /// If the signal handler, which was installed when the mapping was made, was removed and cannot be installed.
    pub fn read_view(&self) -> Result<ReadView<'_>, InstallError> {
        // SAFETY: the range is the mapping's own until it is dropped, which the view's lifetime excludes.
        #[allow(unsafe_code, reason = "the range is its own")]
        unsafe {
            ReadView::new(self.as_ptr(), self.len())
        }
    }

    /// Returns a view for writing all of it: whole pages. See [`dest`](Self::dest). Stores to a mapping for reading come
    /// back short.
    ///
    /// # Errors
    /// Those of [`read_view`](Self::read_view).
    pub fn write_view(&self) -> Result<WriteView<'_>, InstallError> {
        // SAFETY: as in `read_view`.
        #[allow(unsafe_code, reason = "the range is its own")]
        unsafe {
            WriteView::new(self.as_ptr(), self.len())
        }
    }

    /// Returns the reason why a fault could not be resolved, for the last such fault. It stays when the store works again.
    pub fn last_error(&self) -> Option<Error> {
        self.map.last_error()
    }

    #[cfg(test)]
    fn inner(&self) -> &Map {
        &self.map
    }

    /// Returns the number of faults so far.
    pub fn fault_counts(&self) -> FaultCounts {
        let counts = &self.map.counts;
        FaultCounts {
            in_signal: counts.in_signal.load(Ordering::Relaxed),
            by_thread: counts.by_thread.load(Ordering::Relaxed),
            by_call: counts.by_call.load(Ordering::Relaxed),
            rejected: counts.rejected.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // It does not wait: a thread whose fault is being resolved keeps the map.
        self.registration = None;
        if !self.map.is_ours() {
            // A child of `fork`. The locks may be held by threads that do not exist there, and nothing is mapped: the file
            // stays as it is.
            std::mem::forget(self.file.clone());
            return;
        }
        let inode = self.file.inode();
        if let Some(thread) = inode.pager() {
            thread.remove(&self.map);
        }
        // A thread that holds the lock already (an observer that drops a mapping) leaves the pages to the last user of the
        // file.
        if let Ok(mut table) = inode.table().exclusive()
            && let Some(mapped) = table.mapped_mut()
        {
            mapped.remove(&self.map);
        }
    }
}

impl CachedFile {
    /// Maps a part of the file, which begins at the start of a page; the last page is mapped as a whole. The range may
    /// extend past the end of the file: that part is inaccessible until the file is that long.
    ///
    /// From now on the bytes of the file are in memory that mappings share. This is slower for reads and writes than the
    /// cache's own memory, about as fast as the kernel's page cache.
    ///
    /// # Errors
    /// [`AttachError`] if the range, the mode or this thread's locks do not allow it, or the kernel has no resources.
    pub fn map(&self, range: Range<u64>, protection: Rights, mode: Mode) -> Result<Mapping, AttachError> {
        let inode = self.inode();
        let page = faultin::page_size();
        if inode.geometry().block < page {
            return Err(AttachError::Block { block: inode.geometry().block, page });
        }
        if !range.start.is_multiple_of(page as u64) {
            return Err(AttachError::Start { start: range.start, page });
        }
        let bytes = range.end.saturating_sub(range.start);
        let most = (isize::MAX as u64).min(i64::MAX as u64 - page as u64);
        if bytes == 0 || range.end > most {
            return Err(AttachError::Range { range });
        }
        let len = (bytes as usize).next_multiple_of(page);
        if inode.pager().is_none() {
            let started = thread::start(inode).map_err(AttachError::Thread)?;
            inode.set_pager(started);
        }
        let Some(thread) = inode.pager() else { return Err(AttachError::Thread(io::ErrorKind::Other.into())) };
        // Queried here, where foreign code may run and no lock is held.
        let is_first = inode.table().shared().map_err(AttachError::Deadlock)?.mapped().is_none();
        let source = if is_first { Source::of(inode.store().get()).map_err(AttachError::Memory)? } else { None };
        let mut table = inode.table().exclusive().map_err(AttachError::Deadlock)?;
        let backing = table.backing(inode.geometry().block, source).map_err(AttachError::Memory)?;
        let hardware = Hardware::new(&backing, range.start, len, protection == Rights::ReadWrite, mode.kind());
        let hardware = hardware.map_err(|error| AttachError::of(mode, error))?;
        let map = Arc::new(Map::new(hardware, range.start, len / page, protection, mode));
        let server = Server { inode: Arc::clone(inode), map: Arc::clone(&map), post: Arc::clone(&thread.post) };
        let base = map.base().addr().get();
        // SAFETY: the range is the map's own mapping, which exists until `registration` has been dropped: `Mapping` has both, and
        // drops `registration` first.
        #[allow(unsafe_code, reason = "the range is its own")]
        let registration = unsafe { faultin::pager::register(base..base + len, Arc::new(server)) };
        let registration = registration.map_err(AttachError::Handler)?;
        if let Some(mapped) = table.mapped_mut() {
            mapped.add(Arc::clone(&map));
        }
        drop(table);
        thread.add(&map);
        Ok(Mapping { file: self.clone(), map, registration: Some(registration) })
    }
}
