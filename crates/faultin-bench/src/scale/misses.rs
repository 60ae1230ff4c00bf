//! The share of accesses that miss: of a cached file, of simulated policies, and of `quick_cache`, on the same traces.

use std::sync::Arc;

use faultin_cache::{Advice, CacheOptions, FileOptions};
use faultin_test::Zeros;
use faultin_test::eviction::{BLOCKS, Lru, Policy, ROOM, S3Fifo, Sieve, miss_ratio, traces};
use serde::Serialize;

use crate::report;

const BLOCK: usize = 4096;

/// The shares of one trace.
#[derive(Serialize)]
pub struct Misses {
    pub trace: &'static str,
    pub ours: f64,
    pub lru: f64,
    pub sieve: f64,
    pub s3_fifo: f64,
    pub quick_cache: f64,
    /// Whether ours has to be at most SIEVE's.
    pub is_bounded: bool,
}

impl Misses {
    /// Returns the shares with the names of the policies, ours first.
    pub fn shares(&self) -> [(&'static str, f64); 5] {
        [
            ("ours", self.ours),
            ("LRU", self.lru),
            ("SIEVE", self.sieve),
            ("S3-FIFO", self.s3_fifo),
            ("quick_cache", self.quick_cache),
        ]
    }
}

/// Returns the shares as a table.
pub fn table(rows: &[Misses]) -> comfy_table::Table {
    let mut table = report::plain(["share of misses", "ours", "LRU", "SIEVE", "S3-FIFO", "quick_cache"]);
    for row in rows {
        let [ours, lru, sieve, s3, quick] = row.shares().map(|(_, share)| format!("{share:.3}"));
        table.add_row([row.trace, &ours, &lru, &sieve, &s3, &quick]);
    }
    table
}

/// Measures the traces, of `len` accesses each.
///
/// # Errors
/// What failed, in words.
pub fn measure(len: usize) -> Result<Vec<Misses>, String> {
    let row = |trace: &faultin_test::eviction::Trace| {
        let simulated = |mut policy: Box<dyn Policy>| miss_ratio(&trace.accesses, |block| policy.access(block));
        Ok(Misses {
            trace: trace.name,
            ours: ours(&trace.accesses)?,
            lru: simulated(Box::new(Lru::new(ROOM))),
            sieve: simulated(Box::new(Sieve::new(ROOM))),
            s3_fifo: simulated(Box::new(S3Fifo::new(ROOM))),
            quick_cache: quick_cache(&trace.accesses),
            is_bounded: trace.name.starts_with("Zipf"),
        })
    };
    traces(len).iter().map(row).collect()
}

/// One cached file, read a block at a time.
fn ours(trace: &[u32]) -> Result<f64, String> {
    let cache = CacheOptions::new().block(BLOCK).limit(ROOM * BLOCK).build();
    let store = Arc::new(Zeros::new(2 * u64::from(BLOCKS) * BLOCK as u64));
    let options = FileOptions::new().max_folio(BLOCK);
    let file = cache.open_with(Arc::clone(&store), options).map_err(|error| error.to_string())?;
    file.advise(Advice::Random);
    let mut buffer = vec![0; BLOCK];
    let mut failed = None;
    let ratio = miss_ratio(trace, |block| {
        let before = store.reads();
        if let Err(error) = file.read_at(&mut buffer, u64::from(block) * BLOCK as u64) {
            failed.get_or_insert(error.to_string());
        }
        store.reads() == before
    });
    failed.map_or(Ok(ratio), Err)
}

fn quick_cache(trace: &[u32]) -> f64 {
    let cache = quick_cache::unsync::Cache::new(ROOM);
    let mut cache: quick_cache::unsync::Cache<u32, ()> = cache;
    miss_ratio(trace, |block| {
        let is_hit = cache.get(&block).is_some();
        if !is_hit {
            cache.insert(block, ());
        }
        is_hit
    })
}
