//! The disk tier: blocks that were fetched stay in a directory, up to a limit, and survive a restart.
//!
//! **Nothing that happens to the disk is an error of a read.** A block that is damaged, unreadable or late is a miss, and is fetched
//! again. A disk that is full, slow or broken makes reads slower, and never wrong:
//!
//! | what happens | what the tier does |
//! |---|---|
//! | the process is killed in the middle of a write | the block fails its check, and is a miss |
//! | power is lost | the same, for blocks that the kernel had not written yet: nothing waits for the disk |
//! | bytes or records are damaged | the same; the slot is used again |
//! | the disk is full | blocks are evicted for new ones; after a minute it is tried whether there is space |
//! | reads or writes fail | misses; writes pause for 100 ms, and twice as long each time, up to a minute |
//! | reads are slow | a read waits at most for its patience ([`DiskOptions::patience`]), a read of several blocks once for all of them; after three that were late, reads that would have to wait for the disk are misses for a second, up to a minute, until one that tries is in time |
//! | writes are slow | blocks that do not fit into the queue (16 MiB) are not stored |
//! | another process has the directory | misses, until that process ends: one process uses a directory |
//! | the directory is removed | the tier continues in the removed files |
//!
//! # Files
//!
//! The directory must belong to the user of the process, no other user may write to it, and its name may not be a symbolic link. It is
//! made with mode 0700, and the files in it with mode 0600: `data` has slots of one size, one for each block, and `index` has a record of
//! 64 bytes for each slot. Both are as long as the limit allows, with holes where nothing was stored. A record has a checksum of itself,
//! the block's checksum (XXH3, 64 bits) and a digest of the block's key (BLAKE3, 128 bits). So no name of an object is on the disk, and no
//! credentials are. Files of another version of this format, or with slots of another size, are emptied.
//!
//! # Eviction
//!
//! S3-FIFO: a scan of blocks that are read once does not evict blocks that are read again.

mod counters;
mod device;
mod format;
mod index;
mod place;
mod queues;
mod readers;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::process::{Resource, getrlimit};

use counters::Counters;
use device::Device;
use format::{Digest, RECORD, Record};
use index::Index;
use place::Place;
use readers::{Readers, Unread};
use writer::{Command, Open, Sizes, Writer};

/// Names the bytes of one block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The URL of the object, without credentials.
    pub object: Arc<str>,
    /// The version of the object.
    pub version: Arc<str>,
    /// The block's bytes within the object.
    pub range: Range<u64>,
}

/// Space for what is not in slots: the directory, and the last unit of the index.
const OVERHEAD: u64 = 64 << 10;

/// Number of bytes that may wait to be written.
const QUEUE: usize = 16 << 20;

/// The time for which opening waits for the disk, and closing.
const WAIT: Duration = Duration::from_secs(1);

/// Options of a [`Disk`].
#[derive(Clone, Debug)]
pub struct DiskOptions {
    limit: u64,
    slot: usize,
    patience: Duration,
}

impl DiskOptions {
    /// Makes the default options of a tier of at most `limit` bytes on the disk, its index included.
    #[must_use]
    pub fn new(limit: u64) -> DiskOptions {
        DiskOptions { limit, slot: 64 << 10, patience: Duration::from_millis(50) }
    }

    /// Sets the size of a slot in bytes: a multiple of 4 KiB, up to 1 GiB. 64 KiB unless set. A block that is shorter takes a whole slot;
    /// a longer one takes several. So the best size is that of most blocks.
    #[must_use]
    pub fn slot(self, bytes: usize) -> DiskOptions {
        DiskOptions { slot: bytes, ..self }
    }

    /// Sets how long [`Disk::get`] waits for the disk: as long as fetching the block would take. 50 ms unless set. Blocks that the kernel
    /// has in memory are not waited for. (On file systems that cannot tell, such as NFS, FUSE and overlayfs, each read is treated as
    /// one that may have to wait, and passes through another thread.)
    #[must_use]
    pub fn patience(self, time: Duration) -> DiskOptions {
        DiskOptions { patience: time, ..self }
    }

