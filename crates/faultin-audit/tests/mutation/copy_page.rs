//! Rows 7 and 16.

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::memory::{ReadMemory, WriteMemory};
use faultin_audit::Scenario::{
    AllResident, Cold, Evicted, InaccessibleTail, Poisoned, RestartGranuleBad, SecondPageBad,
};
use faultin_audit::caller::Ended;

use crate::{assert_red, ended, mutated, mutation};

mutation!(AllOrNothing, |user, _log| {
    let segments = [ReadSegment::Memory(user.source()?)];
    let mut from = IovSource::new(&segments);
    match from.copy_from_iter_full(&mut vec![0; from.count()]) {
        Ok(()) => ended("ok", user.contents()?.len()),
        Err(_) => ended("short", 0),
    }
});

#[test]
fn it_goes_back_to_the_start_on_a_short_copy() {
    assert_red(&mutated(7, AllOrNothing), &[SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad]);
}

mutation!(NoSecondWay, |user, _log| {
    let segments = [ReadSegment::Memory(user.source()?)];
    let mut from = IovSource::new(&segments);
    let all = from.count();
    let _ = from.copy_from_iter_nowait(&mut vec![0; all]);
    ended(if from.is_empty() { "ok" } else { "short" }, all - from.count())
});

#[test]
fn a_copy_without_a_second_way_is_red_where_pages_are_missing() {
    let cells = mutated(7, NoSecondWay);
    // Where the kernel resolves the faults no page is ever missing.
    let served: Vec<_> = cells.into_iter().filter(|cell| cell.memory == faultin_audit::Memory::Sim).collect();
    assert_red(&served, &[Cold, Evicted]);
}

mutation!(Shifted, |user, _log| {
    let from = user.source()?;
    let mut page = vec![0; from.len() + 1];
    let done = from.read(&mut page[1..], 0).map_or_else(|short| short.done, |()| from.len());
    let product = if page[..done] == user.contents()?[..done] { Ok(()) } else { Err("shifted".into()) };
    Ok(Ended { status: if done == from.len() { "ok" } else { "short" }, moved: done, product })
});

#[test]
fn its_bytes_land_beside_their_place() {
    assert_red(&mutated(7, Shifted), &[AllResident, SecondPageBad]);
}

mutation!(CountsTheSegment, |user, _log| {
    let to = user.dest()?;
    let (first, rest) = (to.subslice(0..66).expect("66 bytes"), to.subslice(66..to.len()).expect("the rest"));
    let mut segments = [first, rest].map(WriteSegment::Memory);
    let mut to = IovDest::new(&mut segments);
    let all = to.count();
    // Whole segments only: a cursor that moves by the requested length would count this.
    let mut moved = 0;
    for len in [66, all - 66] {
        if to.copy_to_iter(&vec![1; len]).is_err() {
            break;
        }
        moved += len;
    }
    ended(if moved == all { "ok" } else { "short" }, moved)
});

#[test]
fn it_counts_whole_segments_only() {
    let scenarios = [SecondPageBad, Poisoned, InaccessibleTail, RestartGranuleBad];
    assert_red(&mutated(16, CountsTheSegment), &scenarios);
}

mutation!(Destructive, |user, log| {
    let to = user.dest()?;
    let cleared = to.fill(0..to.len(), 0);
    log.copied("clear everything first", to.len(), &cleared);
    let done = cleared.map_or_else(|short| short.done, |()| to.len());
    let product = if user.contents()?[..done].contains(&0) { Err("zeros".into()) } else { Ok(()) };
    Ok(Ended { status: if done == to.len() { "ok" } else { "short" }, moved: done, product })
});

#[test]
fn a_copy_that_leaves_zeros_behind_is_red() {
    assert_red(&mutated(16, Destructive), &[AllResident, SecondPageBad]);
}
