//! Mappings of cached files, whose page faults this process serves.
//!
//! A [`Mapping`] shows the folios of its file: what is stored through it is what [`read_iter`](crate::CachedFile::read_iter) reads, and
//! what [`write_iter`](crate::CachedFile::write_iter) writes is what it shows. Pages come from the store when they are first touched;
//! stores are noticed before they can be lost; eviction, [`set_len`](crate::CachedFile::set_len) and
//! [`punch_hole`](crate::CachedFile::punch_hole) take pages away.
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
//! An access fails past the page in which the file ends, where the store fails, and where the cache is full of bytes that the store does
//! not take (see [`CacheOptions::limit`](crate::CacheOptions::limit)). For this project's copies that is a short count and a
//! cause, for other code a signal (SIGBUS; in [`Mode::Mprotect`] SIGSEGV). Nothing is remembered of it: when the store
//! works again, so does the access.
//!
//! An access may need two pages of a file at once, across the end of a page; these stay until it is done, however small the cache is. An
//! instruction that needs more (a `movs` from the seam of two pages to another one of the same file) needs a limit of that many blocks.
//!
//! # Which mode
//!
//! | | [`Signal`](Mode::Signal) | [`Thread`](Mode::Thread) | [`Mprotect`](Mode::Mprotect) |
//! |---|---|---|---|
//! | the fault of an ordinary instruction is resolved by | the thread itself, in the signal | the pager's thread, which is woken | as `Signal` |
//! | a system call that is given such memory | `EFAULT`, unless it was faulted in | waits, and works | `EFAULT`, unless it was faulted in |
//! | needs | Linux 6.6 | Linux 6.6, and `CAP_SYS_PTRACE`, `vm.unprivileged_userfaultfd` or `/dev/userfaultfd` | nothing |
//! | threads with SIGBUS and SIGSEGV blocked | die of a fault | work | die of a fault |
//! | pages with different rights | any number | any number | at most about `vm.max_map_count` changes between them; then all pages are taken away at once, or brought in at once |
//! | a page | the fastest | a wake-up of another thread each | slower |
//!
//! In all modes copies of this project's come back short (in [`Thread`](Mode::Thread) from memory whose faults need a lock that the copying
//! thread has; a system call of somebody else's that is given that very page at that moment gets `EFAULT`), and [`fault_in`](faultin::ReadView::fault_in) serves the fault as an ordinary
//! function. So a mapping may be the buffer of any read or write, of its own file, too. A mapping is not inherited over `fork`: the child
//! has nothing there.
//!
//! # Signals and their stacks
//!
//! While a fault is served in its signal, the thread's other signals wait, as they do while the kernel serves one: a profiler's samples are taken when
//! the instruction is repeated. A thread that waits for the pager's thread takes its signals within about 20 ms: it returns to the instruction, which faults
//! again after them. So SIGINT and SIGTERM work while a store hangs.
//!
//! Below the kernel's frame and up to 2 KiB of [`faultin`]'s own handler ([`faultin::signal::status`]), serving a fault in the signal takes up to 4 KiB of the
//! alternate signal stack, and handing it over 2.5 KiB; a third of that in optimized builds. Where there is less than the former, the fault is handed over to the
//! pager's thread; where there is less than the latter, it is not served, and the access fails. Each handler that itself runs on the alternate stack
//! (`SA_ONSTACK`) and touches mappings needs room for one more of the kernel's frames. Without an alternate stack nothing is compared.
//!
//! A handler that touches a mapping may wait for the pager's thread; in [`Thread`](Mode::Thread) one that copies from a mapping, too. So it must not
//! have interrupted code that holds what that thread may need: a lock of the file's store, or of an allocator that has one lock for all threads. If it has
//! interrupted a call of the cache that holds a file's lock, that is noticed: the fault is refused, and a copy comes back short.
//!
//! # As the buffer of a read or a write
//!
//! [`Mapping::source`] and [`Mapping::dest`] end where the file does, and come back short where it has been cut since. The
//! [views](Mapping::read_view) are of whole pages: what they have after the end of the file are zeros of nobody's.
//!
//! In a signal a fault is served with a duplicate of the file's [descriptor](crate::store::Store::descriptor) if the store has one, and
//! no method of the store is called; otherwise, and
//! whenever something has to be waited for, it is handed over to the pager's thread.

