//! Random sequences of operations behave as in the model; `fuzz/` generates such sequences for any length of time.

mod model;
mod pages;

use std::time::{Duration, Instant};

use faultin_test::Random;
use pages::{serial, thin_out};

/// Runs sequences, beginning with the generator state `first`; a failure names the state of its sequence.
fn run(first: u64, sequences: u64, bytes: usize) -> model::Tally {
    let _one = serial();
    faultin::install().expect("install");
    let usual = faultin::testing::thresholds();
    faultin::testing::set_thresholds([700, 1100, 1500]);
    let mut sum = model::Tally::default();
    let started = Instant::now();
    for sequence in 0..sequences {
        let seed = (first + sequence) * 2 + 1;
        let random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let input: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
        let tally = std::panic::catch_unwind(|| model::run(&input)).unwrap_or_else(|why| {
            eprintln!("the sequence of seed {seed}, {bytes} bytes");
            std::panic::resume_unwind(why)
        });
        sum.complete += tally.complete;
        sum.short += tally.short;
        sum.refused += tally.refused;
        if started.elapsed() > Duration::from_secs(20) {
            eprintln!("{} of {sequences} sequences: this machine is slow", sequence + 1);
            break;
        }
    }
    faultin::testing::set_thresholds(usual);
    faultin::testing::select_widest();
    sum
}

#[test]
fn random_operations_do_what_the_model_and_the_kernel_say() {
    let tally = run(1, 4000 / thin_out() as u64, 400);
    eprintln!("{tally:?}");
    assert!(tally.complete > 0 && tally.short > 0 && tally.refused > 0, "{tally:?}");
}
