//! Row 5.

use faultin::memory::ReadMemory;
use faultin::{Granularity, Short};
use faultin_audit::Memory;
use faultin_audit::Scenario::{AllResident, Evicted, FirstPageBad, InaccessibleTail, SecondPageBad};

use crate::{assert_red, ended, mutated, mutation};

mutation!(PartIsSuccess, |user, log| {
    let frame = user.source()?;
    loop {
        let restored = user.restore_registers(&frame);
        log.accessed("restore", frame.len(), &restored);
        if restored.is_ok() {
            return ended("restored", frame.len());
        }
        let proven = frame.probe(0..frame.len(), Granularity::Page);
        if matches!(proven, Err(Short { done: 0, .. })) {
            return ended("SIGSEGV", 0);
        }
        log.again()?;
    }
});

#[test]
fn it_takes_a_part_for_success() {
    let cells = mutated(5, PartIsSuccess);
    assert_red(&cells, &[SecondPageBad, InaccessibleTail]);
    let sim = cells.iter().find(|cell| cell.memory == Memory::Sim && cell.scenario == SecondPageBad).unwrap();
    assert_eq!(sim.actual(), "∞");
}

mutation!(Unproven, |user, log| {
    let frame = user.source()?;
    for attempt in 1..=16 {
        let restored = user.restore_registers(&frame);
        log.accessed(format!("restore, attempt {attempt}"), frame.len(), &restored);
        if restored.is_ok() {
            return ended("restored", frame.len());
        }
        log.again()?;
    }
    ended("SIGSEGV", 0)
});

#[test]
fn it_tries_again_without_a_proof() {
    assert_red(&mutated(5, Unproven), &[FirstPageBad, SecondPageBad, InaccessibleTail]);
}

mutation!(Once, |user, log| {
    let frame = user.source()?;
    let restored = user.restore_registers(&frame);
    log.accessed("restore", frame.len(), &restored);
    if restored.is_ok() { ended("restored", frame.len()) } else { ended("SIGSEGV", 0) }
});

#[test]
fn it_gives_up_on_a_page_that_was_only_evicted() {
    assert_red(&mutated(5, Once), &[Evicted]);
}

mutation!(CountsNothing, |_user, _log| { ended("restored", 0) });

#[test]
fn its_count_is_not_the_expected_one_although_the_status_is() {
    assert_red(&mutated(5, CountsNothing), &[AllResident]);
}