    /// Opens the tier in the directory `dir`, which is made if it does not exist.
    ///
    /// Waits at most a second for the disk. A tier that is not open then misses until it is: see [`DiskStats::state`].
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the limit is less than 64 KiB and 8 slots, or the slot's size is not allowed.
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the directory is another user's, or other users may write to it. The
    /// kernel's errors if `dir` cannot be made or is not a directory (also if it is a symbolic link to one), or no thread can be started.
    pub fn open(&self, dir: impl AsRef<Path>) -> io::Result<Disk> {
        let sizes = self.sizes()?;
        let place = Place::open(dir.as_ref())?;
        self.start(sizes, Box::new(move || place.files()))
    }

    fn sizes(&self) -> io::Result<Sizes> {
        let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if !self.slot.is_multiple_of(4096) || !(4096..=1 << 30).contains(&self.slot) {
            return invalid("the slots of a disk tier are multiples of 4 KiB, up to 1 GiB");
        }
        // A write past this limit would be a signal.
        let largest = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        let limit = self.limit.saturating_sub(OVERHEAD).min(largest);
        let slots = limit / (self.slot + RECORD) as u64;
        if slots < 8 {
            return invalid("the limit of a disk tier is 64 KiB and at least 8 slots");
        }
        Ok(Sizes { slots: u32::try_from(slots).unwrap_or(u32::MAX), slot: self.slot as u32 })
    }

    fn start(&self, sizes: Sizes, open: Open) -> io::Result<Disk> {
        let shared = Arc::new(Shared {
            sizes,
            tier: OnceLock::new(),
            counters: Counters::default(),
            queued: AtomicUsize::new(0),
            state: Mutex::new(DiskState::Opening),
            changed: Condvar::new(),
        });
        let (sender, commands) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), open);
        let done = Arc::clone(&shared);
        let work = move || {
            writer.run(&commands);
            done.set_state(DiskState::Closed);
        };
        // As the threads of a store's runtime: a handler of the program could wait for this very thread.
        let thread =
            faultin_cache::pager::without_signals(|| thread::Builder::new().name("faultin-disk".into()).spawn(work))?;
        shared.wait_while(|state| state == DiskState::Opening);
        Ok(Disk {
            shared,
            commands: Some(sender),
            thread: Some(thread),
            limit: self.limit,
            patience: self.patience,
            process: faultin::process(),
        })
    }
}

/// A disk tier: see the [module](self).
///
/// After `fork`, the child has a tier that misses, and may drop it.
///
/// ```
/// use std::time::Duration;
///
/// use faultin_store::disk::{Disk, Key};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().join("tier");
/// let disk = Disk::open(&directory, 1 << 20)?;
/// let key = Key { object: "s3://models/weights".into(), version: "\"e1\"".into(), range: 0..5 };
/// disk.put(key.clone(), "bytes".into());
/// assert!(disk.flush(Duration::from_secs(10)));
/// let mut block = [0; 5];
/// assert_eq!(disk.get(&key, &mut block), Some(5));
/// assert_eq!(&block, b"bytes");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Disk {
    shared: Arc<Shared>,
    /// Present until the tier is dropped.
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    limit: u64,
    patience: Duration,
    process: u32,
}

/// What the threads of a tier share.
struct Shared {
    sizes: Sizes,
    tier: OnceLock<Tier>,
    counters: Counters,
    /// Number of bytes that wait to be written.
    queued: AtomicUsize,
    state: Mutex<DiskState>,
    changed: Condvar,
}

/// A tier that is open.
struct Tier {
    data: Arc<dyn Device>,
    index: RwLock<Index>,
    readers: Readers,
}

impl Disk {
    /// Opens the tier in the directory `dir`, with at most `limit` bytes on the disk.
    ///
    /// # Errors
    /// Those of [`DiskOptions::open`].
    pub fn open(dir: impl AsRef<Path>, limit: u64) -> io::Result<Disk> {
        DiskOptions::new(limit).open(dir)
    }

    /// Reads a block into the first bytes of `buf` and returns their number, that of the key's range. Returns `None` if the tier does not
    /// have the block, or cannot read it in time; then the contents of `buf` are not specified.
    ///
    /// The bytes are those that were stored with this key: they have been compared with their checksum.
    ///
    /// Waits for the disk at most for the tier's [patience](DiskOptions::patience), and for no writes.
    pub fn get(&self, key: &Key, buf: &mut [u8]) -> Option<usize> {
        self.get_within(key, buf, self.patience)
    }

