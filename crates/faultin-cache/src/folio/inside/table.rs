//! The folios of one file, by their position in it: finding one, and inserting one without an allocation.

#![forbid(unsafe_code)]

use std::ops::{Deref, DerefMut, Range};

use slab::Slab;

use super::Folio;
use super::keys::{Arrival, Geometry, Home, Key};
use super::radix::Radix;
use crate::folio::Unsynced;
use crate::folio::watch::Watches;
use crate::pager::Mapped;
use crate::pager::bug::{self, Bug};

/// An aligned part of the file, at least as long as the largest folio: for each block the folio that contains it, up to the
/// last one that ever had one, to the next power of two. Small files have small regions.
#[derive(Debug)]
pub(in crate::folio) enum Region {
    /// In place: finding a folio of a file of a few blocks loads no further line.
    Few {
        slots: [Option<Key>; FEW],
        len: u8,
    },
    Many(Box<[Option<Key>]>),
}

/// Maximum number of blocks of a region in place.
pub(in crate::folio) const FEW: usize = 4;

impl Deref for Region {
    type Target = [Option<Key>];

    #[inline(always)]
    fn deref(&self) -> &[Option<Key>] {
        match self {
            Region::Few { slots, len } => &slots[..usize::from(*len)],
            Region::Many(slots) => slots,
        }
    }
}

impl DerefMut for Region {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Option<Key>] {
        match self {
            Region::Few { slots, len } => &mut slots[..usize::from(*len)],
            Region::Many(slots) => slots,
        }
    }
}

/// Minimum number of blocks of a region, unless the file has fewer; and number of blocks of one that is kept when it is empty.
pub(in crate::folio) const SMALL_REGION: usize = 16;

/// The folios of a file, and its length.
#[derive(Debug)]
pub(crate) struct Table {
    pub(in crate::folio) geometry: Geometry,
    pub(in crate::folio) home: Home,
    /// The logarithm of the length of a region: at least that of the largest folio.
    pub(in crate::folio) region_bits: u32,
    pub(in crate::folio) regions: Radix<Region>,
    pub(in crate::folio) folios: Slab<Folio>,
    /// The position where a walk over the folios of this file alone continues.
    pub(in crate::folio) hand: usize,
    /// Length of the file in bytes.
    pub(in crate::folio) size: u64,
    /// What threads are reading from the store without the lock.
    pub(in crate::folio) watches: Watches,
    /// The file's mappings, once there has been one.
    pub(in crate::folio) mapped: Option<Box<Mapped>>,
    /// The bytes that the store has taken and not made durable.
    pub(in crate::folio) unsynced: Unsynced,
}

impl Table {
    pub(crate) fn new(geometry: Geometry, size: u64, home: Home) -> Table {
        Table {
            geometry,
            home,
            region_bits: geometry.max_folio.max(SMALL_REGION * geometry.block).trailing_zeros(),
            regions: Radix::new(),
            folios: Slab::new(),
            hand: 0,
            size,
            watches: Watches::default(),
            mapped: None,
            unsynced: Unsynced::new(),
        }
    }

    /// Returns the length of the file in bytes.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file's mappings, if there has been one.
    #[inline]
    pub(crate) fn mapped(&self) -> Option<&Mapped> {
        self.mapped.as_deref()
    }

    pub(crate) fn mapped_mut(&mut self) -> Option<&mut Mapped> {
        self.mapped.as_deref_mut()
    }

    /// Returns the number of folios.
    pub(crate) fn len(&self) -> usize {
        self.folios.len()
    }

    #[inline]
    pub(in crate::folio) fn place(&self, pos: u64) -> (u64, usize) {
        let within = pos as usize & ((1 << self.region_bits) - 1);
        (pos >> self.region_bits, self.geometry.blocks(within))
    }

    /// Returns the folio that contains the byte at `pos`.
    #[inline]
    pub(crate) fn find(&self, pos: u64) -> Option<Key> {
        let (region, block) = self.place(pos);
        match self.regions.get(region)? {
            Region::Few { slots, .. } => *slots.get(block)?,
            Region::Many(slots) => *slots.get(block)?,
        }
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

    /// Inserts a folio where there is none, and where [`is_ready_for`](Self::is_ready_for) has found room. Returns whether
    /// it could enter the order of eviction: if not, the folio is dropped. Async-signal-safe.
    pub(crate) fn insert_in_signal(&mut self, mut folio: Folio) -> bool {
        let arrival = self.arrival(&folio);
        let Some(place) = folio.memory.account().queue().push_in_signal(&arrival) else { return false };
        folio.place = place;
        self.put(folio);
        true
    }

    pub(in crate::folio) fn arrival(&self, folio: &Folio) -> Arrival {
        Arrival {
            file: self.home.slot,
            key: Key::of(self.folios.vacant_key()),
            print: self.home.print(folio.start()),
            len: folio.len(),
            at: folio.memory.account().at(),
        }
    }

    /// Puts a folio where there is none, and where its region has room.
    pub(in crate::folio) fn put(&mut self, folio: Folio) -> Key {
        let (region, first) = self.place(folio.start());
        let blocks = self.geometry.blocks(folio.len());
        let key = Key::of(self.folios.insert(folio));
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

    pub(in crate::folio) fn blocks_of_region(&self) -> usize {
        self.geometry.blocks(1 << self.region_bits)
    }
}
