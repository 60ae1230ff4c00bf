//! One bit for each block of a folio.
//!
//! Only one thread changes them at a time: the owner of the folio, or the one that holds the writeback lock. So plain loads
//! and stores suffice, and there are no read-modify-write operations; except where threads
//! [overwrite](super::overwrite) ranges of a folio beside each other.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORD: usize = u64::BITS as usize;

/// A set of numbers below a bound.
#[derive(Debug)]
pub(crate) struct Bits {
    /// In place for the small folios, of which there are many.
    first: AtomicU64,
    more: Box<[AtomicU64]>,
}

impl Bits {
    /// Makes an empty set of numbers below `len`. Allocates nothing if that is at most 64.
    pub(crate) fn new(len: usize) -> Bits {
        Bits { first: AtomicU64::new(0), more: if len > WORD { Self::more(len) } else { Box::default() } }
    }

    // Outside signals: it allocates.
    fn more(len: usize) -> Box<[AtomicU64]> {
        (1..len.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect()
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        if index == 0 { &self.first } else { &self.more[index - 1] }
    }

    /// Returns the words that `range` touches, each with the bits of the range in it.
    #[inline]
    fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let Range { start, end } = range;
        (start / WORD..end.div_ceil(WORD)).map(move |index| {
            let from = start.saturating_sub(index * WORD);
            let to = (end - index * WORD).min(WORD);
            (index, (u64::MAX << from) & (u64::MAX >> (WORD - to)))
        })
    }

    /// Adds a range, and returns how many of it were not in the set.
    #[inline]
    pub(crate) fn set(&self, range: Range<usize>) -> usize {
        let mut added = 0;
        for (index, mask) in Self::masks(range) {
            let word = self.word(index);
            let old = word.load(Relaxed);
            if old & mask != mask {
                added += (mask & !old).count_ones() as usize;
                word.store(old | mask, Relaxed);
            }
        }
        added
    }

    /// Adds a range as [`set`](Self::set) does, while other threads may do the same.
    #[inline]
    pub(crate) fn set_beside_others(&self, range: Range<usize>) -> usize {
        let add = |(index, mask): (usize, u64)| {
            let word = self.word(index);
            // Usually they are set, and then no other thread has to wait for the line.
            let old = if word.load(Relaxed) & mask == mask { mask } else { word.fetch_or(mask, Relaxed) };
            (mask & !old).count_ones() as usize
        };
        Self::masks(range).map(add).sum()
    }

    /// Removes a range, and returns how many of it were in the set.
    pub(crate) fn clear(&self, range: Range<usize>) -> usize {
        let mut removed = 0;
        for (index, mask) in Self::masks(range) {
            let word = self.word(index);
            let old = word.load(Relaxed);
            removed += (mask & old).count_ones() as usize;
            word.store(old & !mask, Relaxed);
        }
        removed
    }

    /// Returns the first of a range that is in the set.
    pub(crate) fn first_set(&self, range: Range<usize>) -> Option<usize> {
        self.first(range, |word| word)
    }

    /// Returns the first of a range that is not.
    #[inline]
    pub(crate) fn first_clear(&self, range: Range<usize>) -> Option<usize> {
        self.first(range, |word| !word)
    }

    #[inline]
    fn first(&self, range: Range<usize>, which: impl Fn(u64) -> u64) -> Option<usize> {
        Self::masks(range).find_map(|(index, mask)| {
            let found = which(self.word(index).load(Relaxed)) & mask;
            (found != 0).then(|| index * WORD + found.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_a_list_of_flags(len in 1_usize..=200, ops in prop::collection::vec((any::<bool>(), 0_usize..200, 0_usize..200), 1..30)) {
            let bits = Bits::new(len);
            let mut flags = vec![false; len];
            for (turn, (set, a, b)) in ops.into_iter().enumerate() {
                let (start, end) = (a.min(b).min(len), a.max(b).min(len));
                let changed = flags[start..end].iter().filter(|&&flag| flag != set).count();
                let set_bits = if turn % 2 == 0 { Bits::set } else { Bits::set_beside_others };
                prop_assert_eq!(if set { set_bits(&bits, start..end) } else { bits.clear(start..end) }, changed);
                flags[start..end].fill(set);
                let find = |what| (start..len).find(|&at| flags[at] == what);
                prop_assert_eq!(bits.first_set(start..len), find(true));
                prop_assert_eq!(bits.first_clear(start..len), find(false));
            }
        }
    }
}
