//! Where the bytes of a file live when no folio has them.

#![deny(unsafe_code)]

mod file;
#[allow(unsafe_code, reason = "two system calls")]
mod kind;
mod length;
mod memory;
mod transfer;
#[allow(unsafe_code, reason = "the kernel has the buffers while it writes")]
mod uring;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

pub use file::FileStore;
pub(crate) use length::Length;
pub use memory::MemoryStore;
pub(crate) use transfer::{read_full, write_full, write_full_many};

/// One of several writes.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where in the file.
    pub pos: u64,
    /// What.
    pub bytes: &'a [u8],
}

/// One file's bytes, somewhere.
///
/// A cache calls it from any thread, for disjoint ranges at the same time. It may answer short (the cache goes on where it
/// stopped), fail, and take its time: while it does, the operation that needs it waits, and others of the same file may.
/// An answer of more bytes than were asked for is an error, and nothing of it is believed.
///
/// An implementation may be called in the midst of a read or write, so it must not use the same file through the cache.
///
/// A store of one's own has five methods:
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
    /// Positions and lengths of reads and writes are multiples of this, and buffers are aligned to it: a power of two, not
    /// more than the cache's block. 1 if it does not matter.
    ///
    /// Of a file whose length is no multiple, the last unit is read in part (the rest is taken for zeros), and written as a
    /// whole with zeros behind the end; [`set_len`](Self::set_len) puts that right. A store of a [fixed](Self::is_fixed) length
    /// has whole units.
    fn alignment(&self) -> usize {
        1
    }

    /// Bytes in the file. Asked once, when it is opened.
    ///
    /// # Errors
    /// Then the file cannot be opened.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has none.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns whether the length can never change, as a disk's. Then nothing that would change it begins: it fails with
    /// [`Error::FixedLength`](crate::Error::FixedLength), and [`set_len`](Self::set_len) is not called. Asked once, when the file
    /// is opened.
    fn is_fixed(&self) -> bool {
        false
    }

    /// A descriptor, if the store is nothing but its bytes: `pread` from it, of whole units of the alignment, gives what
    /// [`read_at`](Self::read_at) gives. So page faults of a mapping can be served where no other code may run, in a signal.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads bytes from `pos` on, and returns how many; none only at the end of the file or behind it. A short count is not the
    /// end: the cache asks again, from the start of the unit that the count ends in. What was never written reads as zeros. An
    /// end before the length that the store gave, or was made, is an error.
    ///
    /// # Errors
    /// The read or write that needed them gets it. [`Interrupted`](io::ErrorKind::Interrupted) is tried again, 2,000 times in a row
    /// at most.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;

    /// Writes bytes from `pos` on, and returns how many. Makes the file longer if need be.
    ///
    /// # Errors
    /// What was to be written stays dirty and is tried again by the next `fsync`; each `fsync` that has not reported the error
    /// yet does. [`Interrupted`](io::ErrorKind::Interrupted) is tried again at once, 2,000 times in a row at most.
    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize>;

    /// Several writes of disjoint ranges, in any order or at once: an answer for each, as [`write_at`](Self::write_at)'s. What
    /// has no answer was not written. For stores that are faster if they know more than one.
    fn write_many(&self, writes: &[Write<'_>]) -> Vec<io::Result<usize>> {
        writes.iter().map(|write| self.write_at(write.bytes, write.pos)).collect()
    }

    /// Cuts the file or makes it longer, with zeros. Nothing of what is cut comes back.
    ///
    /// # Errors
    /// Then it is as long as before.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written durable; only the bytes and what is needed to find them, if `data_only`. Not called twice at the same
    /// time for one file.
    ///
    /// # Errors
    /// The `fsync` reports it. Everything that was written since the last success may be lost then, whatever the store says next:
    /// blocks that are still in memory are dirty again, and for the rest see [`Error::Lost`](crate::Error::Lost).
    fn sync(&self, data_only: bool) -> io::Result<()>;

    /// Makes a range read as zeros, and gives its space back.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported): the cache writes zeros instead.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gets space for a range, so that writing it cannot fail for want of it. The length stays, and so do the bytes. An empty
    /// range only asks whether it can.
    ///
    /// # Errors
    /// A full disk. [`Unsupported`](io::ErrorKind::Unsupported) is an error for who asks for it.
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives back what [`allocate`](Self::allocate) got behind `len`, the end of the file. The store may become `len` bytes long
    /// by that, or stay as long as it is.
    ///
    /// # Errors
    /// The space stays allocated.
    fn trim(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Promises space for so many more bytes of dirty blocks; 0 to find out whether it can.
    ///
    /// # Errors
    /// A quota that is used up: the write that asked is refused.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes so much of the promise back: the blocks are written, or were never made dirty.
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

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        (**self).write_at(buf, pos)
    }

    fn write_many(&self, writes: &[Write<'_>]) -> Vec<io::Result<usize>> {
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
