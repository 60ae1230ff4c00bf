//! [`Zeros`]: a store of the cache that is as long as a test needs, and counts what is read.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use faultin_cache::store::Store;

/// A store of zeros, for reading. It counts its reads.
#[derive(Debug)]
pub struct Zeros {
    len: u64,
    reads: AtomicU64,
}

impl Zeros {
    /// Makes a store of `len` bytes.
    #[must_use]
    pub fn new(len: u64) -> Zeros {
        Zeros { len, reads: AtomicU64::new(0) }
    }

    /// Returns the number of reads.
    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }
}

impl Store for Zeros {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, Relaxed);
        let len = buf.len().min(usize::try_from(self.len.saturating_sub(pos)).unwrap_or(usize::MAX));
        buf[..len].fill(0);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}
