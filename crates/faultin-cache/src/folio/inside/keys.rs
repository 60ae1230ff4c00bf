//! What identifies folios, and sizes of their units.

#![forbid(unsafe_code)]

use std::num::NonZeroU32;

/// Sizes of the units of a cache, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block: usize,
    pub(crate) max_folio: usize,
}

impl Geometry {
    #[inline]
    pub(crate) fn blocks(&self, bytes: usize) -> usize {
        units(bytes, self.block)
    }

    #[inline]
    pub(crate) fn block_down(&self, pos: u64) -> u64 {
        pos & !(self.block as u64 - 1)
    }

    /// Returns the end of the block with the byte before `pos`. Positions are below 2^63, so this does not wrap.
    #[inline]
    pub(crate) fn block_up(&self, pos: u64) -> u64 {
        self.block_down(pos + self.block as u64 - 1)
    }
}

/// Returns the number of whole units, of a power of two bytes: each write needs several, and a division takes as long as
/// ten shifts.
#[inline]
pub(in crate::folio) fn units(bytes: usize, unit: usize) -> usize {
    bytes >> unit.trailing_zeros()
}

/// Identifies a folio of a table as long as it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(NonZeroU32);

impl Key {
    pub(in crate::folio) fn of(index: usize) -> Key {
        Key(NonZeroU32::new(u32::try_from(index + 1).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MAX))
    }

    pub(in crate::folio) fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    pub(in crate::folio) fn number(self) -> u32 {
        self.0.get()
    }

    pub(in crate::folio) fn from_number(number: u32) -> Option<Key> {
        NonZeroU32::new(number).map(Key)
    }
}

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
    pub(in crate::folio) fn print(self, pos: u64) -> u64 {
        let mut z = pos.wrapping_add(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A folio that enters a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The slot of its file.
    pub(crate) file: u32,
    pub(crate) key: Key,
    /// A hash of the file's number and the folio's position.
    pub(crate) print: u64,
    /// Number of bytes.
    pub(crate) len: usize,
    /// The time when its memory was allocated: the number of bytes allocated before.
    pub(crate) at: u64,
}

/// A folio's place in the queues: the number of its node, or 0 before it has entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub(in crate::folio) fn of(number: u32) -> Place {
        Place(number)
    }

    pub(in crate::folio) fn number(self) -> u32 {
        self.0
    }
}
