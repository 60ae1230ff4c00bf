//! Stores: where the bytes of a file are when no folio has them.

#![deny(unsafe_code)]

mod batch;
mod file;
#[allow(unsafe_code, reason = "two system calls")]
mod kind;
mod length;
mod memory;
mod stored;
mod transfer;
#[allow(unsafe_code, reason = "the kernel has the buffers while it works on them")]
mod uring;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

pub use faultin::map::ReadRequest;
pub use file::FileStore;
pub(crate) use length::{Length, MAX_BYTES};
pub use memory::MemoryStore;
pub(crate) use stored::Stored;

/// One of several writes.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// The position in the file.
    pub pos: u64,
    /// The bytes to write.
    pub bytes: &'a [u8],
}

/// The bytes of one file.
///
/// A cache calls it from any thread, for disjoint ranges at the same time. A call may return a short count (the cache
/// continues where it stopped), fail, or take long: meanwhile the operation that needs it waits, and other operations of
/// the same file may. A count of more bytes than were requested is an error, and its bytes are ignored.
///
/// A method may be called during a read or write, so it must not use the same file through the cache.
///
/// Your own store needs five methods:
///
/// ```
/// use std::io;
/// use std::sync::RwLock;
///
/// use faultin_cache::{Cache, Error, store::Store};
///
/// /// Bytes in memory that can be read, and not changed.
/// struct Archive(RwLock<Vec<u8>>);
///
/// impl Store for Archive {
///     fn len(&self) -> io::Result<u64> {
///         Ok(self.0.read().map_err(|_| io::ErrorKind::Other)?.len() as u64)
///     }
///     fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
///         let bytes = self.0.read().map_err(|_| io::ErrorKind::Other)?;
///         let rest = bytes.get(pos as usize..).unwrap_or_default();
///         let len = rest.len().min(buf.len());
///         buf[..len].copy_from_slice(&rest[..len]);
///         Ok(len)
///     }
///     fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
///         Err(io::ErrorKind::ReadOnlyFilesystem.into())
///     }
///     fn set_len(&self, _: u64) -> io::Result<()> {
///         Err(io::ErrorKind::ReadOnlyFilesystem.into())
///     }
///     fn sync(&self, _: bool) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// let file = Cache::new().open(Archive(RwLock::new(vec![7; 5000])))?;
/// let mut last = [0];
/// assert_eq!(file.read_at(&mut last, 4999)?, 1);
/// file.write_at(b"new", 0)?; // the cache takes it,
/// assert!(matches!(file.sync_all(), Err(Error::Store(_)))); // and the store does not
/// assert!(file.dirty() > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Store: Send + Sync {
    /// Returns the alignment: positions and lengths of reads and writes are multiples of it, and buffers are aligned to it:
    /// a power of two, not more than the cache's block. 1 if it does not matter.
    ///
    /// Of a file whose length is not a multiple, the last unit is read in part (the rest counts as zeros), and written as a
    /// whole with zeros past the end; [`set_len`](Self::set_len) corrects the length. A store of a [fixed](Self::is_fixed)
    /// length has whole units.
    fn alignment(&self) -> usize {
        1
    }

    /// Returns the length of the file in bytes. Called once, when it is opened.
    ///
    /// # Errors
    /// If the length is unknown: then the file cannot be opened.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether the file is empty.
    ///
    /// # Errors
    /// Those of [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns whether the length can never change, like a disk's. If so, an operation that would change it fails with
    /// [`Error::FixedLength`](crate::Error::FixedLength) before it begins, and [`set_len`](Self::set_len) is not called.
    /// Called once, when the file is opened.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Returns a descriptor, if `pread` from it, of whole units of the alignment, is equivalent to
    /// [`read_at`](Self::read_at). Page faults of a mapping can then be resolved in a signal, where no other code may run.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads bytes from `pos` on, and returns their number; 0 only at or after the end of the file. A short count is not
    /// the end: the cache reads again, from the start of the unit that the count ends in. Bytes that were never written
    /// read as zeros. An end before the length that the store reported, or was given, is an error.
    ///
    /// # Errors
    /// If the bytes cannot be read: the read or write that needed them fails. [`Interrupted`](io::ErrorKind::Interrupted)
    /// is tried again, at most 2,000 times in a row.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;

    /// Reads several ranges, in any order or at once, and returns a result for each, as [`read_at`](Self::read_at) does. A
    /// range without a result was not read, and is read again. The ranges may have bytes in common. For stores that are
    /// faster if they know several reads at once; the default reads one after the other.
    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        reads.iter_mut().map(|read| self.read_at(read.bytes, read.pos)).collect()
    }

    /// Reads as [`read_at`](Self::read_at), without waiting for a disk, a server or a lock: only bytes that the store has at
    /// hand. A short count means that the bytes after it have to be waited for, or that the file ends there. Never more than a
    /// copy of these bytes may pass before this returns.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the first byte has to be waited for, as the default returns.
    /// [`Unsupported`](io::ErrorKind::Unsupported) and [`Interrupted`](io::ErrorKind::Interrupted) mean the same. Other errors
    /// end the read that needed the bytes.
    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let _ = (buf, pos);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Writes bytes from `pos` on, and returns their number. Extends the file if need be.
    ///
    /// # Errors
    /// If the bytes cannot be written: they stay dirty and are tried again by the next `fsync`; each `fsync` that has not
    /// reported the error yet does. [`Interrupted`](io::ErrorKind::Interrupted) is tried again at once, at most 2,000 times
    /// in a row.
    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize>;

    /// Writes several disjoint ranges, in any order or at once, and returns a result for each, as
    /// [`write_at`](Self::write_at) does. A range without a result was not written. For stores that are faster if they know
    /// several writes at once.
    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<io::Result<usize>> {
        writes.iter().map(|write| self.write_at(write.bytes, write.pos)).collect()
    }

    /// Truncates the file or extends it, with zeros. Truncated bytes never reappear.
    ///
    /// # Errors
    /// If the length cannot be changed: the file has its old length.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes written bytes durable; only the bytes and the metadata that is needed to find them, if `data_only`. Not called
    /// twice at the same time for one file.
    ///
    /// # Errors
    /// If bytes may be lost: the `fsync` reports it. Everything that was written since the last success may be lost then,
    /// whatever the store returns next: blocks that are still in memory are dirty again, and for the rest see
    /// [`Error::Lost`](crate::Error::Lost).
    fn sync(&self, data_only: bool) -> io::Result<()>;

    /// Makes a range read as zeros, and frees its space.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported): the cache writes zeros instead.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Allocates space for a range, so that writing it cannot fail for lack of space. The length stays, and so do the
    /// bytes. An empty range only checks whether the store can do this.
    ///
    /// # Errors
    /// A full disk. [`Unsupported`](io::ErrorKind::Unsupported) is an error for a caller that needs it.
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Frees the space that [`allocate`](Self::allocate) allocated past `len`, the end of the file. The store may become
    /// `len` bytes long by that, or keep its length.
    ///
    /// # Errors
    /// If the space stays allocated.
    fn trim(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reserves space for `bytes` more bytes of dirty blocks; 0 checks whether the store can do this.
    ///
    /// # Errors
    /// An exhausted quota: the write fails.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Releases a part of the reservation: the blocks are written, or were never made dirty.
    fn unreserve(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn alignment(&self) -> usize {
        (**self).alignment()
    }

    fn len(&self) -> io::Result<u64> {
        (**self).len()
    }

    fn is_fixed(&self) -> bool {
        (**self).is_fixed()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (**self).descriptor()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        (**self).read_at(buf, pos)
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        (**self).read_many(reads)
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        (**self).try_read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        (**self).write_at(buf, pos)
    }

    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<io::Result<usize>> {
        (**self).write_many(writes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (**self).set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        (**self).sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        (**self).punch_hole(range)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        (**self).allocate(range)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        (**self).trim(len)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        (**self).reserve(bytes)
    }

    fn unreserve(&self, bytes: u64) {
        (**self).unreserve(bytes)
    }
}
