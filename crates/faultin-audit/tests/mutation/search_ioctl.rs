//! Row 15.

use faultin::Granularity;
use faultin::memory::{WriteMemory, WriteNoWait};
use faultin_audit::Scenario::{
    AllResident, Evicted, FirstPageBad, InaccessibleTail, Poisoned, ReadOnly, RestartGranuleBad, SecondPageBad,
};
use faultin_audit::caller::Ended;
use faultin_audit::log::Log;
use faultin_audit::{Cell, Memory};

use crate::{assert_red, ended, mutated, mutation};

/// The sizes of the records in bytes.
const RECORDS: [usize; 6] = [52, 80, 32, 65, 132, 39];

/// Packs as many records as possible, from `packed` on.
fn pack(to: &impl WriteNoWait, packed: &mut usize, log: &mut Log) -> bool {
    let mut begins = 0;
    for len in RECORDS {
        if begins == *packed {
            let copied = to.write_nowait(&vec![1; len], begins);
            log.copied("pack a record", len, &copied);
            if copied.is_err() {
                return false;
            }
            *packed += len;
        }
        begins += len;
    }
    true
}

fn on(memory: Memory, cells: Vec<Cell>) -> Vec<Cell> {
    cells.into_iter().filter(|cell| cell.memory == memory).collect()
}

mutation!(ProvesPages, |user, log| {
    let (to, mut packed) = (user.dest()?, 0);
    loop {
        if to.probe(packed..to.len(), Granularity::Page).is_err() {
            return ended("EFAULT", 0);
        }
        if pack(&to, &mut packed, log) {
            return ended("ok", packed);
        }
        log.again()?;
    }
});

#[test]
fn it_proves_pages_and_never_ends_at_a_granule() {
    let cells = on(Memory::Sim, mutated(15, ProvesPages));
    assert_red(&cells, &[RestartGranuleBad]);
    assert_eq!(cells.iter().find(|cell| cell.scenario == RestartGranuleBad).map(Cell::actual), Some("∞".into()));
}

mutation!(TakesAPart, |user, log| {
    let (to, mut packed) = (user.dest()?, 0);
    let all = pack(&to, &mut packed, log);
    ended(if all || packed > 0 { "ok" } else { "EFAULT" }, packed)
});

#[test]
fn it_is_content_with_the_records_that_fit() {
    assert_red(&mutated(15, TakesAPart), &[SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad]);
    // Where the kernel resolves the faults no page is ever missing.
    assert_red(&on(Memory::Sim, mutated(15, TakesAPart)), &[Evicted]);
}

mutation!(HoldsTheTree, |user, log| {
    let to = user.dest()?;
    if to.probe(0..to.len(), Granularity::Tag).is_err() {
        return ended("EFAULT", 0);
    }
    log.lock("the tree");
    let copied = to.write(&[1; 400], 0);
    log.copied("pack with page faults enabled", 400, &copied);
    if copied.is_ok() { ended("ok", 400) } else { ended("EFAULT", 0) }
});

#[test]
fn it_keeps_the_tree_locked() {
    assert_red(&mutated(15, HoldsTheTree), &[AllResident, Evicted]);
}

mutation!(ClearsFirst, |user, log| {
    let (to, before) = (user.dest()?, user.contents()?);
    let cleared = to.fill(0..to.len(), 0);
    log.copied("clear the buffer", to.len(), &cleared);
    let mut packed = 0;
    let all = cleared.is_ok() && pack(&to, &mut packed, log);
    let product = if user.contents()?[400..] == before[400..] { Ok(()) } else { Err("zeros".into()) };
    Ok(Ended { status: if all { "ok" } else { "EFAULT" }, moved: packed, product })
});

#[test]
fn it_clears_what_no_record_reaches() {
    assert_red(&mutated(15, ClearsFirst), &[AllResident]);
}

mutation!(Trusting, |user, log| {
    let (to, mut packed) = (user.dest()?, 0);
    pack(&to, &mut packed, log);
    ended("ok", RECORDS.iter().sum())
});

#[test]
fn it_does_not_look_at_what_a_copy_says() {
    let scenarios = [FirstPageBad, SecondPageBad, ReadOnly, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(15, Trusting), &scenarios);
}
