//! [`CachedFile`]: a file of a cache.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, WriteMemory};
use faultin::{ReadView, Residency, WriteView};

use crate::ahead::Advice;
use crate::copy::{CopyFrom, CopyTo, MayWait};
use crate::error::{Error, Partial};
use crate::inode::Inode;
use crate::mutation::{Mutation, Sound};
use crate::stats::{Counters, HandleStats, StoreStats};
use crate::store::ReadRequest;
use crate::write::{At, Observer};
use crate::{direct, many, read, try_read, write};

/// A handle of a cached file: the counterpart of the kernel's open file description.
///
/// Buffers are lists of segments that may fault ([`IovSource`], [`IovDest`]); a plain slice works, too. A count is exact:
/// that many bytes were moved, the position of the list is after them, and no byte past them was touched. An error that
/// ended an operation early comes with the count ([`Partial`]).
///
/// Clones are handles of the same file. Each handle reports each write error once.
///
/// ```
/// use faultin_cache::{Cache, store::MemoryStore};
///
/// let file = Cache::new().open(MemoryStore::new([]))?;
/// file.write_at(b"there", 6)?; // what is before it reads as zeros
/// file.write_at(b"hello ", 0)?;
/// assert_eq!((file.len()?, file.dirty() > 0), (11, true));
/// file.sync_all()?;
/// assert_eq!(file.dirty(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Concurrency
///
/// Any thread may call any method. Writes, truncations and holes run one after the other. A read sees each folio as it is
/// before or after a write, not in between; of a write that had to wait for its buffer it may see the first part.
///
/// The buffer of a read or a write may be any memory, also a [mapping](crate::pager) of the same file.
#[derive(Debug)]
pub struct CachedFile {
    inode: Arc<Inode>,
    /// Number of writeback errors that this handle has reported.
    seen: AtomicU64,
    counters: Arc<Counters>,
    /// Its place among the counters of the cache.
    counted: Option<usize>,
}

impl Clone for CachedFile {
    fn clone(&self) -> CachedFile {
        let file = CachedFile::new(Arc::clone(&self.inode));
        file.seen.store(self.seen.load(Ordering::Relaxed), Ordering::Relaxed);
        file
    }
}

impl Drop for CachedFile {
    /// Writes back dirty blocks with the last handle. Blocks whose write fails stay in the [`Cache`](crate::Cache), until
    /// its [`sync`](crate::Cache::sync).
    fn drop(&mut self) {
        // In a child of `fork` the file is the parent's.
        if !self.inode.cache().is_ours() {
            return;
        }
        self.inode.cache().register.leave(self.counted, &self.counters);
        // During another panic, a panic of the store would end the process: dirty blocks stay in the cache then.
        if self.inode.remove_handle() && !std::thread::panicking() {
            self.inode.cache().close(&self.inode);
        }
    }
}

impl CachedFile {
    pub(crate) fn new(inode: Arc<Inode>) -> CachedFile {
        inode.add_handle();
        let counters = Arc::<Counters>::default();
        let counted = inode.cache().register.enter(&counters);
        CachedFile { inode, seen: AtomicU64::new(0), counters, counted }
    }

