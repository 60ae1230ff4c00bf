//! Models of what runs in signal handlers of `faultin-cache` and `faultin`: the reader-writer lock, the pager's mailbox, the
//! slots of threads that hold locks; how pagers' ranges and guards end, predecessors' actions, stamps of files, and the
//! epoch of a mapping; run under every order of their steps that loom finds.
//!
//! The sources are the crates' own files. They know atomics, futexes and the like from their `crate::sync` only, and here
//! that is `sync`: loom's atomics, and a futex and a bell made of a mutex and a condition variable. `cargo test` runs the
//! models; a sleep that nobody ends is a deadlock to loom, which reports it.
//!
//! Each model bounds how often threads are interrupted where they could go on, per run. What stays unexplored beyond it is
//! for the stress tests of `faultin-cache`.

// The crate uses all of it; the models need not.
#![allow(dead_code, reason = "files of another crate's")]

#[allow(clippy::modulo_one, reason = "there is one word here, so that it is shared")]
#[path = "../../faultin-cache/src/pager/mailbox.rs"]
mod mailbox;
#[path = "../../faultin-cache/src/lock/raw.rs"]
mod raw;
#[path = "../../faultin-cache/src/lock/slots.rs"]
mod slots;
mod sync;

/// Where the crate has it.
mod lock {
    pub(crate) use crate::raw::RawLock;
}

#[path = "../../faultin/src/registry/disposition.rs"]
mod disposition;
#[path = "../../faultin/src/signal/epoch.rs"]
mod epoch;
mod map;
#[path = "../../faultin/src/signal/users.rs"]
mod users;

#[cfg(test)]
mod ends;

#[cfg(test)]
mod locks;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod records;

/// Runs `body` under every order of steps with up to so many preemptions; or `LOOM_MAX_PREEMPTIONS`, if it is set.
pub fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(body);
}
