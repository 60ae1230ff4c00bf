//! A store that counts the bytes read from it, and buffers in mappings.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use faultin::map::Rights;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, CachedFile};

/// A store in memory that counts the bytes read from it, and can refuse all writes.
pub struct Counted {
    pub memory: MemoryStore,
    read: AtomicU64,
    refuses: AtomicBool,
    unit: usize,
}

impl Counted {
    pub fn new(bytes: Vec<u8>, unit: usize) -> Arc<Counted> {
        let memory = MemoryStore::new(bytes);
        Arc::new(Counted { memory, read: AtomicU64::new(0), refuses: AtomicBool::new(false), unit })
    }

    /// Sets whether writes fail with EIO.
    pub fn refuse_writes(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Store for Counted {
    fn alignment(&self) -> usize {
        self.unit
    }
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.memory.read_at(buf, pos)
    }
    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.memory.write_at(buf, pos)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }
    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }
}

/// A file with a store that counts.
pub fn open(cache: &Cache, bytes: &[u8], unit: usize) -> (CachedFile, Arc<Counted>) {
    let store = Counted::new(bytes.to_vec(), unit);
    (cache.open(Arc::clone(&store)).unwrap(), store)
}

/// A mapping of the whole file, for reading and writing, if the mode is available.
pub fn map(file: &CachedFile, len: usize, mode: Mode) -> Option<Mapping> {
    match file.map(0..len as u64, Rights::ReadWrite, mode) {
        Ok(mapping) => Some(mapping),
        Err(error @ AttachError::Mode { .. }) => {
            faultin_test::skipped("uffd", format!("{mode:?}: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Bytes that depend on where they are and on `seed`.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + seed * 31) as u8 | 1).collect()
}