    /// Reads a block as [`get`](Self::get) does, with another patience. [`Duration::ZERO`] reads only what need not be waited for.
    pub fn get_within(&self, key: &Key, buf: &mut [u8], patience: Duration) -> Option<usize> {
        self.get_spending(key, buf, &mut { patience })
    }

    /// Reads a block as [`get_within`](Self::get_within) does, and takes the time for which it has waited off the patience.
    pub(crate) fn get_spending(&self, key: &Key, buf: &mut [u8], patience: &mut Duration) -> Option<usize> {
        let mut deadline = None;
        let found = self.read(key, buf, *patience, &mut deadline);
        if let Some(deadline) = deadline {
            *patience = deadline.saturating_duration_since(Instant::now()).min(*patience);
        }
        let counters = &self.shared.counters;
        if found.is_some() { &counters.hits } else { &counters.misses }.add(1);
        found
    }

    /// Sets the deadline when it begins to wait.
    fn read(&self, key: &Key, buf: &mut [u8], patience: Duration, deadline: &mut Option<Instant>) -> Option<usize> {
        let len = usize::try_from(key.range.end.checked_sub(key.range.start)?).ok()?;
        let mut rest = buf.get_mut(..len)?;
        if !self.is_ours() {
            return None;
        }
        let tier = self.shared.tier.get()?;
        for piece in pieces(&key.range, self.shared.sizes.slot) {
            let (part, after) = rest.split_at_mut((piece.end - piece.start) as usize);
            rest = after;
            let digest = Digest::of(key, &piece);
            let (slot, record) = tier.index.read().find(digest)?;
            if record.len.get() as usize != part.len() {
                return None;
            }
            let outcome = tier.read(part, self.shared.sizes.pos(slot), || {
                if deadline.is_none() && patience != Duration::ZERO {
                    *deadline = Some(after_now(patience));
                }
                *deadline
            });
            if !self.accept(tier, slot, &record, part, outcome) {
                return None;
            }
        }
        Some(len)
    }

    /// Returns whether these bytes are the ones of the record; if they are not, or could not be read, the tier forgets them.
    fn accept(&self, tier: &Tier, slot: u32, record: &Record, bytes: &[u8], outcome: Result<(), Unread>) -> bool {
        let counters = &self.shared.counters;
        match outcome {
            Ok(()) if format::sum(record.digest, bytes) == record.sum => return true,
            Err(Unread::Late | Unread::Busy) => counters.late.add(1),
            Ok(()) => {
                // Or the block was evicted, and its slot overwritten, while it was read.
                if tier.index.write().forget(slot, record.sequence) {
                    counters.damaged.add(1);
                }
            }
            Err(Unread::Failed) => {
                tier.index.write().forget(slot, record.sequence);
                counters.errors.add(1);
            }
        }
        false
    }

    /// Stores a block. Does not wait: another thread writes it. It is not stored if the queue of that thread (16 MiB) is full, the disk
    /// has no space, or the number of `bytes` is not that of the key's range. The thread keeps `bytes` until they are written.
    pub fn put(&self, key: Key, bytes: Bytes) {
        let cost = Shared::cost(&bytes);
        let is_whole = key.range.end.checked_sub(key.range.start) == Some(bytes.len() as u64);
        let queued = self.shared.queued.fetch_add(cost, Relaxed);
        let is_sent = is_whole
            && self.is_ours()
            && queued.saturating_add(cost) <= QUEUE
            && self.commands.as_ref().is_some_and(|commands| commands.send(Command::Put(key, bytes)).is_ok());
        if !is_sent {
            self.shared.queued.fetch_sub(cost, Relaxed);
            self.shared.counters.dropped.add(1);
        }
    }