    pub(crate) fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }

    /// Returns a number that no other file of the cache has; [`LockId`](crate::lock::LockId) names the file by it.
    pub fn number(&self) -> u64 {
        self.inode.number()
    }

    /// Returns what was done through this handle so far. What was done through mappings is not known, except
    /// [faults](crate::pager::Mapping::fault_counts).
    pub fn stats(&self) -> HandleStats {
        self.counters.stats()
    }

    /// Returns the calls of the file's store since it was opened, by all handles and mappings and by writeback.
    pub fn store_stats(&self) -> StoreStats {
        self.inode.calls().stats()
    }

    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub fn len(&self) -> Result<u64, Error> {
        Ok(self.inode.table().shared()?.size())
    }

    /// Returns whether the file is empty.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Returns the size in bytes of the blocks that the store does not have yet.
    pub fn dirty(&self) -> u64 {
        self.inode.dirty()
    }

    /// Writes what is left in `from` to `pos`. Where that is past the end of the file, the bytes between read as zeros.
    ///
    /// Returns the number of bytes, which is all that was left in `from`.
    ///
    /// ```
    /// use faultin::ReadView;
    /// use faultin::iov::{IovSource, ReadSegment};
    /// use faultin_cache::{Cache, store::MemoryStore};
    ///
    /// let file = Cache::new().open(MemoryStore::new([]))?;
    /// let segments: [ReadSegment<'_, ReadView<'_>>; 2] = [b"one, "[..].into(), b"two"[..].into()];
    /// assert_eq!(file.write_iter(&mut IovSource::new(&segments), 0)?, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Partial`] if not all could be written: nothing is written past its count. Its error is [`Error::Fault`] if the next byte
    /// of the buffer cannot be accessed, and [`Error::TooLarge`] if no file can be that long; then nothing is written.
    #[inline]
    pub fn write_iter<M: ReadMemory>(&self, from: &mut IovSource<'_, '_, M>, pos: u64) -> Result<usize, Partial> {
        self.write_iter_with::<M, MayWait>(from, pos, &mut ())
    }

    /// Writes as [`write_iter`](Self::write_iter), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`write_iter`](Self::write_iter); [`Error::Stopped`] if the observer ends it.
    #[inline]
    pub fn write_iter_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.write_iter_as::<M, C>(from, pos, Sound, observer)
    }

    #[inline]
    pub(crate) fn write_iter_as<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        let operation = self.counters.write();
        operation.end(write::perform::<M, C>(&self.inode, from, At::Position(pos), mutation, observer))
    }

    /// Writes what is left in `from` at the end of the file, wherever that is when all writes before this one are done. No other
    /// write comes in between.
    ///
    /// # Errors
    /// [`Partial`] if not all could be written, as [`write_iter`](Self::write_iter).
    pub fn append_iter<M: ReadMemory>(&self, from: &mut IovSource<'_, '_, M>) -> Result<usize, Partial> {
        self.append_iter_with::<M, MayWait>(from, &mut ())
    }

    /// Appends as [`append_iter`](Self::append_iter), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`append_iter`](Self::append_iter); [`Error::Stopped`] if the observer ends it.
    pub fn append_iter_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.append_iter_as::<M, C>(from, Sound, observer)
    }

    pub(crate) fn append_iter_as<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        let operation = self.counters.write();
        operation.end(write::perform::<M, C>(&self.inode, from, At::End, mutation, observer))
    }

    /// Reads from `pos` on to what is left of `to`. Returns the number of bytes, which is less than what was left only at the end
    /// of the file.
    ///
    /// # Errors
    /// [`Partial`] if the buffer or the store fails: `to` is untouched past its count.
    #[inline]
    pub fn read_iter<M: WriteMemory>(&self, to: &mut IovDest<'_, '_, M>, pos: u64) -> Result<usize, Partial> {
        self.read_iter_with::<M, MayWait>(to, pos, &mut ())
    }

    /// Reads as [`read_iter`](Self::read_iter), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`read_iter`](Self::read_iter); [`Error::Stopped`] if the observer ends it.
    #[inline]
    pub fn read_iter_with<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.read_iter_as::<M, C>(to, pos, Sound, observer)
    }

    #[inline]
    pub(crate) fn read_iter_as<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        read::perform::<M, C>(&self.inode, to, pos, self.counters.read(), mutation, observer)
    }

    /// Writes as [`write_iter`](Self::write_iter), from a slice.
    ///
    /// # Errors
    /// [`Partial`], as [`write_iter`](Self::write_iter); a slice never faults.
    #[inline]
    pub fn write_at(&self, buf: &[u8], pos: u64) -> Result<usize, Partial> {
        self.write_iter(&mut IovSource::<ReadView<'_>>::one(buf), pos)
    }

    /// Appends as [`append_iter`](Self::append_iter), from a slice.
    ///
    /// # Errors
    /// [`Partial`], as [`append_iter`](Self::append_iter); a slice never faults.
    pub fn append(&self, buf: &[u8]) -> Result<usize, Partial> {
        self.append_iter(&mut IovSource::<ReadView<'_>>::one(buf))
    }

    /// Reads as [`read_iter`](Self::read_iter), to a slice.
    ///
    /// # Errors
    /// [`Partial`], as [`read_iter`](Self::read_iter); a slice never faults.
    #[inline]
    pub fn read_at(&self, buf: &mut [u8], pos: u64) -> Result<usize, Partial> {
        self.read_iter(&mut IovDest::<WriteView<'_>>::one(buf), pos)
    }

    /// Reads what is in memory, from `pos` on, to what is left of `to`: waits for no store, no disk and no lock.
    ///
    /// Bytes that are not cached are taken from what the store has at hand
    /// ([`Store::try_read_at`](crate::store::Store::try_read_at)), and cached. For a [`FileStore`](crate::store::FileStore)
    /// that is the kernel's page cache, where the file system can tell what it has without waiting; as of Linux 6.18 tmpfs,
    /// FUSE and network file systems cannot, and a store of [direct I/O](crate::store::FileStore::direct) never has anything.
    ///
    /// Returns the number of bytes, which is less than what was left only at the end of the file.
    ///
    /// # Errors
    /// [`Partial`], with the number of bytes that were there: [`Error::WouldBlock`] if the next byte would have to be waited
    /// for, for the store, for a lock, or for memory within the limit. (A lock may be taken for a moment only: so this may
    /// also happen for bytes that are cached, while another thread changes the file.) [`Error::Fault`] if the next byte of
    /// the buffer is not accessible: it is not faulted in, which may wait. The kernel itself waits for pages of a buffer that
    /// are on a disk, unless the copy is of the [way](crate::copy) [`NoWait`](crate::copy::NoWait). Otherwise as
    /// [`read_iter`](Self::read_iter).
    pub fn try_read_iter<M: WriteMemory>(&self, to: &mut IovDest<'_, '_, M>, pos: u64) -> Result<usize, Partial> {
        self.try_read_iter_with::<M, MayWait>(to, pos, &mut ())
    }

    /// Reads as [`try_read_iter`](Self::try_read_iter), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`try_read_iter`](Self::try_read_iter).
    pub fn try_read_iter_with<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        try_read::perform::<M, C>(&self.inode, to, pos, &self.counters, observer)
    }

    /// Reads as [`try_read_iter`](Self::try_read_iter), to a slice: to poll a file, and leave what is not in memory to a
    /// thread that may wait.
    ///
    /// ```
    /// use faultin_cache::{Cache, Error, store::MemoryStore};
    ///
    /// let file = Cache::new().open(MemoryStore::new(*b"to be"))?;
    /// let mut bytes = [0; 5];
    /// match file.try_read_at(&mut bytes, 0) {
    ///     Ok(read) => assert_eq!(&bytes[..read], b"to be"),
    ///     Err(partial) if matches!(partial.error, Error::WouldBlock) => { /* `read_at`, in another thread */ }
    ///     Err(partial) => return Err(partial.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Partial`], as [`try_read_iter`](Self::try_read_iter).
    pub fn try_read_at(&self, buf: &mut [u8], pos: u64) -> Result<usize, Partial> {
        self.try_read_iter(&mut IovDest::<WriteView<'_>>::one(buf), pos)
    }

    /// Reads several ranges, and returns a result for each, as [`read_at`](Self::read_at) does. The store gets what is not
    /// cached at once ([`Store::read_many`](crate::store::Store::read_many)): a [`FileStore`](crate::store::FileStore) joins
    /// neighbours and has the kernel read the rest at the same time (`io_uring`, where the kernel allows it).
    ///
    /// Long parts that are not cached are read straight into their buffers where the store has no alignment, the cache is
    /// full, and the part was not read recently: so ranges of a file that is larger than the cache are copied once, and do
    /// not displace each other. A part that is read again soon enters the cache.
    ///
    /// ```
    /// use faultin_cache::{Cache, store::{MemoryStore, ReadRequest}};
    ///
    /// let file = Cache::new().open(MemoryStore::new(*b"to be, or not"))?;
    /// let (mut first, mut last) = ([0; 2], [0; 10]);
    /// let results = file.read_many(&mut [ReadRequest::new(3, &mut first), ReadRequest::new(10, &mut last)]);
    /// let counts: Vec<usize> = results.into_iter().collect::<Result<_, _>>()?;
    /// assert_eq!((counts, &first, &last[..3]), (vec![2, 3], b"be", &b"not"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each result is the one that `read_at` of the same range would have: with the exact count, and the reason. But the
    /// bytes of a buffer past its count may have been overwritten.
    pub fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<Result<usize, Partial>> {
        many::perform(&self.inode, &self.counters, reads)
    }

    /// Returns which bytes of a range are in memory, as far as the file has it: a snapshot. It takes at most some
    /// nanoseconds for each block, and waits for nothing.
    ///
    /// ```
    /// use faultin_cache::{Advice, CacheOptions, store::MemoryStore};
    ///
    /// let file = CacheOptions::new().block(4096).build().open(MemoryStore::new(vec![7; 10_000]))?;
    /// file.advise(Advice::Random);
    /// file.read_at(&mut [0], 5_000)?;
    /// assert_eq!(file.resident(0..u64::MAX)?.runs(), [4_096..8_192]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if another thread is changing the file.
    pub fn resident(&self, range: Range<u64>) -> Result<Residency, Error> {
        self.inode.resident(range)
    }

    /// Starts to read ranges into the cache, and returns at once. Threads of the cache read what is missing; the store gets
    /// it together.
    ///
    /// What waits to be read is bounded by an eighth of the cache's limit. Only clean blocks that no operation is about to
    /// use make room for it, so what was prefetched stays until it is used, or until half of the limit was brought in since.
    /// A failure has no effect: the read that needs the bytes reports it.
    ///
    /// Returns the number of bytes that will be read: less than what is missing if the bound is reached; prefetch the rest
    /// later. 0 in a child of `fork`.
    pub fn prefetch(&self, ranges: &[Range<u64>]) -> u64 {
        self.inode.cache().prefetcher.add(&self.inode, ranges)
    }

    /// Writes past the cache, which stays coherent. Bytes that do not fill units of the store's
    /// [alignment](crate::store::Store::alignment), at either end or because the buffer faults within one, are written
    /// through the cache instead.
    ///
    /// # Errors
    /// Those of [`write_iter`](Self::write_iter); bytes that were written before are counted.
    pub fn write_direct<M: ReadMemory>(&self, from: &mut IovSource<'_, '_, M>, pos: u64) -> Result<usize, Partial> {
        self.write_direct_with::<M, MayWait>(from, pos, &mut ())
    }

    /// Writes as [`write_direct`](Self::write_direct), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`write_direct`](Self::write_direct); [`Error::Stopped`] if the observer ends it.
    pub fn write_direct_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.write_direct_as::<M, C>(from, pos, Sound, observer)
    }

    pub(crate) fn write_direct_as<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        let operation = self.counters.write();
        let direct = direct::write::<M, C>(&self.inode, from, pos, mutation, observer);
        operation.end(direct.and_then(|done| {
            if from.is_empty() {
                return Ok(done);
            }
            let at = At::Position(pos + done as u64);
            let rest = write::perform::<M, C>(&self.inode, from, at, mutation, observer);
            rest.map(|rest| done + rest).map_err(|partial| Partial { done: done + partial.done, ..partial })
        }))
    }

    /// Appends what is left in `from` at the end of the file, past the cache, which stays coherent. As with
    /// [`append_iter`](Self::append_iter), no other write comes in between; bytes that do not fill units of the store's
    /// [alignment](crate::store::Store::alignment), at either end or because the buffer faults within one, are written
    /// through the cache.
    ///
    /// # Errors
    /// Those of [`write_iter`](Self::write_iter); bytes that were written before are counted.
    pub fn append_direct<M: ReadMemory>(&self, from: &mut IovSource<'_, '_, M>) -> Result<usize, Partial> {
        self.append_direct_with::<M, MayWait>(from, &mut ())
    }

    /// Appends as [`append_direct`](Self::append_direct), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`append_direct`](Self::append_direct); [`Error::Stopped`] if the observer ends it.
    pub fn append_direct_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        let operation = self.counters.write();
        operation.end(direct::append::<M, C>(&self.inode, from, Sound, observer))
    }

    /// Reads past the cache, but sees its dirty blocks.
    ///
    /// # Errors
    /// Those of [`read_iter`](Self::read_iter).
    pub fn read_direct<M: WriteMemory>(&self, to: &mut IovDest<'_, '_, M>, pos: u64) -> Result<usize, Partial> {
        self.read_direct_with::<M, MayWait>(to, pos, &mut ())
    }

    /// Reads as [`read_direct`](Self::read_direct), in this [way](crate::copy), and reports its steps to `observer`.
    ///
    /// # Errors
    /// [`Partial`], as [`read_direct`](Self::read_direct); [`Error::Stopped`] if the observer ends it.
    pub fn read_direct_with<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.read_direct_as::<M, C>(to, pos, Sound, observer)
    }

    pub(crate) fn read_direct_as<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        mutation: impl Mutation,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        let operation = self.counters.read();
        operation.end(direct::read::<M, C>(&self.inode, to, pos, mutation, observer))
    }

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot do it: the file has its old length.
    pub fn set_len(&self, len: u64) -> Result<(), Error> {
        self.counters.check(self.inode.set_len(len))
    }

    /// Makes a range read as zeros, and frees its space where the store can. The length stays.
    ///
    /// ```
    /// use faultin_cache::{Cache, store::MemoryStore};
    ///
    /// let file = Cache::new().open(MemoryStore::new(vec![7; 10_000]))?;
    /// file.punch_hole(0..9_999)?;
    /// file.set_len(20_000)?;
    /// let mut bytes = [1; 3];
    /// assert_eq!(file.read_at(&mut bytes, 9_998)?, 3);
    /// assert_eq!(bytes, [0, 7, 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails: a part of the range may be zeros.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<(), Error> {
        self.counters.check(self.inode.punch_hole(range))
    }

    /// Writes back everything that is dirty, and has the store make it durable.
    ///
    /// # Errors
    /// The first failure that this handle has not reported, of this writeback or an earlier one. Bytes that were not
    /// written stay dirty, and the next sync tries them again. If the store's sync has failed, all bytes that were written
    /// since the last successful sync count as not written. [`Error::Lost`], at each sync, if some of those are no longer
    /// in memory.
    pub fn sync_all(&self) -> Result<(), Error> {
        self.sync(false)
    }

    /// Syncs as [`sync_all`](Self::sync_all), without metadata that is not needed to find the bytes.
    ///
    /// # Errors
    /// The first failure that this handle has not reported, as [`sync_all`](Self::sync_all).
    pub fn sync_data(&self) -> Result<(), Error> {
        self.sync(true)
    }

    fn sync(&self, data_only: bool) -> Result<(), Error> {
        self.counters.check(self.inode.sync(data_only).and_then(|()| self.inode.report(&self.seen)))
    }

    /// Writes back the dirty blocks of a range, and does not wait for them to be durable.
    ///
    /// # Errors
    /// The first failure; the next `sync_all` reports it, too.
    pub fn write_back(&self, range: Range<u64>) -> Result<(), Error> {
        self.counters.check(self.inode.write_back(range))
    }

    /// Sets how this handle is going to read.
    pub fn advise(&self, advice: Advice) {
        self.counters.advise(advice);
    }

    /// Reads a range into the cache (`POSIX_FADV_WILLNEED`).
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read, [`Error::Full`] if there is no memory within the cache's limit.
    pub fn will_need(&self, range: Range<u64>) -> Result<(), Error> {
        self.counters.check(self.inode.will_need(range))
    }

    /// Evicts the clean folios of a range (`POSIX_FADV_DONTNEED`). Dirty ones stay.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub fn dont_need(&self, range: Range<u64>) -> Result<(), Error> {
        self.inode.dont_need(range)
    }
}
