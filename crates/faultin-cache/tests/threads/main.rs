//! Many threads on few files, with hardly any memory and a slow store.
//!
//! * `appends`: records at the end of a file: none is torn, none is lost, each is there once.
//! * `versions`: records that are overwritten while others read them: nobody ever sees one that is older than a write that
//!   was done.
//! * `cuts`: a file that is made shorter and longer while others read it.
//! * `reclaim`: files that take each other's memory.
//! * `handles`: files that are opened and closed, and errors that are reported, while the cache is synced.

mod appends;
mod cuts;
mod handles;
mod reclaim;
mod slow;
mod versions;

#[path = "../common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};

/// What some threads do until the others are done.
struct Until(AtomicBool);

impl Until {
    fn new() -> Until {
        Until(AtomicBool::new(false))
    }

    /// Done when this is dropped, also by a panic. Has to outlive the scope of the threads that are waited for.
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
