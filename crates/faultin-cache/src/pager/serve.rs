//! Resolving a fault as an ordinary function, which may wait: for `fault_in`, and by the pager's thread.
//!
//! The folio and the page's state determine the meaning of a fault, never the kind of fault: a page that is missing, one
//! that is present and not mapped, and one that may not be stored to all look the same.

#![forbid(unsafe_code)]

use faultin::Access;
use rustix::io::Errno;

use super::bug::{self, Bug};
use super::inside::map::{MAX_PAGES_AT_ONCE, Map};
use super::inside::mode::Mode;
use super::inside::place::PageRequest;
use super::inside::states::State;
use super::step::{Step, step};
use crate::error::Error;
use crate::folio::Table;
use crate::inode::Inode;
use crate::inode::Use;

/// The reason why a fault is not resolved.
#[derive(Clone, Debug)]
pub(super) enum Rejection {
    /// A store, through a mapping for reading.
    Protection,
    /// Past the page in which the file ends.
    PastEnd,
    Failed(Error),
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Rejection {
        Rejection::Failed(error)
    }
}

impl Inode {
    /// Makes a page of a mapping accessible, the first of `count` that are wanted.
    ///
    /// # Errors
    /// [`Rejection`] if the access is not allowed there, or the store or the cache fails.
    pub(super) fn serve(&self, map: &Map, page: usize, count: usize, access: Option<Access>) -> Result<(), Rejection> {
        let mut table = self.table.exclusive().map_err(Error::from)?;
        // Space in the store is reserved block by block.
        let count = if self.how.reserve { 1 } else { count };
        // No more at once than can stay until it is used.
        let most = (self.cache.share() / faultin::page_size()).clamp(1, MAX_PAGES_AT_ONCE);
        let count = count.min(most);
        let wanted = PageRequest { count, ..PageRequest::by(map, page, access).ok_or(Rejection::Protection)? };
        let pos = map.pos(page);
        if pos >= table.size() {
            return Err(Rejection::PastEnd);
        }
        if bug::has(Bug::KeepsPoison) && map.state(page) == State::Poisoned {
            return Err(Rejection::PastEnd);
        }
        let window = map.window(page).min(most).max(count);
        if bug::has(Bug::TrustsThePageCache) && !wanted.write && map.install(page, page, page + 1).is_ok() {
            return Ok(());
        }
        table.make_ready_for(pos);
        self.bring_in(&mut table, pos, (window * faultin::page_size()) as u64)?;
        if wanted.write && self.how.reserve {
            self.reserve_for(&table, pos)?;
        }
        let placed = match self.place(&mut table, map, wanted, window) {
            // The kernel has no room for one more boundary between pages with different rights.
            Err(Errno::NOMEM) => match map.remove_all().and_then(|()| self.place(&mut table, map, wanted, 1)) {
                // Not even for one around this page.
                Err(Errno::NOMEM) => self.place_all(&mut table, map, wanted.write),
                result => result,
            },
            result => result,
        };
        if wanted.write && bug::has(Bug::DirtyTooLate) {
            drop(table);
            step(Step::Unlocked);
            let mut table = self.table.exclusive().map_err(Error::from)?;
            if let Some(key) = table.find(pos) {
                self.add_dirty(table.get_mut(key).set_dirty(pos..pos + 1));
            }
        }
        match placed {
            // It may have been a store all the time.
            Ok(changed) if access.is_none() && map.is_stuck(changed) => Err(Rejection::Protection),
            Ok(_) => Ok(()),
            Err(error) => Err(Rejection::Failed(Error::of_page_table(error))),
        }
    }

    /// Makes the block with the byte at `pos` valid, in memory that mappings show, and about `window` bytes from there on.
    fn bring_in(&self, table: &mut Table, pos: u64, window: u64) -> Result<(), Error> {
        if let Some(key) = table.find(pos) {
            table.get(key).want();
            self.cache.make_shared(table, key)?;
        }
        self.fill_locked(table, pos, window, Use::Access)
    }

    /// Reserves space in the store for the block at `pos`, if it is not dirty yet.
    fn reserve_for(&self, table: &Table, pos: u64) -> Result<(), Error> {
        let Some(key) = table.find(pos) else { return Ok(()) };
        match table.get(key).clean_bytes(pos..pos + 1) {
            0 => Ok(()),
            bytes => Ok(self.store().reserve(bytes as u64)?),
        }
    }

    /// Makes a mapping accessible as a whole, where the kernel has no room for a boundary within it. All of its pages are
    /// brought in for that, and marked dirty if one is stored to; so they have to be in the file, and in the cache at once.
    fn place_all(&self, table: &mut Table, map: &Map, write: bool) -> Result<bool, Errno> {
        let part = map.pos(0)..map.pos(0) + map.len() as u64;
        let is_in_the_file = part.end <= table.size().next_multiple_of(faultin::page_size() as u64);
        if map.mode() != Mode::Mprotect || !is_in_the_file || write && self.how.reserve {
            return Err(Errno::NOMEM);
        }
        let mut pos = part.start;
        while pos < part.end {
            table.make_ready_for(pos);
            self.bring_in(table, pos, part.end - pos).map_err(|_| Errno::NOMEM)?;
            let until = table.find(pos).map_or(pos, |key| {
                let folio = table.get(key);
                folio.uptodate_until(pos..folio.end().min(part.end))
            });
            if until == pos {
                return Err(Errno::NOMEM);
            }
            pos = until;
        }
        // The first folios may have been evicted for the last ones.
        if self.ready_until(table, part.start, part.end) != part.end {
            return Err(Errno::NOMEM);
        }
        let mut pos = part.start;
        while let Some(key) = table.find(pos).filter(|_| write && pos < part.end) {
            let folio = table.get_mut(key);
            let until = folio.end().min(part.end);
            folio.set_stored_to();
            self.add_dirty(folio.set_dirty(pos..until));
            pos = until;
        }
        map.install_all(write)
    }
}
