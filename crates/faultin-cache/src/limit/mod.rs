//! A limit that follows the memory that this process may use.
//!
//! A process in a control group may use less than the machine has, and the limit of a group may change while it runs. A
//! cache that [follows](crate::CacheOptions::follow) it asks when it is made, and then again at an interval, in a thread of
//! its own. (No operation and no signal handler reads these files.)
//!
//! If the limit falls, the cache shrinks: it evicts clean blocks in the order of eviction, writes dirty ones back and evicts
//! them, and returns the memory to the kernel. What cannot be evicted stays, and the cache is larger than its limit for as
//! long: dirty blocks that their store does not take, folios of files that other threads are working on, blocks that are
//! being read, and the two blocks that each file in use may have. It is tried again at each interval. Meanwhile operations
//! that need memory evict first, as always.
//!
//! The memory of the cache, with that of mapped files, is at most 5 % larger than the limit, or than what is in use beyond it.
//! Memory that is free is not given to other folios as long as it is in pieces that are too small; then folios are smaller than
//! they might be. It is returned to the kernel when a mapped file needs as much.

#![forbid(unsafe_code)]

pub(crate) mod follower;
mod groups;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use follower::{Follower, SHORTEST, Stop};

use crate::inode::Shared;
use crate::signals::without_signals;

/// How a cache follows the memory of its process.
///
/// ```
/// use std::time::Duration;
///
/// use faultin_cache::{CacheOptions, limit::Follow};
///
/// let cache = CacheOptions::new().follow(Follow::new().percent(50).interval(Duration::from_secs(5))).build();
/// assert!(cache.limit() as u64 <= faultin_cache::limit::memory_of_process().unwrap_or(u64::MAX));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    percent: u8,
    interval: Duration,
}

impl Default for Follow {
    fn default() -> Self {
        Self::new()
    }
}

impl Follow {
    /// Returns the default: a quarter of the memory, which is asked for each second.
    pub fn new() -> Self {
        Follow { percent: 25, interval: Duration::from_secs(1) }
    }

    /// Sets the part of the [memory of the process](memory_of_process) that the cache may use, in percent; 100 at most.
    #[must_use]
    pub fn percent(self, percent: u8) -> Self {
        Follow { percent: percent.min(100), ..self }
    }

    /// Sets the time between two readings; 10 ms at least.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Follow { interval: interval.max(SHORTEST), ..self }
    }

    /// Returns the limit now, of at most `most` bytes. `None` if nothing is known.
    pub(crate) fn limit(&self, most: Option<usize>) -> Option<usize> {
        let part = memory_of_process().map(|memory| memory / 100 * u64::from(self.percent));
        let part = part.map(|part| usize::try_from(part).unwrap_or(usize::MAX));
        [part, most].into_iter().flatten().min()
    }
}

/// Returns the number of bytes of memory that this process may use, `None` if nothing is known: the least of
///
/// * the limits of its control group and of all groups around it (version 2: `memory.max` and `memory.high`; version 1:
///   `memory.limit_in_bytes`), as far as they are visible,
/// * its own limits (`RLIMIT_AS`, `RLIMIT_DATA`),
/// * the memory of the machine.
///
/// It reads some small files of `/proc` and of the control groups' file systems.
pub fn memory_of_process() -> Option<u64> {
    let own = Some(crate::sys::memory_limit()).filter(|&bytes| bytes < u64::MAX);
    let machine = crate::sys::memory().map(|bytes| bytes as u64).filter(|&bytes| bytes > 0);
    [own, groups::limit(Path::new("/")), machine].into_iter().flatten().min()
}

impl Follower {
    /// Starts the thread. `None` if there can be none: then the limit stays.
    pub(crate) fn start(cache: &Arc<Shared>, follow: Follow, most: Option<usize>) -> Option<Follower> {
        let stop = Arc::<Stop>::default();
        let (cache, also) = (Arc::downgrade(cache), Arc::clone(&stop));
        let builder = thread::Builder::new().name("memory limit".to_owned());
        without_signals(|| builder.spawn(move || run(&cache, &also, follow, most))).ok()?;
        Some(Follower(stop))
    }
}

fn run(cache: &Weak<Shared>, stop: &Stop, follow: Follow, most: Option<usize>) {
    loop {
        let mut is_over = stop.is_over.lock();
        if !*is_over {
            stop.changed.wait_for(&mut is_over, follow.interval);
        }
        if *is_over {
            return;
        }
        drop(is_over);
        let Some(cache) = cache.upgrade() else { return };
        // Also if it has not changed: something may have stayed the last time.
        let limit = follow.limit(most).unwrap_or_else(|| cache.limit());
        // A store that panics does so again in a sync of its file.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.set_limit(limit)));
    }
}
