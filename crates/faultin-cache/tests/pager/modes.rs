//! Every mode, and both kinds of stores.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use faultin::map::Rights;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::{FileStore, MemoryStore};
use faultin_cache::{Cache, CacheOptions, CachedFile};

use crate::common::watchdog;

/// Where the bytes of a file are.
pub enum Home {
    Memory(Arc<MemoryStore>),
    /// A file, so that faults can be served in a signal.
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

    /// What is in it.
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

/// A file of these bytes, in a small cache of its own, and both kinds of stores and all modes in turn.
pub fn each(bytes: &[u8], check: impl Fn(&Cache, &CachedFile, &Home, Mode)) {
    each_within(64, bytes, check);
}

/// As [`each`], in a cache of so many pages.
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

/// So much of a file from its first byte on, for reading and writing; if the mode is to be had.
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

/// Loads as any code does.
pub fn load(mapping: &Mapping, at: usize) -> u8 {
    assert!(at < mapping.len());
    // SAFETY: within the mapping, whose faults are served.
    unsafe { mapping.as_ptr().add(at).read_volatile() }
}

/// Stores as any code does.
pub fn store(mapping: &Mapping, at: usize, byte: u8) {
    assert!(at < mapping.len());
    // SAFETY: as in `load`.
    unsafe { mapping.as_ptr().add(at).write_volatile(byte) }
}

/// Bytes that say where they are.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8 | 1).collect()
}
