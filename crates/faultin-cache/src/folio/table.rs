//! The folios of one file: what allocates, evicts, or keeps account of what the store has.

#![forbid(unsafe_code)]

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::inside::keys::{Key, Place};
use super::inside::table::{FEW, Region, SMALL_REGION, Table};
use super::ranges::Ranges;
use super::{Folio, Unsynced, Watch};
use crate::pager::Mapped;
use crate::pager::bug::{self, Bug};
use crate::signals::without_signals;

impl Table {
    /// Watches a range that the caller is about to read from the store without the lock.
    pub(crate) fn watch(&self, range: Range<u64>) -> Arc<Watch> {
        self.watches.add(range)
    }

    /// Returns a hash of a position in this file.
    pub(crate) fn print(&self, pos: u64) -> u64 {
        self.home.print(pos)
    }

    /// Notes that bytes of folios up to `end` were written: the file is at least that long.
    #[inline]
    pub(crate) fn grow_to(&mut self, end: u64) {
        self.size = self.size.max(end);
    }

    /// Ends the file at `len`, which is less than before, as its store does already. Its blocks after that are the caller's to
    /// drop.
    pub(crate) fn cut_to(&mut self, len: u64) {
        if let Some(mapped) = &self.mapped {
            mapped.ends_at(len);
        }
        self.unsynced.replaced(len..u64::MAX);
        self.watches.mark(&(self.geometry.block_down(len)..u64::MAX));
        self.size = len;
    }

    /// Notes that the store's bytes in `range` have changed past the cache: the file is at least that long.
    pub(crate) fn store_changed(&mut self, range: Range<u64>) {
        self.watches.mark(&range);
        self.grow_to(range.end);
    }

    /// Notes that folios have new bytes in `range`: it does not matter whether the store has made earlier ones durable.
    #[inline]
    pub(crate) fn replaced(&mut self, range: Range<u64>) {
        self.unsynced.replaced(range);
    }

    /// Gives the file the memory that its mappings share.
    pub(crate) fn set_mapped(&mut self, mapped: Mapped) {
        self.mapped = Some(Box::new(mapped));
        // Bytes that another thread is reading into other memory must not be put into the table.
        self.watches.mark(&(0..u64::MAX));
    }

    /// Returns the state of the file's syncs.
    pub(crate) fn syncs(&mut self) -> &mut Unsynced {
        &mut self.unsynced
    }

    /// Returns the ranges that the store has lost, and its error.
    pub(crate) fn lost(&self) -> Option<(Vec<Range<u64>>, Arc<io::Error>)> {
        self.unsynced.lost()
    }

    /// Inserts a folio where there is none.
    pub(crate) fn insert(&mut self, mut folio: Folio) -> Key {
        let arrival = self.arrival(&folio);
        folio.place = folio.memory.account().queue().push(&arrival);
        let (region, first) = self.place(folio.start());
        self.make_region(region, first + self.geometry.blocks(folio.len()));
        self.put(folio)
    }

    /// Makes room for a folio at `pos`, and for many more elsewhere.
    pub(crate) fn make_ready_for(&mut self, pos: u64) {
        if self.folios.len() == self.folios.capacity() {
            self.folios.reserve(self.folios.len().max(64));
        }
        self.make_region(self.place(pos).0, self.blocks_of_region());
    }

    /// Makes room in a region for its first `blocks` blocks.
    fn make_region(&mut self, region: u64, blocks: usize) {
        let is_large_enough = |slots: &Region| slots.len() >= blocks;
        if !self.regions.get(region).is_some_and(is_large_enough) {
            self.grow_region(region, blocks.next_power_of_two().min(self.blocks_of_region()));
        }
    }

    #[cold]
    fn grow_region(&mut self, region: u64, blocks: usize) {
        let mut slots = match u8::try_from(blocks) {
            Ok(len) if blocks <= FEW => Region::Few { slots: [None; FEW], len },
            _ => Region::Many(vec![None; blocks].into_boxed_slice()),
        };
        if let Some(before) = self.regions.get(region) {
            slots[..before.len()].copy_from_slice(before);
        }
        self.regions.insert(region, slots);
    }

    /// Returns whether the folio that was at `place` in the order of eviction is still there.
    pub(crate) fn is_at(&self, key: Key, place: Place) -> bool {
        self.folios.get(key.index()).is_some_and(|folio| folio.place == place)
    }

