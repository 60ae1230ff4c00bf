//! Rows 2 to 4.

use std::num::NonZeroUsize;
use std::ops::Range;

use faultin::Granularity;
use faultin::memory::{ReadMemory, ReadNoWait};
use faultin_audit::Memory;
use faultin_audit::Scenario::{
    AllResident, Cold, Evicted, FirstPageBad, InaccessibleTail, Poisoned, RestartGranuleBad, SecondPageBad,
};
use faultin_audit::caller::Ended;
use faultin_audit::log::Log;

use crate::{assert_red, ended, mutated, mutation};

/// The mask, the pointer and the registers, one after the other.
const PPC32: [Range<usize>; 5] = [52..60, 48..52, 192..384, 656..1184, 384..648];
/// The mask and the registers.
const PPC64: [Range<usize>; 5] = [40..48, 232..616, 896..1440, 616..880, 1440..1696];

/// Restores in place, and is killed by a fault.
fn field_by_field(context: &impl ReadMemory, fields: [Range<usize>; 5], log: &mut Log) -> (&'static str, usize) {
    for field in fields {
        let read = context.read(&mut vec![0; field.len()], field.start);
        log.copied("get a field", field.len(), &read);
        if read.is_err() {
            return ("SIGSEGV", 0);
        }
    }
    ("ok", context.len())
}

mutation!(RestoresInPlace, |user, log| {
    let (status, moved) = field_by_field(&user.source()?, PPC32, log);
    ended(status, moved)
});

#[test]
fn it_restores_field_by_field_and_is_killed() {
    let scenarios = [FirstPageBad, SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(2, RestoresInPlace), &scenarios);
}

mutation!(TakesAPart, |user, log| {
    let context = user.source()?;
    let copied = context.read(&mut vec![0; context.len()], 0);
    log.copied("copy the context", context.len(), &copied);
    match copied {
        Err(short) if short.done == 0 => ended("EFAULT", 0),
        _ => ended("ok", context.len()),
    }
});

#[test]
fn it_takes_a_part_of_the_context_for_all() {
    assert_red(&mutated(2, TakesAPart), &[SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad]);
}

mutation!(NeverWaits, |user, log| {
    let context = user.source()?;
    let copied = context.read_nowait(&mut vec![0; context.len()], 0);
    log.copied("copy the context with page faults disabled", context.len(), &copied);
    if copied.is_ok() { ended("ok", context.len()) } else { ended("EFAULT", 0) }
});

#[test]
fn it_refuses_what_is_only_not_present() {
    // Where the kernel resolves the faults no page is ever missing.
    let simulated: Vec<_> = mutated(2, NeverWaits).into_iter().filter(|cell| cell.memory == Memory::Sim).collect();
    assert_red(&simulated, &[Cold, Evicted]);
}

mutation!(FaultsInAPart, |user, log| {
    let context = user.source()?;
    let len = NonZeroUsize::new(context.len()).expect("a context");
    if context.fault_in(0, len).is_err() {
        return ended("EFAULT", 0);
    }
    let (status, moved) = field_by_field(&context, PPC32, log);
    ended(status, moved)
});

#[test]
fn it_faults_in_a_part_and_is_killed() {
    assert_red(&mutated(3, FaultsInAPart), &[SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad]);
}

mutation!(DebugsAnyway, |user, log| {
    let context = user.source()?;
    log.decide("set MSR");
    match context.read(&mut vec![0; context.len()], 0) {
        Ok(()) => ended("ok", context.len()),
        Err(_) => Ok(Ended { status: "EFAULT", moved: 0, product: Err("an error, and MSR changed".into()) }),
    }
});

#[test]
fn it_is_debugged_after_an_error() {
    let scenarios = [FirstPageBad, SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(3, DebugsAnyway), &scenarios);
}

mutation!(RegistersOnly, |user, log| {
    let context = user.source()?;
    let copied = context.read(&mut vec![0; context.len() - 192], 192);
    log.copied("copy the registers", context.len() - 192, &copied);
    if copied.is_ok() { ended("ok", context.len() - 192) } else { ended("EFAULT", 0) }
});

#[test]
fn it_forgets_mask_and_stack() {
    assert_red(&mutated(3, RegistersOnly), &[AllResident, Cold, Evicted]);
}

mutation!(ProvesPages, |user, log| {
    let context = user.source()?;
    let proven = context.probe(0..context.len(), Granularity::Page);
    log.copied("probe every page", context.len(), &proven);
    if proven.is_err() {
        return ended("EFAULT", 0);
    }
    let (status, moved) = field_by_field(&context, PPC64, log);
    ended(status, moved)
});

#[test]
fn it_proves_pages_and_is_killed_by_a_granule() {
    assert_red(&mutated(4, ProvesPages), &[InaccessibleTail, RestartGranuleBad]);
}

mutation!(WithoutTheLateHalves, |user, log| {
    let context = user.source()?;
    let copied = context.read(&mut [0; 1440], 0);
    log.copied("copy the context without its end", 1440, &copied);
    if copied.is_ok() { ended("ok", 1440) } else { ended("EFAULT", 0) }
});

#[test]
fn it_leaves_out_what_came_later() {
    assert_red(&mutated(4, WithoutTheLateHalves), &[AllResident, InaccessibleTail]);
}

mutation!(RestoresInPlaceToo, |user, log| {
    let (status, moved) = field_by_field(&user.source()?, PPC64, log);
    ended(status, moved)
});

#[test]
fn it_restores_field_by_field_on_64_bits() {
    let scenarios = [FirstPageBad, SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(4, RestoresInPlaceToo), &scenarios);
}
