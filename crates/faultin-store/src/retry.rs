//! When a request that failed is sent again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pauses before retries: exponential, with jitter, so that clients that failed together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    random: AtomicU64,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration, seed: u64) -> Backoff {
        Backoff { first, longest: longest.max(first), random: AtomicU64::new(seed) }
    }

    /// Returns the pause before the retry with this number, from 1 on: between half of what is doubled each time, and all
    /// of it.
    pub(crate) fn pause(&self, retry: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest);
        whole / 2 + (whole / 2).mul_f64(self.fraction())
    }

    /// Returns a number from 0 to 1: SplitMix64.
    fn fraction(&self) -> f64 {
        let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2), 7);
        for (retry, whole) in [(1, 100), (2, 200), (3, 400), (5, 1600), (6, 2000), (40, 2000), (u32::MAX, 2000)] {
            let pauses: Vec<_> = (0..50).map(|_| backoff.pause(retry).as_micros() as u64).collect();
            assert!(pauses.iter().all(|&pause| (whole * 500..=whole * 1000).contains(&pause)), "{retry}: {pauses:?}");
            assert!(pauses.iter().max() > pauses.iter().min());
        }
    }
}