    /// Waits until the blocks that were put before this call are stored, or not going to be, but at most for `patience`. Returns false if
    /// there are some left.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, is_done) = mpsc::channel();
        match self.commands.as_ref().filter(|_| self.is_ours()) {
            Some(commands) if commands.send(Command::Flush(done)).is_ok() => {
                matches!(is_done.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
            }
            _ => true,
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Returns whether this is the process that has opened the tier. A child of `fork` has none of its threads, and locks that they held
    /// then stay locked there.
    fn is_ours(&self) -> bool {
        self.process == faultin::process()
    }

    /// Returns the counters.
    pub fn stats(&self) -> DiskStats {
        let counters = &self.shared.counters;
        let is_ours = self.is_ours();
        let tier = self.shared.tier.get().filter(|_| is_ours);
        let blocks = tier.map_or(0, |tier| tier.index.read().len()) as u64;
        DiskStats {
            state: if is_ours { *self.shared.state.lock() } else { DiskState::Closed },
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            late: counters.late.get(),
            damaged: counters.damaged.get(),
            stored: counters.stored.get(),
            dropped: counters.dropped.get(),
            evicted: counters.evicted.get(),
            errors: counters.errors.get(),
            blocks,
            bytes: blocks * u64::from(self.shared.sizes.slot),
            limit: self.limit,
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Disk {
    /// Waits until the blocks in the queue are stored, but at most for a second: the thread continues without the tier.
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget((self.commands.take(), self.thread.take()));
            return;
        }
        self.commands = None;
        self.shared.wait_while(|state| state != DiskState::Closed);
        if *self.shared.state.lock() == DiskState::Closed
            && let Some(thread) = self.thread.take()
        {
            // It has nothing left to do, and its files are closed when it has ended.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Returns the part of the queue's limit that a block takes.
    fn cost(bytes: &Bytes) -> usize {
        const OTHERS: usize = 256;
        bytes.len().saturating_add(OTHERS)
    }

    fn set_state(&self, state: DiskState) {
        *self.state.lock() = state;
        self.changed.notify_all();
    }

    /// Waits while the state is such a one, at most for [`WAIT`].
    fn wait_while(&self, waits: impl Fn(DiskState) -> bool) {
        let mut state = self.state.lock();
        let until = after_now(WAIT);
        while waits(*state) && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

impl Tier {
    fn new(data: Arc<dyn Device>, index: Index) -> Tier {
        Tier { readers: Readers::new(Arc::clone(&data)), index: RwLock::new(index), data }
    }

    /// Reads bytes that the kernel has in memory in this thread, and others in a thread of the tier, until the deadline, if there is one.
    fn read(&self, buf: &mut [u8], pos: u64, deadline: impl FnOnce() -> Option<Instant>) -> Result<(), Unread> {
        match self.data.read_now(buf, pos) {
            Ok(count) if count == buf.len() => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Unread::Failed),
            _ => {}
        }
        let deadline = deadline().ok_or(Unread::Busy)?;
        let bytes = self.readers.read(buf.len(), pos, deadline)?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

/// What has happened to a [`Disk`] since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStats {
    /// Whether the tier can be used.
    pub state: DiskState,
    /// Number of blocks that [`Disk::get`] has returned.
    pub hits: u64,
    /// Number of blocks that it has not.
    pub misses: u64,
    /// Number of reads that were not made, or not in time, because the disk is slow.
    pub late: u64,
    /// Number of blocks that failed their check.
    pub damaged: u64,
    /// Number of blocks that were written. One that takes several slots counts once for each.
    pub stored: u64,
    /// Number of blocks that were not written: the queue or the disk was full, or the disk failed.
    pub dropped: u64,
    /// Number of blocks that were evicted.
    pub evicted: u64,
    /// Number of errors of the disk.
    pub errors: u64,
    /// Number of slots in use.
    pub blocks: u64,
    /// Size of the slots in use in bytes.
    pub bytes: u64,
    /// The limit in bytes.
    pub limit: u64,
}

/// Whether a [`Disk`] can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskState {
    /// Its index is being read. Every [`Disk::get`] is a miss.
    Opening,
    /// It is open.
    Ready,
    /// Another process uses the directory. Every get is a miss. A block that is put more than a second later tries again.
    InUse,
    /// The files cannot be opened. Every get is a miss. A block that is put more than a second later tries again.
    Failed(io::ErrorKind),
    /// It was dropped, or this is a child of `fork`, where every get is a miss and nothing is stored.
    Closed,
}

/// Returns the time after `patience`, or in a year, if the clock ends before.
fn after_now(patience: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + patience.min(YEAR)
}

/// Returns the parts of a range that have a slot each: they end at multiples of the slot's size.
fn pieces(range: &Range<u64>, slot: u32) -> impl Iterator<Item = Range<u64>> {
    let (mut start, end, slot) = (range.start, range.end, u64::from(slot));
    std::iter::from_fn(move || {
        let next = (start / slot + 1).saturating_mul(slot).min(end);
        let piece = start..next;
        start = next;
        (piece.start < piece.end).then_some(piece)
    })
}
