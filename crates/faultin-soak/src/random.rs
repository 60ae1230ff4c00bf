//! Numbers that look random and are the same for the same seed (splitmix64).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A sequence of numbers. Threads may share it.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Makes the sequence of a seed for `who`.
    pub fn new(seed: u64, who: u64) -> Random {
        let random = Random(AtomicU64::new(seed));
        Random(AtomicU64::new(random.next() ^ who.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number less than `end`, which is not 0.
    pub fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns true once in `times`.
    pub fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a part of a range that is not empty: from one to `most` bytes.
    pub fn part(&self, of: Range<usize>, most: usize) -> Range<usize> {
        let start = of.start + self.below(of.len());
        start..start + 1 + self.below((of.end - start).min(most))
    }

    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}
