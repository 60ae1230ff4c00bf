//! Times by the number of cached files: opening and closing, and reads beyond the limit.

use std::hint::black_box;

use faultin_cache::{Advice, Cache, CacheOptions, FileOptions};
use faultin_test::{Random, Zeros};

use super::clock::Clock;

const BLOCK: usize = 4096;

/// Returns the times of opening and of closing each of so many files, by round and number.
///
/// # Errors
/// What failed, in words.
pub fn closing(numbers: &[usize], rounds: usize) -> Result<[Vec<Vec<f64>>; 2], String> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let mut round = [Vec::new(), Vec::new()];
        for &number in numbers {
            let both = open_and_close(number)?;
            round.iter_mut().zip(both).for_each(|(round, time)| round.push(time));
        }
        times.iter_mut().zip(round).for_each(|(times, round)| times.push(round));
    }
    Ok(times)
}

/// Opens `number` files and closes them again, the first one first.
fn open_and_close(number: usize) -> Result<[f64; 2], String> {
    let cache = Cache::new();
    let mut files = Vec::with_capacity(number);
    let clock = Clock::start();
    for _ in 0..number {
        files.push(cache.open(Zeros::new(BLOCK as u64)).map_err(|error| error.to_string())?);
    }
    let opened = clock.each(number);
    let clock = Clock::start();
    files.into_iter().for_each(drop);
    Ok([opened, clock.each(number)])
}

/// Returns the times of random reads of blocks of several files whose blocks are sixteen times the limit in all, by round and
/// number of files.
///
/// # Errors
/// What failed, in words.
pub fn random_reads(numbers: &[usize], reads: usize, rounds: usize) -> Result<Vec<Vec<f64>>, String> {
    // Of the largest number each file has four blocks.
    let blocks = numbers.iter().max().map_or(1, |&most| 4 * most);
    let mut setups = Vec::new();
    for &number in numbers {
        let cache = CacheOptions::new().block(BLOCK).limit(blocks / 16 * BLOCK).build();
        let options = FileOptions::new().max_folio(BLOCK);
        let mut files = Vec::new();
        for _ in 0..number {
            let len = (blocks / number * BLOCK) as u64;
            let file = cache.open_with(Zeros::new(len), options.clone()).map_err(|error| error.to_string())?;
            file.advise(Advice::Random);
            files.push(file);
        }
        setups.push((number, files));
    }
    let random = Random::new(4);
    let mut buffer = vec![0; BLOCK];
    let mut times = Vec::new();
    // The first round fills the caches.
    for round in 0..=rounds {
        let mut row = Vec::new();
        for (number, files) in &setups {
            let clock = Clock::start();
            for _ in 0..reads {
                let file = &files[random.below(*number)];
                let pos = random.below((blocks / *number) as u64) * BLOCK as u64;
                black_box(file.read_at(&mut buffer, pos).map_err(|error| error.to_string())?);
            }
            row.push(clock.each(reads));
        }
        if round > 0 {
            times.push(row);
        }
    }
    Ok(times)
}