#![deny(unsafe_code)]

pub(crate) mod bug;
mod error;
#[cfg(test)]
mod explore;
#[allow(unsafe_code, reason = "mappings, and what their page table is told")]
mod hardware;
#[allow(unsafe_code, reason = "requests live on the stacks of those who wait")]
pub(crate) mod mailbox;
#[cfg(test)]
#[allow(unsafe_code, reason = "polls, and sends signals")]
mod mailbox_stress;
mod map;
pub(crate) mod mapped;
mod segment;
mod serve;
mod server;
mod signal;
mod states;
pub(crate) mod step;
pub(crate) mod thread;
#[allow(unsafe_code, reason = "ioctls")]
mod uffd;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use faultin::map::Rights;
use faultin::pager::Served;
use faultin::{InstallError, ReadView, WriteView};

pub use error::AttachError;
pub use segment::{MappingDest, MappingSource};

use self::hardware::{Hardware, Kind};
use self::map::Map;
use self::mapped::Source;
use self::server::Server;
use self::thread::PagerThread;
use self::uffd::Faults;
use crate::error::Error;
use crate::file::CachedFile;

/// How the faults of a mapping are served. What that means is [above](self#which-mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the thread that faults, by a signal (userfaultfd).
    Signal,
    /// By a thread, while the one that faults waits in the kernel (userfaultfd).
    Thread,
    /// In the thread that faults, by a signal, without userfaultfd.
    Mprotect,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Signal, Mode::Thread, Mode::Mprotect];

    fn kind(self) -> Kind {
        match self {
            Mode::Signal => Kind::Uffd(Faults::Signal),
            Mode::Thread => Kind::Uffd(Faults::Message),
            Mode::Mprotect => Kind::Mprotect,
        }
    }
}

/// A part of a cached file, in memory. Unmapped when it is dropped; what was stored is in the file.
///
/// Keeps the file open.
#[derive(Debug)]
pub struct Mapping {
    file: CachedFile,
    map: Arc<Map>,
    /// `None` once it is being dropped.
    served: Option<Served>,
}

/// How many faults of a mapping were served, and by whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faulted {
    /// In the signal, by the thread that has faulted.
    pub in_signal: u64,
    /// By the pager's thread.
    pub by_thread: u64,
    /// By `fault_in` and `probe`, as an ordinary function.
    pub by_call: u64,
    /// Not served: the access has failed.
    pub refused: u64,
}

