//! The store of rows 17 to 20: in memory, with a unit, and with a part that cannot be read.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use faultin_cache::store::{MemoryStore, Store};

/// A store.
pub(super) struct Disk {
    bytes: MemoryStore,
    unit: usize,
    bad: Mutex<Range<u64>>,
}

impl Disk {
    /// Makes a store with these bytes.
    pub(super) fn new(bytes: Vec<u8>, unit: usize) -> Disk {
        Disk { bytes: MemoryStore::new(bytes), unit, bad: Mutex::new(0..0) }
    }

    /// Makes reads of these bytes fail, and of no others.
    pub(super) fn spoil(&self, bad: Range<u64>) {
        *self.bad.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = bad;
    }

    /// Returns the current contents.
    pub(super) fn contents(&self) -> Vec<u8> {
        self.bytes.contents()
    }
}

impl Store for Disk {
    fn alignment(&self) -> usize {
        self.unit
    }

    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let bad = self.bad.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        if pos < bad.end && bad.start < pos + buf.len() as u64 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.bytes.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.bytes.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.bytes.sync(data_only)
    }
}
