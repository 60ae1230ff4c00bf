//! A set of byte positions.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

/// Maximum number of separate ranges: about 400 KiB. A set that would have more joins neighbours.
const MOST: usize = 1 << 14;

/// A set of byte positions, as ranges that neither overlap nor touch. If there were very many, it may contain more than was
/// inserted, between ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Ends by starts.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the ranges in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ends.iter().map(|(&start, &end)| start..end)
    }

    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        while let Some((&from, &to)) = self.ends.range(..=end).next_back().filter(|(_, to)| **to >= start) {
            self.ends.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.ends.insert(start, end);
        if self.ends.len() > MOST {
            self.join_pairs();
        }
    }

    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&from, &to)) = self.ends.range(..range.end).next_back().filter(|(_, to)| **to > range.start) {
            self.ends.remove(&from);
            if from < range.start {
                self.ends.insert(from, range.start);
            }
            if to > range.end {
                self.ends.insert(range.end, to);
            }
        }
    }

    /// Moves all of `other` to this set.
    pub(crate) fn append(&mut self, other: &mut Ranges) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        std::mem::take(other).iter().for_each(|range| self.insert(range));
    }

    /// Joins each range with the one that follows it, and fills the gap.
    fn join_pairs(&mut self) {
        let ranges: Vec<_> = self.iter().collect();
        self.ends = ranges.chunks(2).filter_map(|pair| Some((pair.first()?.start, pair.last()?.end))).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_a_list_of_flags(ops in prop::collection::vec((any::<bool>(), 0_usize..100, 0_usize..100), 1..40)) {
            let (mut ranges, mut flags) = (Ranges::default(), [false; 100]);
            for (inserts, a, b) in ops {
                let (start, end) = (a.min(b), a.max(b));
                if inserts {
                    ranges.insert(start as u64..end as u64);
                } else {
                    ranges.remove(start as u64..end as u64);
                }
                flags[start..end].fill(inserts);
                let all: Vec<_> = ranges.iter().collect();
                prop_assert!(all.iter().all(|range| !range.is_empty()));
                prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", all);
                let is_in = |at: usize| all.iter().any(|range| range.contains(&(at as u64)));
                prop_assert!((0..100).all(|at| is_in(at) == flags[at]), "{:?}", all);
            }
        }
    }

    #[test]
    fn very_many_ranges_become_fewer_and_stay_within() {
        let mut ranges = Ranges::default();
        let at = |index: usize| 10 * index as u64..10 * index as u64 + 1;
        (0..10 * MOST).for_each(|index| ranges.insert(at(index)));
        let all: Vec<_> = ranges.iter().collect();
        assert!(all.len() <= MOST, "{}", all.len());
        for index in 0..10 * MOST {
            let is_in = all.binary_search_by(|range| range.start.cmp(&at(index).start)).unwrap_or_else(|next| next - 1);
            assert!(all[is_in].contains(&at(index).start), "{index}");
        }
        assert_eq!((all[0].start, all[all.len() - 1].end), (0, at(10 * MOST - 1).end));
    }
}
