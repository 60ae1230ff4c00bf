//! The folios of one file, by their position in it.

#![forbid(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use slab::Slab;

use super::queue::{Arrival, Place};
use super::radix::Radix;
use super::ranges::Ranges;
use super::unsynced::Unsynced;
use super::{Folio, Geometry};
use crate::pager::bug::{self, Bug};
use crate::pager::mapped::Mapped;

/// Identifies a folio of a table as long as it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(NonZeroU32);

impl Key {
    fn of(index: usize) -> Key {
        Key(NonZeroU32::new(u32::try_from(index + 1).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    pub(super) fn from_number(number: u32) -> Option<Key> {
        NonZeroU32::new(number).map(Key)
    }
}

/// An aligned part of the file as long as the largest folio: for each block the folio that contains it, up to the last one
/// that ever had one, to the next power of two. Small files have small regions.
type Region = Box<[Option<Key>]>;

/// Number of blocks of a region that is kept when it is empty.
const SMALL_REGION: usize = 16;

/// What identifies a file of a cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Home {
    /// Its slot among the files of its cache, which another file may have later.
    pub(crate) slot: u32,
    /// Its number, which no other file has.
    pub(crate) number: u64,
}

impl Home {
    /// Returns a hash of a position in the file (splitmix64).
    fn print(self, pos: u64) -> u64 {
        let mut z = pos.wrapping_add(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The folios of a file, and its length.
#[derive(Debug)]
pub(crate) struct Table {
    geometry: Geometry,
    home: Home,
    regions: Radix<Region>,
    folios: Slab<Folio>,
    /// The position where a walk over the folios of this file alone continues.
    hand: usize,
    /// Length of the file in bytes.
    pub(crate) size: u64,
    /// Changes whenever the store's bytes may have changed while no folio records that: a thread that has read the store
    /// without the lock checks whether it is still the same.
    pub(crate) generation: u64,
    /// The file's mappings, once there has been one.
    pub(crate) mapped: Option<Box<Mapped>>,
    /// The bytes that the store has taken and not made durable.
    pub(crate) unsynced: Unsynced,
}

impl Table {
    pub(crate) fn new(geometry: Geometry, size: u64, home: Home) -> Table {
        Table {
            geometry,
            home,
            regions: Radix::new(),
            folios: Slab::new(),
            hand: 0,
            size,
            generation: 0,
            mapped: None,
            unsynced: Unsynced::new(),
        }
    }

    /// Returns the number of folios.
    pub(crate) fn len(&self) -> usize {
        self.folios.len()
    }

    #[inline]
    fn place(&self, pos: u64) -> (u64, usize) {
        let region = self.geometry.max_folio;
        (pos >> region.trailing_zeros(), self.geometry.blocks(pos as usize & (region - 1)))
    }

    /// Returns the folio that contains the byte at `pos`.
    #[inline]
    pub(crate) fn find(&self, pos: u64) -> Option<Key> {
        let (region, block) = self.place(pos);
        *self.regions.get(region)?.get(block)?
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> &Folio {
        &self.folios[key.index()]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Folio {
        &mut self.folios[key.index()]
    }

    /// Returns the length of the largest folio that can begin at `pos`, a block's first byte: at most `want` bytes, aligned
    /// to its length, and without overlap with another.
    pub(crate) fn room(&self, pos: u64, want: u64) -> usize {
        let block = self.geometry.block;
        let (region, at) = self.place(pos);
        let aligned = 1_u64.checked_shl(pos.trailing_zeros()).unwrap_or(u64::MAX);
        let most = want.min(aligned).clamp(block as u64, self.geometry.max_folio as u64);
        let mut blocks = self.geometry.blocks(1 << most.ilog2());
        if let Some(slots) = self.regions.get(region) {
            let free = slots.iter().skip(at).take(blocks).position(Option::is_some).unwrap_or(blocks);
            blocks = 1 << free.max(1).ilog2();
        }
        blocks * block
    }

    /// Inserts a folio where there is none.
    pub(crate) fn insert(&mut self, mut folio: Folio) -> Key {
        let arrival = self.arrival(&folio);
        folio.place = folio.memory.account().queue().push(&arrival);
        self.put(folio)
    }

    /// Inserts a folio where there is none, and where [`is_ready_for`](Self::is_ready_for) has found room. Returns whether
    /// it could enter the order of eviction: if not, the folio is dropped. Async-signal-safe.
    pub(crate) fn insert_in_signal(&mut self, mut folio: Folio) -> bool {
        let arrival = self.arrival(&folio);
        let Some(place) = folio.memory.account().queue().push_in_signal(&arrival) else { return false };
        folio.place = place;
        self.put(folio);
        true
    }

    fn arrival(&self, folio: &Folio) -> Arrival {
        Arrival {
            file: self.home.slot,
            key: Key::of(self.folios.vacant_key()),
            print: self.home.print(folio.start()),
            len: folio.len(),
            at: folio.memory.account().at(),
        }
    }

    fn put(&mut self, folio: Folio) -> Key {
        let (region, first) = self.place(folio.start());
        let blocks = self.geometry.blocks(folio.len());
        let key = Key::of(self.folios.insert(folio));
        self.make_region(region, first + blocks);
        if let Some(slots) = self.regions.get_mut(region) {
            slots[first..first + blocks].fill(Some(key));
        }
        key
    }

    /// Unmaps pages from all mappings.
    pub(crate) fn unmap(&self, range: Range<u64>) {
        if let Some(mapped) = self.mapped.as_ref().filter(|_| !bug::has(Bug::NeverUnmaps)) {
            mapped.unmap(range);
        }
    }

    /// Returns whether a part is about to be used through a mapping, and is spared this time.
    pub(crate) fn is_kept(&self, part: Range<u64>) -> bool {
        self.mapped.as_ref().is_some_and(|mapped| mapped.keeps(part))
    }

    /// Returns whether a folio can be inserted at `pos` without an allocation.
    pub(crate) fn is_ready_for(&self, pos: u64) -> bool {
        let is_whole = |slots: &Region| slots.len() == self.blocks_of_region();
        self.folios.len() < self.folios.capacity() && self.regions.get(self.place(pos).0).is_some_and(is_whole)
    }

    /// Makes room for a folio at `pos`, and for many more elsewhere.
    pub(crate) fn make_ready_for(&mut self, pos: u64) {
        if self.folios.len() == self.folios.capacity() {
            self.folios.reserve(self.folios.len().max(64));
        }
        self.make_region(self.place(pos).0, self.blocks_of_region());
    }

    fn blocks_of_region(&self) -> usize {
        self.geometry.blocks(self.geometry.max_folio)
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
        let mut slots = vec![None; blocks].into_boxed_slice();
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
        self.unmap(place);
        let mut folio = self.folios.remove(key.index());
        let account = folio.memory.account();
        account.queue().remove(folio.place, evicted.map(|print| (print, account.now())));
        folio.place = Place::default();
        if folio.was_written() {
            self.generation += 1;
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
        self.generation += 1;
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
        // In a child of `fork` the lock may be held by a thread that does not exist there.
        let Some(account) = self.folios.iter().next().map(|(_, folio)| folio.memory.account()) else { return };
        if account.is_ours() {
            account.queue().remove_all(self.folios.iter().map(|(_, folio)| folio.place));
        }
    }
}
