//! The kernel as an oracle: the same calls to a file of the kernel and to a cached file.
//!
//! A *case* is a region of user memory with good and bad pages, a cache, and a sequence of vectored writes and reads of
//! parts of the region. After each, the counts, the errors, both files and the region must be the same. A third file, the
//! *twin*, is written and read past the cache in turn, and must be the same as the cached one.
//!
//! `FAULTIN_ORACLE_CASES` sets the number of cases, `FAULTIN_ORACLE_SEED` the first seed.

#[path = "../common/buggy.rs"]
mod buggy;
mod case;
mod kernel;
#[path = "../../../faultin-audit/src/callers/kernel_loops.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod kernel_loops;
mod limits;
mod ours;
mod quirks;
mod random;
mod region;
mod run;
mod sequence;
mod sequences;
mod threads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: another test's mapping may fill a hole.
fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
