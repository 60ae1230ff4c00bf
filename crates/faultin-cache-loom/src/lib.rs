//! Models of the code that runs in signal handlers of `faultin-cache` and `faultin`: the reader-writer lock, the pager's
//! mailbox, the slots of threads that hold locks; the tree of registered ranges and its slots, the end of pagers' ranges and
//! guards, predecessors' actions, stamps of files, the epoch of a mapping, and the ring of events; run under every order of
//! their steps that loom finds.
//!
//! The sources are the crates' own files. They import atomics, futexes and the like from their `crate::sync` only, and here
//! that is `sync`: loom's atomics, and a futex and a bell made of a mutex and a condition variable. `cargo test` runs the
//! models; a sleep that no thread ends is a deadlock for loom, which reports it.
//!
//! Each model bounds the number of preemptions per run. The stress tests of `faultin-cache` cover what stays unexplored
//! beyond it.

// The crate uses all of it; the models need not.
#![allow(dead_code, reason = "files of another crate's")]

use std::time::Instant;

#[allow(clippy::modulo_one, reason = "there is one word here, so that it is shared")]
#[path = "../../faultin-cache/src/pager/inside/mailbox.rs"]
mod mailbox;
#[allow(clippy::absurd_extreme_comparisons, reason = "here, the first meeting is often enough")]
#[path = "../../faultin-cache/src/lock/inside/raw.rs"]
mod raw;
#[path = "../../faultin-cache/src/lock/inside/regions.rs"]
mod regions;
mod signal;
mod sync;
#[path = "../../faultin-cache/src/lock/inside/slots.rs"]
mod threads;

/// At its path in the crate.
mod lock {
    pub(crate) use crate::raw::RawLock;
    pub(crate) use crate::regions::Regions;
    pub(crate) use crate::threads::{Thread, Threads};
}

/// Waits, which no model has.
mod sleep {
    pub(crate) fn sleep(pause: std::time::Duration) {
        std::thread::sleep(pause);
    }
}
/// The part of system call errors that queries of files need.
mod errno {
    /// An error with the name of its call, which no model uses.
    pub(crate) struct CallError;

    impl CallError {
        pub(crate) fn last(_call: &'static str) -> std::io::Error {
            std::io::Error::last_os_error()
        }

        pub(crate) fn name(_call: &'static str, error: std::io::Error) -> std::io::Error {
            error
        }
    }
}
mod map;
#[path = "../../faultin/src/stat.rs"]
mod stat;

#[cfg(test)]
mod ends;

#[cfg(test)]
mod locks;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod records;
#[cfg(test)]
mod registered;
#[cfg(test)]
mod rings;

/// Runs `body` under every order of steps with at most `preemptions` preemptions, and `FAULTIN_LOOM_MORE` more if it is
/// set; or with `LOOM_MAX_PREEMPTIONS`. If `LOOM_MAX_DURATION` seconds do not suffice, the untried orders are counted as a
/// skip.
pub fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let more =
        std::env::var("FAULTIN_LOOM_MORE").map_or(0, |more| more.parse().expect("FAULTIN_LOOM_MORE is a number"));
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(preemptions + more);
    builder.max_branches = 20_000;
    // Number of orders, after which it checks the duration.
    builder.checkpoint_interval = 100;
    let (limit, begun) = (builder.max_duration, Instant::now());
    builder.check(body);
    if let Some(limit) = limit.filter(|limit| begun.elapsed() >= *limit) {
        let model = std::thread::current().name().unwrap_or("a model").to_owned();
        faultin_test::skipped("orders", format!("{model}: {limit:?} do not suffice for {bound} preemptions"));
    }
}
