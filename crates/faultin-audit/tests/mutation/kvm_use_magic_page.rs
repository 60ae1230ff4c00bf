//! Row 1.

use faultin::memory::ReadMemory;
use faultin_audit::Scenario::{AllResident, FirstPageBad, InaccessibleTail, Poisoned};

use crate::{assert_red, ended, mutated, mutation};

mutation!(Trusting, |user, log| {
    let word = user.source()?.load::<u32>(0);
    log.accessed("load", 4, &word);
    ended("on", 4)
});

#[test]
fn it_does_not_look_at_the_result() {
    assert_red(&mutated(1, Trusting), &[FirstPageBad, Poisoned, InaccessibleTail]);
}

mutation!(Narrow, |user, log| {
    let byte = user.source()?.load::<u8>(0);
    log.accessed("load", 1, &byte);
    if byte.is_ok() { ended("on", 1) } else { ended("off", 0) }
});

#[test]
fn it_reads_a_byte_too_few() {
    assert_red(&mutated(1, Narrow), &[AllResident]);
}
