//! `fault_in` of a resident page beside what is registered in the process, and the registry of ranges alone.

use std::num::NonZeroUsize;
use std::sync::Arc;

use faultin::map::Rights;
use faultin::pager::{Pager, Registration, register};
use faultin::{Access, Cause, Fault};
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions};

use super::clock::Clock;
use crate::memory::{Kind, Memory};
use crate::sample::opaque_ptr;
use crate::stats::median;

/// Number of operations that are timed together, and how often in one round.
const BATCH: usize = 100;
const BATCHES: usize = 7;

/// Returns the times of `fault_in` beside mappings of cached files, by round and number.
///
/// # Errors
/// What failed, in words.
pub fn beside_cached_files(numbers: &[usize], rounds: usize) -> Result<Vec<Vec<f64>>, String> {
    let memory = Memory::resident(Kind::Anon, faultin::page_size())?;
    let cache: Cache = CacheOptions::new().build();
    let mut times = Vec::new();
    for _ in 0..rounds {
        let (mut mappings, mut round) = (Vec::new(), Vec::new());
        for &number in numbers {
            while mappings.len() < number {
                let file = cache.open(MemoryStore::new([7; 100])).map_err(|error| error.to_string())?;
                mappings.push(file.map(0..100, Rights::Read, Mode::Mprotect).map_err(|error| error.to_string())?);
            }
            round.push(fault_in(memory.ptr())?);
        }
        times.push(round);
    }
    Ok(times)
}

/// Returns the times of `fault_in` beside registered ranges of one page, neighbours of each other; of registering one more;
/// and of dropping one.
///
/// # Errors
/// What failed, in words.
pub fn registry(numbers: &[usize], rounds: usize) -> Result<[Vec<Vec<f64>>; 3], String> {
    let page = faultin::page_size();
    let memory = Memory::resident(Kind::Anon, page)?;
    let most = numbers.iter().max().map_or(0, |&most| most + BATCH);
    let room = Memory::new(Kind::Anon, most * page)?;
    let pager: Arc<dyn Pager> = Arc::new(Nothing);
    let register = |index: usize| {
        let start = room.ptr().addr() + index * page;
        // SAFETY: a page of memory that nothing else uses and that outlives the registration; each index once.
        unsafe { register(start..start + page, Arc::clone(&pager)) }.map_err(|error| error.to_string())
    };
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let mut ranges: Vec<Registration> = Vec::with_capacity(most);
        let mut round = [Vec::new(), Vec::new(), Vec::new()];
        for &number in numbers {
            while ranges.len() < number {
                ranges.push(register(ranges.len())?);
            }
            let (mut added, mut dropped) = (Vec::new(), Vec::new());
            for _ in 0..BATCHES {
                let clock = Clock::start();
                for _ in 0..BATCH {
                    ranges.push(register(ranges.len())?);
                }
                added.push(clock.each(BATCH));
                let clock = Clock::start();
                ranges.truncate(number);
                dropped.push(clock.each(BATCH));
            }
            let [beside, add, drop] = &mut round;
            beside.push(fault_in(memory.ptr())?);
            add.push(median(&added));
            drop.push(median(&dropped));
        }
        times.iter_mut().zip(round).for_each(|(times, round)| times.push(round));
    }
    Ok(times)
}

/// Returns the time of `fault_in_readable` of one resident page.
fn fault_in(page: *mut u8) -> Result<f64, String> {
    const CALLS: usize = 10_000;
    let mut times = Vec::new();
    for _ in 0..BATCHES {
        let clock = Clock::start();
        for _ in 0..CALLS {
            // SAFETY: our own memory.
            unsafe { faultin::raw::fault_in_readable(opaque_ptr(page), NonZeroUsize::MIN) }
                .map_err(|fault| fault.to_string())?;
        }
        times.push(clock.each(CALLS));
    }
    Ok(median(&times))
}

/// A pager that resolves nothing.
struct Nothing;

// SAFETY: `in_signal` is the default.
unsafe impl Pager for Nothing {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        Err(Fault::rejected(access, Cause::Backing, address))
    }
}