    /// Evicts a folio: removes it, and remembers that it was here, in case it comes back soon. Returns its size in bytes.
    pub(crate) fn evict(&mut self, key: Key) -> usize {
        let print = self.home.print(self.get(key).start());
        self.take_out(key, Some(print)).len()
    }

    /// Removes a folio, from all mappings first. Its memory is freed with it.
    pub(crate) fn remove(&mut self, key: Key) -> Folio {
        self.take_out(key, None)
    }

    fn take_out(&mut self, key: Key, evicted: Option<u64>) -> Folio {
        let place = self.get(key).start()..self.get(key).end();
        if bug::has(Bug::UnmapsAfterPunching)
            && let Some(mapped) = &self.mapped
        {
            mapped.backing.punch(place.start, self.get(key).len());
        }
        self.unmap(place.clone());
        let mut folio = self.folios.remove(key.index());
        let account = folio.memory.account();
        account.queue().remove(folio.place, evicted.map(|print| (print, account.now())));
        folio.place = Place::default();
        if folio.was_written() {
            self.watches.mark(&place);
            let mut pos = folio.start();
            while let Some(run) = folio.next_unsynced(pos, &self.unsynced) {
                pos = run.end;
                self.unsynced.is_absent(run);
            }
        }
        let (region, first) = self.place(folio.start());
        let blocks = self.geometry.blocks(folio.len());
        if let Some(slots) = self.regions.get_mut(region) {
            slots[first..first + blocks].fill(None);
            // A mapped file's regions are kept, for faults that are resolved where nothing can be allocated; and small ones,
            // which take no more memory than their place in the tree.
            if self.mapped.is_none() && slots.len() > SMALL_REGION && slots.iter().all(Option::is_none) {
                self.regions.remove(region);
            }
        }
        folio
    }

    /// Returns the first folio with a byte at or after `pos`.
    pub(crate) fn next(&self, pos: u64) -> Option<Key> {
        let (mut region, mut block) = self.place(pos);
        loop {
            let (found, slots) = self.regions.next(region)?;
            let from = if found == region { block } else { 0 };
            if let Some(key) = slots.iter().skip(from).flatten().next() {
                return Some(*key);
            }
            (region, block) = (found + 1, 0);
        }
    }

    /// Calls `found` with each folio and each run of its valid bytes in `range`, in ascending order, until that returns
    /// false. Of a file that is shorter the range ends with it.
    #[inline]
    pub(crate) fn valid_runs(&self, range: Range<u64>, mut found: impl FnMut(Key, Range<u64>) -> bool) {
        let end = range.end.min(self.size);
        let mut pos = range.start;
        while pos < end {
            let Some(key) = self.find(pos).or_else(|| self.next(pos)) else { return };
            let folio = self.get(key);
            let until = end.min(folio.end());
            pos = pos.max(folio.start());
            while pos < until
                && let Some(run) = folio.next_valid(pos..until)
            {
                pos = run.end;
                if !found(key, run) {
                    return;
                }
            }
            pos = pos.max(until);
        }
    }

    /// Returns the first run of dirty blocks in `range`.
    pub(crate) fn next_dirty(&self, range: Range<u64>) -> Option<(Key, Range<u64>)> {
        let mut pos = range.start;
        while pos < range.end {
            let key = self.next(pos)?;
            let folio = self.get(key);
            let part = folio.start().max(pos)..folio.end().min(range.end);
            if part.is_empty() {
                return None;
            }
            if let Some(run) = folio.next_dirty(part) {
                return Some((key, run));
            }
            pos = folio.end();
        }
        None
    }

    /// Notes that the store's bytes in `range` are unknown: clean blocks in it become invalid.
    pub(crate) fn doubt(&mut self, range: Range<u64>) {
        self.unmap(range.clone());
        self.watches.mark(&range);
        let mut pos = range.start;
        while let Some(key) = self.next(pos) {
            let folio = &mut self.folios[key.index()];
            let part = folio.start().max(pos)..folio.end().min(range.end);
            if part.is_empty() {
                break;
            }
            pos = folio.end();
            let is_durable = *folio.epoch.get_mut() <= self.unsynced.durable;
            folio.doubt(part, |blocks| {
                if !is_durable {
                    self.unsynced.is_absent(blocks);
                }
            });
        }
    }