impl Mapping {
    /// Where it begins. Accesses fault, and are served; see the [module](self) for whom. Bytes change through the file and through other
    /// mappings at any time, so references to them (`&[u8]`) are not for it: use the views, or volatile and atomic accesses.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.base().as_ptr()
    }

    /// Bytes, whole pages.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never: a mapping of nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file it is of.
    pub fn file(&self) -> &CachedFile {
        &self.file
    }

    /// How its faults are served.
    pub fn mode(&self) -> Mode {
        self.map.mode()
    }

    /// All of it, to be read: whole pages, also where the file ends within the last one. See [`source`](Self::source).
    ///
    /// # Errors
    /// If the signal handler, which was there when the mapping was made, was removed and cannot be installed.
    pub fn read_view(&self) -> Result<ReadView<'_>, InstallError> {
        // SAFETY: the range is the mapping's own until it is dropped, which the view's lifetime excludes.
        #[allow(unsafe_code, reason = "the range is its own")]
        unsafe {
            ReadView::new(self.as_ptr(), self.len())
        }
    }

    /// All of it, to be written: whole pages. See [`dest`](Self::dest). Stores to a mapping for reading come back short.
    ///
    /// # Errors
    /// As [`read_view`](Self::read_view).
    pub fn write_view(&self) -> Result<WriteView<'_>, InstallError> {
        // SAFETY: as in `read_view`.
        #[allow(unsafe_code, reason = "the range is its own")]
        unsafe {
            WriteView::new(self.as_ptr(), self.len())
        }
    }

    /// Why a fault could not be served, the last time one could not. Stays when the store is well again.
    pub fn last_error(&self) -> Option<Error> {
        self.map.last_error()
    }

    /// How many faults were served so far.
    pub fn faulted(&self) -> Faulted {
        let counts = &self.map.counts;
        Faulted {
            in_signal: counts.in_signal.load(Ordering::Relaxed),
            by_thread: counts.by_thread.load(Ordering::Relaxed),
            by_call: counts.by_call.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // It does not wait: a thread that is being served keeps the map.
        self.served = None;
        if !self.map.is_ours() {
            // A child of `fork`. The locks may be held by threads that are not there, and nothing is mapped: the file stays
            // as it is.
            std::mem::forget(self.file.clone());
            return;
        }
        let inode = self.file.inode();
        if let Some(thread) = inode.pager.get() {
            thread.remove(&self.map);
        }
        // A thread that has the lock already (an observer that drops a mapping) leaves the pages to the last user of the file.
        if let Ok(mut table) = inode.table.exclusive()
            && let Some(mapped) = &mut table.mapped
        {
            mapped.remove(&self.map);
        }
    }
}

impl CachedFile {
    /// Maps a part of the file, whose first byte is a page's; the last page is mapped as a whole. It may reach behind the end of
    /// the file: that is inaccessible until the file is that long.
    ///
    /// The bytes of the file live in memory that mappings share from now on. That is slower for reads and writes than the
    /// cache's own, about as fast as the kernel's page cache.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn map(&self, range: Range<u64>, protection: Rights, mode: Mode) -> Result<Mapping, AttachError> {
        let inode = self.inode();
        let page = faultin::page_size();
        if inode.geometry.block < page {
            return Err(AttachError::Block { block: inode.geometry.block, page });
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
        if inode.pager.get().is_none() {
            let started = PagerThread::start(inode).map_err(AttachError::Thread)?;
            // Another one may have been faster.
            let _ = inode.pager.set(started);
        }
        let Some(thread) = inode.pager.get() else { return Err(AttachError::Thread(io::ErrorKind::Other.into())) };
        // Asked for here, where foreign code may run and no lock is held.
        let is_first = inode.table.shared().map_err(AttachError::Deadlock)?.mapped.is_none();
        let source = if is_first { Source::of(&*inode.store).map_err(AttachError::Memory)? } else { None };
        let mut table = inode.table.exclusive().map_err(AttachError::Deadlock)?;
        let backing = table.backing(inode.geometry.block, source).map_err(AttachError::Memory)?;
        let hardware = Hardware::new(&backing, range.start, len, protection == Rights::ReadWrite, mode.kind());
        let hardware = hardware.map_err(|error| AttachError::of(mode, error))?;
        let map = Arc::new(Map::new(hardware, range.start, len / page, protection, mode));
        let server = Server { inode: Arc::clone(inode), map: Arc::clone(&map), post: Arc::clone(&thread.post) };
        let base = map.base().addr().get();
        // SAFETY: the range is the map's own mapping, which lives until `served` has been dropped: `Mapping` has both, and
        // drops `served` first.
        #[allow(unsafe_code, reason = "the range is its own")]
        let served = unsafe { faultin::pager::serve(base..base + len, Arc::new(server)) };
        let served = served.map_err(AttachError::Handler)?;
        if let Some(mapped) = &mut table.mapped {
            mapped.add(Arc::clone(&map));
        }
        drop(table);
        thread.add(&map);
        Ok(Mapping { file: self.clone(), map, served: Some(served) })
    }
}
