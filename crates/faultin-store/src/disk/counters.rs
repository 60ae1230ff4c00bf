//! Counters of a tier.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What has happened to a tier.
#[derive(Debug, Default)]
pub struct Counters {
    pub hits: Counter,
    pub misses: Counter,
    pub late: Counter,
    pub damaged: Counter,
    pub stored: Counter,
    pub dropped: Counter,
    pub evicted: Counter,
    pub errors: Counter,
}
