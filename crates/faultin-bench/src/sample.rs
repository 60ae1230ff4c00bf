//! One sample of an operation, and barriers against the optimizer.

use std::time::{Duration, Instant};

/// The result of a sampler: time for all iterations, and how many of them failed.
pub struct Sample {
    pub elapsed: Duration,
    pub failed: u64,
}

/// Runs an operation this number of times.
pub type Sampler<'a> = Box<dyn FnMut(u64) -> Sample + 'a>;

/// Makes a sampler of an operation that is repeated in a loop and timed as a whole. The operation returns whether it did
/// its job.
pub fn hot<'a>(mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        let mut failed = 0;
        let start = Instant::now();
        for _ in 0..iterations {
            if !op() {
                failed = one_more(failed);
            }
            forget_memory();
        }
        Sample { elapsed: start.elapsed(), failed }
    })
}

/// Makes a sampler as [`hot`] does, with the operation written out eight times in the loop. For operations of a few cycles:
/// the loop itself costs next to nothing, and if one copy of the code is placed badly in the cache of decoded instructions,
/// the others are not.
pub fn hot_unrolled<'a>(mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        let mut failed = 0;
        let mut once = |failed: &mut u64| {
            if !op() {
                *failed = one_more(*failed);
            }
            forget_memory();
        };
        let start = Instant::now();
        for _ in 0..iterations / 8 {
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
        }
        for _ in 0..iterations % 8 {
            once(&mut failed);
        }
        Sample { elapsed: start.elapsed(), failed }
    })
}

/// Makes a sampler of an operation that is timed separately each time, after an untimed preparation. The clock's own time
/// is subtracted.
pub fn cold<'a>(mut prepare: impl FnMut() + 'a, mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    let clock = clock_cost();
    Box::new(move |iterations| {
        let mut sample = Sample { elapsed: Duration::ZERO, failed: 0 };
        for _ in 0..iterations {
            prepare();
            let start = Instant::now();
            let done = op();
            sample.elapsed += start.elapsed().saturating_sub(clock);
            sample.failed += u64::from(!done);
        }
        sample
    })
}

/// Runs `before`, the samples, and `after`: for a peer that needs the process in another state, such as its own signal
/// handler. Neither is timed.
pub fn around<'a>(before: impl Fn() + 'a, mut sampler: Sampler<'a>, after: impl Fn() + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        before();
        let sample = sampler(iterations);
        after();
        sample
    })
}

#[cold]
fn one_more(failed: u64) -> u64 {
    failed + 1
}

/// Returns the difference of two consecutive readings of the clock.
fn clock_cost() -> Duration {
    let mut costs: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// Returns a value that the compiler knows nothing about, at no cost: it stays in its register.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Returns a pointer that the compiler knows nothing about.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
pub fn opaque_ptr<T>(mut ptr: *mut T) -> *mut T {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) ptr, options(nomem, nostack, preserves_flags)) };
    ptr
}

/// Uses the value, as far as the compiler knows.
#[inline(always)]
pub fn used(value: u64) {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Reads and writes memory, as far as the compiler knows: no store before it is dropped or delayed.
#[inline(always)]
pub fn forget_memory() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}
