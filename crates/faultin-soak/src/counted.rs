//! At the end, what was injected is compared with what was counted: every error that a store has returned is in the cache's
//! numbers, and every fault is in the events. Nothing is counted twice, either.

use std::sync::atomic::Ordering::Relaxed;

use super::worker::Checked;
use super::world::World;

/// # Errors
/// The numbers that differ.
pub fn check(world: &World) -> Checked {
    let stats = world.cache.stats();
    let stores = || world.files.iter().map(|file| &file.store);
    let [reads, writes, others] = [0, 1, 2].map(|call| stores().map(|store| store.failed()[call]).sum::<u64>());
    let asked_to_write: u64 = stores().map(|store| store.asked_to_write.load(Relaxed)).sum();
    let (events, faults) = (faultin::events(), faultin::signal::counters().faults());
    let numbered = events.overwritten() + events.as_slice().len() as u64;
    let compared = [
        ("errors of reads", reads, stats.store.read_errors),
        ("errors of writes", writes, stats.store.write_errors),
        ("errors of other calls", others, stats.store.other_errors),
        ("writes", asked_to_write, stats.store.writes),
        ("faults", numbered, faults),
    ];
    match compared.iter().find(|(_, made, counted)| made != counted) {
        None => Ok(()),
        Some((what, made, counted)) => Err(format!("{made} {what}, of which {counted} were counted")),
    }
}