    /// Returns all folios, first the one that an operation has wanted longest ago.
    pub(crate) fn by_age(&self) -> Vec<Key> {
        let mut folios: Vec<_> = self.folios.iter().map(|(index, folio)| (folio.age(), Key::of(index))).collect();
        folios.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        folios.into_iter().map(|(_, key)| key).collect()
    }

    /// Notes that the store has taken dirty blocks of a folio: returns how many bytes are no longer dirty. For the holder
    /// of the writeback lock.
    pub(crate) fn clean(&self, folio: &Folio, part: Range<u64>) -> usize {
        folio.clean(part, &self.unsynced)
    }

    /// Notes that the store has taken `range` past the cache, and that cached blocks have the same bytes.
    pub(crate) fn taken(&mut self, range: Range<u64>) {
        self.unsynced.replaced(range.clone());
        let mut pos = range.start;
        while pos < range.end {
            let Some(key) = self.next(pos).filter(|&key| self.get(key).start() < range.end) else {
                return self.unsynced.is_absent(pos..range.end);
            };
            let folio = &mut self.folios[key.index()];
            self.unsynced.is_absent(pos..folio.start().max(pos));
            pos = pos.max(folio.start());
            let end = folio.end().min(range.end);
            while pos < end {
                let block = self.geometry.block_down(pos);
                let part = pos..end.min(block + self.geometry.block as u64);
                pos = part.end;
                if folio.is_uptodate(part.clone()) {
                    folio.written = true;
                    folio.taken(part, &self.unsynced);
                } else {
                    self.unsynced.is_absent(part);
                }
            }
        }
    }

    /// Notes that the store has zeros in `range` now.
    pub(crate) fn has_hole(&mut self, range: Range<u64>) {
        self.watches.mark(&range);
        self.unsynced.replaced(range.clone());
        self.unsynced.is_absent(range);
    }

    /// Handles a failed sync: blocks that the store has taken and not made durable are dirty again, and the rest of these
    /// bytes is lost. `add` is called before the given number of bytes becomes dirty; a block for which it returns false is
    /// lost, too. `cut` is the least length to which the store was truncated since the sync began. Returns whether it was
    /// truncated at all since a sync has succeeded.
    pub(crate) fn sync_failed(&mut self, error: &Arc<io::Error>, cut: u64, mut add: impl FnMut(usize) -> bool) -> bool {
        for (_, folio) in &mut self.folios {
            let mut pos = folio.start();
            while let Some(run) = folio.next_unsynced(pos, &self.unsynced) {
                pos = run.end;
                let clean = folio.clean_bytes(run.clone());
                if clean == 0 || add(clean) {
                    folio.set_dirty(run.clone());
                } else {
                    self.unsynced.is_absent(run.clone());
                }
                folio.unsynced.clear(folio.touched(&run));
            }
        }
        let (size, cut) = (self.size, self.unsynced.fail(cut));
        if cut < size {
            // Where the file has grown again, bytes that are not written again may be the store's from before the
            // truncation.
            let mut absent = Ranges::default();
            absent.insert(cut..size);
            let mut pos = cut;
            while let Some((_, run)) = self.next_dirty(pos..size) {
                pos = run.end;
                absent.remove(run);
            }
            absent.iter().for_each(|range| self.unsynced.is_absent(range));
        }
        self.unsynced.lose(error, size);
        cut != u64::MAX
    }

    /// Returns the next folio of this file to check, round and round.
    pub(crate) fn next_victim(&mut self) -> Option<Key> {
        if self.folios.is_empty() {
            return None;
        }
        loop {
            if self.hand >= self.folios.capacity() {
                self.hand = 0;
            }
            let at = self.hand;
            self.hand += 1;
            if self.folios.contains(at) {
                return Some(Key::of(at));
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let folios = mem::take(&mut self.folios);
        // In a child of `fork` the lock may be held by a thread that does not exist there.
        if folios.iter().next().is_some_and(|(_, folio)| folio.memory.account().is_ours()) {
            // This takes the locks of queue and arena, and no lock of the file, which would be seen.
            without_signals(move || {
                if let Some((_, first)) = folios.iter().next() {
                    first.memory.account().queue().remove_all(folios.iter().map(|(_, folio)| folio.place));
                }
                drop(folios);
            });
        }
    }
}
