//! Reading ahead in the background.
//!
//! Ranges wait in a queue of bounded size, for threads that are started when there is something to do, and end when there
//! has been nothing for a while. They fill blocks as [`fill_many`](crate::inode::Inode::fill_many) does: only memory that
//! is free or clean, and that no operation wants, is used for it.

#![forbid(unsafe_code)]

pub(crate) mod queue;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use queue::{Job, Prefetcher};

use crate::inode::{Inode, Shared};
use crate::signals::without_signals;

/// The part of the queue's bound that a thread takes at once: a divisor.
const PORTION: u64 = 2;

impl Prefetcher<Inode> {
    /// Enters what is missing of the ranges, as far as the bound allows. Returns the number of bytes.
    pub(crate) fn add(&self, inode: &Arc<Inode>, ranges: &[Range<u64>]) -> u64 {
        let cache = &inode.cache();
        if !cache.is_ours() {
            return 0;
        }
        let missing: Vec<_> = match inode.table().try_shared() {
            Some(table) => ranges.iter().flat_map(|range| table.missing(range.clone(), 0)).collect(),
            // It may be in memory; then there is nothing to do later.
            None => ranges.iter().filter(|range| !range.is_empty()).cloned().collect(),
        };
        self.enter(inode, missing, cache.share() as u64, || start(cache))
    }
}

/// Starts a thread. Returns whether it was.
fn start(cache: &Arc<Shared>) -> bool {
    let cache = Arc::clone(cache);
    let builder = thread::Builder::new().name("prefetch".to_owned());
    without_signals(|| builder.spawn(move || run(&cache))).is_ok()
}

fn run(cache: &Shared) {
    let prefetcher = &cache.prefetcher;
    while let Some(jobs) = prefetcher.next(cache.share() as u64 / PORTION) {
        let bytes = jobs.iter().map(Job::bytes).sum();
        let runs = jobs.iter().map(|job| job.range.clone()).collect();
        // A store that panics does so again in the read that needs the bytes.
        let _ = catch_unwind(AssertUnwindSafe(|| jobs[0].file.fill_many(runs)));
        drop(jobs);
        prefetcher.done(bytes);
    }
}
