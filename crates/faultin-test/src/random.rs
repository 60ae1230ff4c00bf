//! [`Random`]: numbers that look random and are the same for the same seed (splitmix64).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A sequence of numbers. Threads may share it.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Makes the sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// Makes the sequence of a seed for a user with this number: a thread, or a store.
    #[must_use]
    pub fn for_user(seed: u64, number: u64) -> Random {
        Random::new(Random::new(seed).next() ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Returns the next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number less than `end`, of its type.
    ///
    /// # Panics
    /// If `end` is not positive.
    pub fn below<N: Copy + TryInto<u64> + TryFrom<u64>>(&self, end: N) -> N {
        let end = end.try_into().ok().filter(|end| *end > 0).expect("a positive number");
        N::try_from(self.next() % end).ok().expect("less than a number of this type")
    }

    /// Returns true once in `times`, on average.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns one of these values.
    pub fn of<T: Copy>(&self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Returns a number from 0 to 1, without 1.
    pub fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a part of a range that is not empty: from one to `most` bytes.
    pub fn part(&self, of: Range<usize>, most: usize) -> Range<usize> {
        let start = of.start + self.below(of.len());
        start..start + 1 + self.below((of.end - start).min(most))
    }

    /// Returns `len` bytes.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    /// Puts items in another order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let random = Random::new(0);
        assert_eq!([random.next(), random.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::new(1).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..100));
    }
}
