//! No bug is compiled into a program unless it injects one, which takes `unsafe` code. (The module of [`Mutation`] has a
//! compile-fail example of a safe implementation.)

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::CacheOptions;
use faultin_cache::copy::MayWait;
use faultin_cache::mutation::{Bug, Mutated, Mutation, Sound};
use faultin_cache::store::MemoryStore;

use crate::common::buggy::Buggy;

/// The default mutation has no bug and no state for one.
#[test]
fn the_default_has_no_bug() {
    const { assert!(size_of::<Sound>() == 0) };
    assert_eq!(Sound.bug(), None);
    assert!(Bug::ALL.iter().all(|&bug| !Sound.has(bug)));
}

/// A bug belongs to one operation, not to the file.
#[test]
fn an_operation_with_a_bug_leaves_the_others_without() {
    let file = CacheOptions::new().build().open(MemoryStore::new([])).unwrap();
    let mutated = Mutated::new(&file, Buggy(Some(Bug::CumulativeCount)));
    let write = || IovSource::<ReadView<'_>>::one(&b"some bytes"[..]);
    assert_eq!(mutated.write_iter_with::<_, MayWait>(&mut write(), 0, &mut ()).unwrap(), 10);
    assert_eq!(file.write_iter(&mut write(), 10).unwrap(), 10);
    assert_eq!(file.len().unwrap(), 20);
}
