//! Times by the number of files: opening and closing, and reads beyond the limit.

use std::hint::black_box;
use std::time::Duration;

use faultin_cache::{Advice, Cache, CacheOptions, FileOptions};
use faultin_test::{Random, Zeros};

use super::Figure;

const BLOCK: usize = 4096;

/// Number of measurements of which the best counts: other load only ever adds time.
const SAMPLES: usize = 5;

/// Returns the processor time of this thread: nothing here waits, and time of other programs does not count.
fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a local value. It cannot fail: the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Opens `number` files and closes them again, the first one first: nanoseconds of each.
fn open_and_close(number: usize) -> Result<(f64, f64), String> {
    let cache = Cache::new();
    let begun = processor_time();
    let mut files = Vec::with_capacity(number);
    for _ in 0..number {
        files.push(cache.open(Zeros::new(BLOCK as u64)).map_err(|error| error.to_string())?);
    }
    let opened = (processor_time() - begun).as_secs_f64();
    let begun = processor_time();
    files.into_iter().for_each(drop);
    let closed = (processor_time() - begun).as_secs_f64();
    Ok((opened * 1e9 / number as f64, closed * 1e9 / number as f64))
}

/// # Errors
/// What failed, in words.
pub fn closing(numbers: &[usize], figures: &mut Vec<Figure>) -> Result<(), String> {
    for &number in numbers {
        let mut best = (f64::INFINITY, f64::INFINITY);
        for _ in 0..SAMPLES.min(1_000_000 / number) {
            let (opened, closed) = open_and_close(number)?;
            best = (best.0.min(opened), best.1.min(closed));
        }
        figures.push(Figure { name: format!("open each of {number} files, us"), value: best.0 / 1e3, bound: None });
        let name = format!("close each of {number} files, us (at most twice opening)");
        figures.push(Figure { name, value: best.1 / 1e3, bound: Some(2.0 * best.0 / 1e3) });
    }
    Ok(())
}

/// Random reads of blocks of several files whose blocks are sixteen times the limit in all. The numbers of files take turns,
/// so that other load meets all of them.
///
/// # Errors
/// What failed, in words.
pub fn random_reads(numbers: &[usize], reads: usize, figures: &mut Vec<Figure>) -> Result<(), String> {
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
        setups.push((number, files, f64::INFINITY));
    }
    let random = Random::new(4);
    let mut buffer = vec![0; BLOCK];
    // The first turn fills the caches.
    for turn in 0..=SAMPLES {
        for (number, files, best) in &mut setups {
            let begun = processor_time();
            for _ in 0..reads {
                let file = &files[random.below(*number)];
                let pos = random.below((blocks / *number) as u64) * BLOCK as u64;
                black_box(file.read_at(&mut buffer, pos).map_err(|error| error.to_string())?);
            }
            if turn > 0 {
                *best = best.min((processor_time() - begun).as_secs_f64() * 1e6 / reads as f64);
            }
        }
    }
    let one = setups.first().map_or(0.0, |(_, _, best)| *best);
    for (number, _, best) in setups {
        let name = format!("random read beyond the limit, {number} files, us");
        figures.push(Figure { name, value: best, bound: (number > 1).then_some(1.3 * one) });
    }
    Ok(())
}
