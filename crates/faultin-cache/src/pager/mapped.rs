//! The mappings in the table of a mapped file.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicBool;

use rustix::io::Errno;

use super::bug::{self, Bug};
use super::map::Map;
use crate::bounce::Bounce;
use crate::folio::Table;
use crate::folio::backing::Backing;
use crate::store::Store;

/// The mappings of a file, and the memory that they share.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) backing: Arc<Backing>,
    maps: Vec<Arc<Map>>,
    /// For faults that are resolved where nothing can be allocated.
    pub(super) scratch: Bounce,
    /// The source of their bytes, if the store has a descriptor.
    pub(super) source: Option<Source>,
}

/// A descriptor of the store's file, owned by the mapping: in a signal the store, which is foreign code, is not called.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: OwnedFd,
    pub(super) unit: usize,
    /// Whether the simulated store fails.
    #[cfg(test)]
    pub(super) is_down: Arc<AtomicBool>,
}

impl Source {
    /// Gets a store's descriptor.
    ///
    /// # Errors
    /// The kernel has no descriptor for a duplicate.
    pub(super) fn of(store: &dyn Store) -> io::Result<Option<Source>> {
        let Some(file) = store.descriptor() else { return Ok(None) };
        let file = file.try_clone_to_owned()?;
        Ok(Some(Source {
            file,
            unit: store.alignment(),
            #[cfg(test)]
            is_down: Arc::default(),
        }))
    }
}

impl Mapped {
    pub(super) fn new(backing: Arc<Backing>, block: usize, source: Option<Source>) -> Mapped {
        let scratch = Bounce::new(backing.at_once(), block);
        Mapped { backing, maps: Vec::new(), scratch, source }
    }

    pub(super) fn add(&mut self, map: Arc<Map>) {
        self.maps.push(map);
    }

    pub(super) fn remove(&mut self, map: &Arc<Map>) {
        self.maps.retain(|other| !Arc::ptr_eq(other, map));
    }

    /// Makes stores to pages of this part of the file fault, until the block is marked dirty: for the holder of the
    /// writeback lock, before it reads the bytes.
    ///
    /// # Errors
    /// The kernel's error.
    /// The kernel's.
    pub(crate) fn protect(&self, part: Range<u64>) -> Result<(), Errno> {
        let maps = if bug::has(Bug::ProtectsOneMapping) { &self.maps[..1] } else { &self.maps };
        maps.iter().try_for_each(|map| map.protect(&part))
    }

    /// Returns whether a page of this part of the file is about to be used, and is spared this time.
    pub(crate) fn keeps(&self, part: Range<u64>) -> bool {
        self.maps.iter().any(|map| map.keeps(&part))
    }

    /// Records that the file is going to end at `len`, which is less than before: under the exclusive inode lock, before
    /// the bytes are dropped.
    pub(crate) fn ends_at(&self, len: u64) {
        self.maps.iter().for_each(|map| map.ends_at(len));
    }

    /// Makes any access to a page of this part of the file fault: under the exclusive inode lock, before the bytes are
    /// dropped. Bytes that were stored there are in the folio, which is dirty.
    pub(crate) fn unmap(&self, part: Range<u64>) {
        let maps = if bug::has(Bug::UnmapsOneMapping) { &self.maps[..1] } else { &self.maps };
        for map in maps {
            map.remove(&part);
        }
    }
}

impl Table {
    /// Returns the memory that mappings of the file share, from now on at the latest; `source` is for the first one.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn backing(&mut self, block: usize, source: Option<Source>) -> io::Result<Arc<Backing>> {
        if let Some(mapped) = &self.mapped {
            return Ok(Arc::clone(&mapped.backing));
        }
        let backing = Backing::new(block)?;
        self.mapped = Some(Box::new(Mapped::new(Arc::clone(&backing), block, source)));
        // Bytes that another thread is reading into other memory must not be put into the table.
        self.generation += 1;
        Ok(backing)
    }
}
