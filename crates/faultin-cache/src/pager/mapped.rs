//! Adding a mapping to a file.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::inside::map::Map;
use super::inside::mapped::{Mapped, Source};
use crate::bounce::Bounce;
use crate::folio::{Backing, Table};
use crate::store::Store;

impl Source {
    /// Gets a store's descriptor.
    ///
    /// # Errors
    /// The kernel has no descriptor for a duplicate.
    pub(in crate::pager) fn of(store: &dyn Store) -> io::Result<Option<Source>> {
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
}

impl Table {
    /// Returns the memory that mappings of the file share, from now on at the latest; `source` is for the first one.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn backing(&mut self, block: usize, source: Option<Source>) -> io::Result<Arc<Backing>> {
        if let Some(mapped) = self.mapped() {
            return Ok(Arc::clone(&mapped.backing));
        }
        let backing = Backing::new(block)?;
        self.set_mapped(Mapped::new(Arc::clone(&backing), block, source));
        Ok(backing)
    }
}
