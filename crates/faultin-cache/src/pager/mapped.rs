//! What the table of a mapped file knows of its mappings.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::bug::{self, Bug};
use super::map::Map;
use crate::bounce::Bounce;
use crate::folio::Table;
use crate::folio::backing::Backing;

/// The mappings of a file, and the memory they share.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) backing: Arc<Backing>,
    maps: Vec<Arc<Map>>,
    /// For faults that are served where nothing can be allocated.
    pub(super) scratch: Bounce,
}

impl Mapped {
    pub(super) fn new(backing: Arc<Backing>, block: usize) -> Mapped {
        let scratch = Bounce::new(backing.at_once(), block);
        Mapped { backing, maps: Vec::new(), scratch }
    }

    pub(super) fn add(&mut self, map: Arc<Map>) {
        self.maps.push(map);
    }

    pub(super) fn remove(&mut self, map: &Arc<Map>) {
        self.maps.retain(|other| !Arc::ptr_eq(other, map));
    }

    /// From now on a store to a page of this part of the file faults, until somebody makes its block dirty: for whoever puts
    /// writeback in order, before it looks at the bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn protect(&self, part: Range<u64>) -> Result<(), Errno> {
        let maps = if bug::has(Bug::ProtectsOneMapping) { &self.maps[..1] } else { &self.maps };
        maps.iter().try_for_each(|map| map.protect(&part))
    }

    /// Whether somebody is about to use a page of this part of the file, and it is to be spared this time.
    pub(crate) fn keeps(&self, part: Range<u64>) -> bool {
        self.maps.iter().any(|map| map.keeps(&part))
    }

    /// The file is going to end at `len`, which is less than before: for whoever has the inode lock alone, before the bytes go.
    pub(crate) fn ends_at(&self, len: u64) {
        self.maps.iter().for_each(|map| map.ends_at(len));
    }

    /// From now on any access to a page of this part of the file faults: for whoever has the inode lock alone, before the bytes
    /// go. What was stored there is in the folio, which is dirty.
    pub(crate) fn unmap(&self, part: Range<u64>) {
        let maps = if bug::has(Bug::UnmapsOneMapping) { &self.maps[..1] } else { &self.maps };
        for map in maps {
            map.remove(&part);
        }
    }
}

impl Table {
    /// The memory that mappings of the file share, from now on at the latest.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn backing(&mut self, block: usize) -> io::Result<Arc<Backing>> {
        if let Some(mapped) = &self.mapped {
            return Ok(Arc::clone(&mapped.backing));
        }
        let backing = Backing::new(block)?;
        self.mapped = Some(Box::new(Mapped::new(Arc::clone(&backing), block)));
        // What somebody is reading for it into other memory is not to be put into the table.
        self.generation += 1;
        Ok(backing)
    }
}
