//! Making a page of a mapping accessible that is in memory.

#![forbid(unsafe_code)]

use faultin::Access;
use rustix::io::Errno;

use super::map::Map;
use super::states::State;
use crate::folio::Table;
use crate::inside::core::Core;
use crate::pager::bug::{self, Bug};

/// A request for a page.
#[derive(Clone, Copy, Debug)]
pub(in crate::pager) struct PageRequest {
    pub(in crate::pager) page: usize,
    /// Number of pages from there on that are certainly needed.
    pub(in crate::pager) count: usize,
    pub(in crate::pager) write: bool,
}

impl PageRequest {
    /// Returns the needs of an access that has faulted. Where the CPU does not report the kind of access, the page's state
    /// does, as far as possible: another thread may have made the page readable since a load has faulted. A page that is
    /// dirty without need does no harm; a load that is rejected does. So a possible load is repeated, as often as
    /// [`Map::is_stuck`] allows.
    /// `None` for a store through a mapping for reading.
    pub(in crate::pager) fn by(map: &Map, page: usize, access: Option<Access>) -> Option<PageRequest> {
        let is_store =
            || map.state(page) == State::Protected && (map.is_writable() || bug::has(Bug::TakesLoadsForStores));
        let write = access.map_or_else(is_store, |access| access == Access::Write);
        (!write || map.is_writable()).then_some(PageRequest { page, count: 1, write })
    }
}

impl Core {
    /// Maps a page that is in memory and valid, and those after it, as far as the window and the folio go. A page that is
    /// stored to is marked dirty first. Returns whether anything changed. System calls and atomic operations only.
    pub(in crate::pager) fn place(
        &self,
        table: &mut Table,
        map: &Map,
        wanted: PageRequest,
        window: usize,
    ) -> Result<bool, Errno> {
        let PageRequest { page, count, write } = wanted;
        let pos = map.pos(page);
        let size = table.size();
        let Some(key) = table.find(pos) else { return Err(Errno::FAULT) };
        let folio = table.get_mut(key);
        // Past the page in which the file ends there is nothing, also where a block has more pages.
        let end = size.next_multiple_of(faultin::page_size() as u64);
        // Pages that are not stored to yet get the right with their own fault.
        let end = end.min(map.pos(page + if write { count } else { window }));
        let mut until = folio.uptodate_until(pos..folio.end().min(end));
        if until == pos || !folio.is_shared() {
            return Err(Errno::FAULT);
        }
        folio.touch_mapped();
        if !write {
            until = self.ready_until(table, until, end);
        }
        let pages = (until - pos).div_ceil(faultin::page_size() as u64) as usize;
        let writable = if write { count.min(pages) } else { 0 };
        if write {
            let folio = table.get_mut(key);
            folio.set_stored_to();
            if !bug::has(Bug::DirtyTooLate) {
                self.add_dirty(folio.set_dirty(pos..until.min(map.pos(page + writable))));
            }
        }
        map.install(page, page + writable, page + pages)
    }

    /// Returns how far, from the end of a folio on, the following bytes can be mapped as they are.
    pub(in crate::pager) fn ready_until(&self, table: &Table, mut pos: u64, end: u64) -> u64 {
        while pos < end
            && let Some(key) = table.find(pos)
        {
            let folio = table.get(key);
            let until = folio.uptodate_until(pos..folio.end().min(end));
            if until == pos || !folio.is_shared() {
                break;
            }
            folio.touch_mapped();
            pos = until;
        }
        pos
    }
}
