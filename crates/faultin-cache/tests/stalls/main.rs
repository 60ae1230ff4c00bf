//! Operations that do not wait, and those that wait once for many: `resident`, `try_read_at`, `read_many`, `prefetch`.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of which have one")]

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod gate;
mod many;
mod mapped;
mod model;
mod now;
mod prefetch;
mod resident;
mod together;

use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, store::Store};

const BLOCK: usize = 4096;

fn cache(blocks: usize) -> Cache {
    common::watchdog::start();
    CacheOptions::new().block(BLOCK).limit(blocks * BLOCK).build()
}

/// Opens a file without readahead.
fn open(cache: &Cache, store: impl Store + 'static) -> CachedFile {
    let file = cache.open(store).expect("open it");
    file.advise(Advice::Random);
    file
}

/// Returns bytes of which each differs from its neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + (at >> 8) * 13 + (at >> 16) * 5) as u8).collect()
}

const fn block(number: usize) -> u64 {
    (number * BLOCK) as u64
}
