//! The fuzzer's sequences, as many as a test has time for.

use crate::random::variable;
use crate::region::noise;
use crate::sequence;

/// Sequences of a run if nobody says how many.
const SEQUENCES: u64 = if cfg!(target_arch = "x86_64") { 20_000 } else { 500 };

#[test]
fn files_have_what_was_written_to_them() {
    let count = variable("FAULTIN_ORACLE_CASES").unwrap_or(SEQUENCES);
    let first = variable("FAULTIN_ORACLE_SEED").unwrap_or(0);
    let mut all = sequence::Tally::default();
    for seed in first..first + count {
        let bytes = noise(seed, 60 + (seed % 500) as usize);
        let tally = std::panic::catch_unwind(|| sequence::run(&bytes)).unwrap_or_else(|panic| {
            crate::report(format_args!("FAULTIN_ORACLE_SEED={seed} FAULTIN_ORACLE_CASES=1 is this case again"));
            std::panic::resume_unwind(panic)
        });
        all.whole += tally.whole;
        all.short += tally.short;
        all.nothing += tally.nothing;
        all.failed += tally.failed;
    }
    if count >= SEQUENCES {
        for (what, times) in
            [("whole", all.whole), ("short", all.short), ("nothing", all.nothing), ("failed", all.failed)]
        {
            assert!(times > count / 4, "{what}: {times} times in {count} sequences: {all:?}");
        }
    }
}
