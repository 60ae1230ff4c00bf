//! Rows 2 to 4.

use faultin::memory::{ReadMemory, ReadNoWait};
use faultin_audit::Memory;
use faultin_audit::Scenario::{
    Cold, Evicted, FirstPageBad, InaccessibleTail, Poisoned, RestartGranuleBad, SecondPageBad,
};

use crate::{assert_red, ended, mutated, mutation};

mutation!(RestoresInPlace of SwapcontextPpc32, |user, log| {
    let context = user.source()?;
    // The mask, the pointer and the registers, one after the other; nothing is known before.
    for field in [52..60, 48..52, 192..384, 656..1184, 384..648] {
        let read = context.read(field.start, &mut vec![0; field.len()]);
        log.copied("get a field", field.len(), &read);
        if read.is_err() {
            return ended("SIGSEGV", 0);
        }
    }
    ended("ok", context.len())
});

#[test]
fn it_restores_field_by_field_and_is_killed() {
    let scenarios = [FirstPageBad, SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(2, RestoresInPlace), &scenarios);
}

mutation!(TakesAPart of SwapcontextPpc32, |user, log| {
    let context = user.source()?;
    let copied = context.read(0, &mut vec![0; context.len()]);
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

mutation!(NeverWaits of SwapcontextPpc32, |user, log| {
    let context = user.source()?;
    let copied = context.read_nowait(0, &mut vec![0; context.len()]);
    log.copied("copy the context with page faults disabled", context.len(), &copied);
    if copied.is_ok() { ended("ok", context.len()) } else { ended("EFAULT", 0) }
});

#[test]
fn it_refuses_what_is_only_not_present() {
    // Where the kernel serves the faults nothing is ever missing.
    let simulated: Vec<_> = mutated(2, NeverWaits).into_iter().filter(|cell| cell.memory == Memory::Sim).collect();
    assert_red(&simulated, &[Cold, Evicted]);
}
