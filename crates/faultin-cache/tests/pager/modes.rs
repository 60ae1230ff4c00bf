//! Every mode, and both kinds of stores.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use faultin::map::Rights;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::{FileStore, MemoryStore};
use faultin_cache::{Cache, CacheOptions, CachedFile};

use crate::common::watchdog;

/// The place of a file's bytes.
pub enum Home {
    Memory(Arc<MemoryStore>),
    /// A file, so that a signal handler can resolve faults.
    File(File),
}

impl Home {
    pub fn both(bytes: &[u8]) -> [Home; 2] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        [Home::Memory(Arc::new(MemoryStore::new(bytes))), Home::File(file)]
    }

    pub fn open(&self, cache: &Cache) -> CachedFile {
        match self {
            Home::Memory(store) => cache.open(Arc::clone(store)).unwrap(),
            Home::File(file) => cache.open(FileStore::new(file.try_clone().unwrap()).unwrap()).unwrap(),
        }
    }

    /// The stored bytes.
    pub fn contents(&self) -> Vec<u8> {
        match self {
            Home::Memory(store) => store.contents(),
            Home::File(file) => {
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
        }
    }
}

/// Runs `check` on a file of these bytes, in a small cache of its own, with both kinds of stores and all modes in turn.
pub fn each(bytes: &[u8], check: impl Fn(&Cache, &CachedFile, &Home, Mode)) {
    each_within(64, bytes, check);
}

/// Like [`each`], in a cache of this many pages.
pub fn each_within(pages: usize, bytes: &[u8], check: impl Fn(&Cache, &CachedFile, &Home, Mode)) {
    for mode in Mode::ALL {
        for home in Home::both(bytes) {
            watchdog::start();
            let cache = CacheOptions::new().limit(pages * faultin::page_size()).build();
            let file = home.open(&cache);
            if map(&file, mode, bytes.len() as u64).is_some() {
                check(&cache, &file, &home, mode);
            }
        }
    }
}

/// Maps the first `len` bytes of a file for reading and writing, if the mode is available.
pub fn map(file: &CachedFile, mode: Mode, len: u64) -> Option<Mapping> {
    match file.map(0..len.max(1), Rights::ReadWrite, mode) {
        Ok(mapping) => Some(mapping),
        Err(error @ AttachError::Mode { .. }) => {
            faultin_test::skipped("user-mode", error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Loads as ordinary code does.
pub fn load(mapping: &Mapping, at: usize) -> u8 {
    assert!(at < mapping.len());
    // SAFETY: within the mapping, whose faults are resolved.
    unsafe { mapping.as_ptr().add(at).read_volatile() }
}

/// Stores as ordinary code does.
pub fn store(mapping: &Mapping, at: usize, byte: u8) {
    assert!(at < mapping.len());
    // SAFETY: as in `load`.
    unsafe { mapping.as_ptr().add(at).write_volatile(byte) }
}

/// Bytes that identify their position.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8 | 1).collect()
}
