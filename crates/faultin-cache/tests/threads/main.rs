//! Many threads on few files, with hardly any memory and a slow store.
//!
//! * `appends`: appended records: none is torn or lost, and each is present once.
//! * `versions`: records that are overwritten while others read them: no reader gets one that is older than a completed
//!   write.
//! * `cuts`: a file that is truncated and extended while others read it.
//! * `reclaim`: files that reclaim each other's memory.
//! * `ranges`: writes to one file that is in memory, disjoint ones and others.
//! * `handles`: files that are opened and closed, and errors that are reported, while the cache is synced.

mod appends;
mod cuts;
mod handles;
mod ranges;
mod reclaim;
mod slow;
mod versions;

#[path = "../common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};

/// Work of some threads that lasts until the others have finished.
struct Until(AtomicBool);

impl Until {
    fn new() -> Until {
        Until(AtomicBool::new(false))
    }

    /// Finished when this is dropped, also by a panic. Must outlive the scope of the threads.
    fn done_at_end(&self) -> impl Drop + use<'_> {
        struct Done<'a>(&'a Until);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::Release);
            }
        }
        Done(self)
    }

    fn each_time(&self, mut f: impl FnMut()) {
        while !self.0.load(Ordering::Acquire) {
            f();
        }
    }
}
