//! The mappings of a mapped file, and what they share.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicBool;

use rustix::io::Errno;

use super::map::Map;
use crate::bounce::Bounce;
use crate::folio::Backing;
use crate::pager::bug::{self, Bug};

/// The mappings of a file, and the memory that they share.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) backing: Arc<Backing>,
    pub(in crate::pager) maps: Vec<Arc<Map>>,
    /// For faults that are resolved where nothing can be allocated.
    pub(in crate::pager) scratch: Bounce,
    /// The source of their bytes, if the store has a descriptor.
    pub(in crate::pager) source: Option<Source>,
}

/// A descriptor of the store's file, owned by the mapping: in a signal the store, which is foreign code, is not called.
#[derive(Debug)]
pub(in crate::pager) struct Source {
    pub(in crate::pager) file: OwnedFd,
    pub(in crate::pager) unit: usize,
    /// Whether the simulated store fails.
    #[cfg(test)]
    pub(in crate::pager) is_down: Arc<AtomicBool>,
}

impl Mapped {
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
