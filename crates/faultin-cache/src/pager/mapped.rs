//! What the table of a mapped file knows of its mappings.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::map::Map;
use crate::bounce::Bounce;
use crate::folio::backing::Backing;

/// The mappings of a file, and the memory they share.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) backing: Arc<Backing>,
    pub(super) maps: Vec<Arc<Map>>,
    /// For faults that are served where nothing can be allocated.
    pub(super) scratch: Bounce,
}

impl Mapped {
    pub(super) fn new(backing: Arc<Backing>, block: usize) -> Mapped {
        let scratch = Bounce::new(backing.at_once(), block);
        Mapped { backing, maps: Vec::new(), scratch }
    }

    /// From now on a store to a page of this part of the file faults, until somebody makes its block dirty: for whoever puts
    /// writeback in order, before it looks at the bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn protect(&self, part: Range<u64>) -> Result<(), Errno> {
        self.maps.iter().try_for_each(|map| map.protect(&part))
    }

    /// From now on any access to a page of this part of the file faults: for whoever has the inode lock alone, before the bytes
    /// go. What was stored there is in the folio, which is dirty.
    pub(crate) fn unmap(&self, part: Range<u64>) {
        for map in &self.maps {
            map.remove(&part);
        }
    }
}
