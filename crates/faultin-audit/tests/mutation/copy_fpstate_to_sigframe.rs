//! Row 14.

use faultin::memory::WriteMemory;
use faultin_audit::Scenario::{AllResident, Cold, Evicted, InaccessibleTail, ReadOnly, SecondPageBad};
use faultin_audit::caller::Ended;
use faultin_audit::user::Registers;
use faultin_audit::{Memory, Scenario};

use crate::{assert_red, ended, mutated, mutation, red_on};

mutation!(StaleHeader, |user, _log| {
    let (frame, registers) = (user.dest()?, U::Registers::patterned(1, user.scale()));
    if user.save_registers(&frame, &registers).is_err() {
        return ended("SIGSEGV", 0);
    }
    let witness = user.witness()?;
    let product = witness.restore_registers(&witness.source()?).map(drop).map_err(|fault| fault.to_string());
    Ok(Ended { status: "saved", moved: frame.len(), product })
});

#[test]
fn it_leaves_the_header_as_it_was() {
    let cells = mutated(14, StaleHeader);
    assert!(red_on(Memory::Sim, &cells).contains(&AllResident));
    // Other machines' images have no header.
    assert!(!cfg!(target_arch = "x86_64") || red_on(Memory::Host, &cells).contains(&AllResident));
}

mutation!(Killed, |_user, _log| { ended("SIGSEGV", 0) });

#[test]
fn it_is_killed_for_a_page_it_could_write() {
    assert_red(&mutated(14, Killed), &[AllResident, Cold, Evicted]);
}

mutation!(Unproven, |user, log| {
    let (frame, registers) = (user.dest()?, U::Registers::patterned(1, user.scale()));
    for attempt in 1..=16 {
        let saved = user.save_registers(&frame, &registers);
        log.accessed(format!("save, attempt {attempt}"), frame.len(), &saved);
        if saved.is_ok() {
            return ended("saved", frame.len());
        }
        log.again()?;
    }
    ended("SIGSEGV", 0)
});

#[test]
fn it_tries_again_without_a_proof() {
    let scenarios: [Scenario; 3] = [SecondPageBad, ReadOnly, InaccessibleTail];
    assert_red(&mutated(14, Unproven), &scenarios);
}
