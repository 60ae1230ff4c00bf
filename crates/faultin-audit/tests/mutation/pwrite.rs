//! Row 6.

use faultin::memory::ReadMemory;
use faultin_audit::Scenario::{InaccessibleTail, Poisoned, SecondPageBad};

use crate::{assert_red, ended, mutated, mutation};

mutation!(Forgetful, |user, _log| {
    let from = user.source()?;
    let _ = from.read(&mut vec![0; from.len()], 0);
    ended("ok", from.len())
});

#[test]
fn it_forgets_what_is_left() {
    assert_red(&mutated(6, Forgetful), &[SecondPageBad, Poisoned, InaccessibleTail]);
}

mutation!(WholePages, |user, _log| {
    let from = user.source()?;
    match from.read(&mut vec![0; from.len()], 0) {
        Ok(()) => ended("ok", from.len()),
        Err(_) => ended("EFAULT", 0),
    }
});

#[test]
fn it_counts_whole_copies_only() {
    assert_red(&mutated(6, WholePages), &[SecondPageBad, Poisoned, InaccessibleTail]);
}
