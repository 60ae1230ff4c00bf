//! The observed values, and the checks on them.

use std::hash::Hash;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::param::page_size;

use super::{PAGES, World, hash, start_of};
use crate::folio::Table;
use crate::pager::explore::Found;
use crate::pager::inside::map::Map;
use crate::pager::inside::states::State;

impl World {
    /// Returns a byte of the memfd; zero in a hole.
    pub(super) fn byte(&self, pos: u64) -> u8 {
        let mut byte = [0];
        rustix::io::pread(self.backing.as_fd(), &mut byte, pos).expect("a memfd can be read");
        byte[0]
    }

    pub(super) fn set_byte(&self, pos: u64, value: u8) {
        rustix::io::pwrite(self.backing.as_fd(), &[value], pos).expect("a memfd can be written");
    }

    pub(super) fn stored(&self, pos: u64) -> u8 {
        let mut byte = [0];
        let _ = self.store.bytes.read_at(&mut byte, pos);
        byte[0]
    }

    pub(super) fn looked_at(&self, page: usize) -> Vec<u64> {
        let positions = self.model.borrow().positions();
        positions.into_iter().filter(|&pos| pos as usize / page_size() == page).collect()
    }

    /// Returns a value that is not in use yet.
    pub(super) fn new_value(&self, pos: u64) -> u8 {
        let model = self.model.borrow();
        let taken = |value: u8| model.may(pos, value) || value == self.byte(pos) || value == self.stored(pos);
        (1..=u8::MAX).find(|&value| !taken(value)).unwrap_or(1)
    }

    /// Returns whether the locks that a fault, an eviction or writeback needs are free.
    pub(super) fn is_free(&self) -> bool {
        let locks =
            self.inode().table().try_exclusive().is_some() && self.inode().writeback().try_exclusive().is_some();
        locks && self.mappings().iter().all(|map| map.is_free())
    }

    fn pages(&self, table: &Table) -> Vec<impl Hash + use<>> {
        let page = |page| {
            let folio = table.get(table.find(start_of(page))?);
            let part = start_of(page)..start_of(page + 1);
            let is_dirty = folio.next_dirty(part.clone()).is_some();
            Some((
                folio.start(),
                folio.len(),
                folio.is_uptodate(part),
                is_dirty,
                folio.is_stored_to(),
                folio.was_written(),
            ))
        };
        (0..PAGES).map(page).collect()
    }

    /// Returns a hash of everything that later events depend on, except the position of an operation under way.
    pub(in crate::pager::explore) fn state(&self) -> u64 {
        let maps: Vec<_> = self.maps.borrow().iter().map(|map| map.as_ref().map(|map| self.map_state(map))).collect();
        let model = self.model.borrow();
        let bytes: Vec<_> = model.positions().into_iter().map(|pos| (self.byte(pos), self.stored(pos))).collect();
        let store = (self.store.is_down.load(Relaxed), self.store.bytes.len().unwrap_or(0));
        let inode = (self.inode().store_len().least(), self.inode().store_len().most(), self.inode().dirty());
        let table = self.inode().table().try_exclusive().map(|table| (table.size(), self.pages(&table)));
        hash((maps, &*model, bytes, store, inode, table, self.holes()))
    }

    fn holes(&self) -> Vec<bool> {
        let table =
            |map: Arc<Map>| (0..PAGES).map(|page| map.table().is_some_and(|table| table.is_in_memory(page))).collect();
        self.mappings().into_iter().next().map_or_else(Vec::new, table)
    }

    fn map_state(&self, map: &Map) -> impl Hash + use<> {
        let states: Vec<_> = (0..PAGES).map(|page| map.state(page) as u8).collect();
        (states, map.table().map(|table| (table.entries(), table.refuses())), map.next())
    }

    // The findings.

    pub(in crate::pager::explore) fn find(&self, found: Found) {
        self.found.borrow_mut().get_or_insert(found);
    }

    pub(in crate::pager::explore) fn found(&self) -> Option<Found> {
        self.found.borrow().clone()
    }

    /// Checks the invariants that hold at every step.
    pub(super) fn check(&self) {
        let model = self.model.borrow();
        let table = if self.is_in_handler.get() { None } else { self.inode().table().shared().ok() };
        for (number, map) in self.mappings().into_iter().enumerate() {
            let Some(entries) = map.table() else { continue };
            for page in (0..PAGES).filter(|&page| entries.allows(page, false)) {
                let is_in = start_of(page) < model.size.max(model.then);
                for pos in self.looked_at(page) {
                    let value = self.byte(pos);
                    if is_in && !model.may(pos, value) {
                        self.find(Found::Wrong { pos, value, may: model.says(pos), by: "a mapping" });
                    }
                }
                if !self.config.invariants {
                    continue;
                }
                let Some(table) = &table else { continue };
                let folio = table.find(start_of(page)).map(|key| table.get(key));
                let part = start_of(page)..start_of(page) + 1;
                if !folio.is_some_and(|folio| folio.is_shared() && folio.is_uptodate(part.clone())) {
                    self.find(Found::NotUpToDate { map: number, page });
                } else if entries.allows(page, true) && folio.is_some_and(|folio| folio.next_dirty(part).is_none()) {
                    self.find(Found::StoreUnnoticed { map: number, page });
                }
                if map.state(page) == State::Absent {
                    self.find(Found::StateIsWrong { map: number, page });
                }
            }
        }
    }
}
