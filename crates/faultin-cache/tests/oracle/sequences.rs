//! As many of the fuzzer's sequences as a test has time for.

use std::panic::catch_unwind;

use faultin_test::Random;

use crate::random::variable;
use crate::sequence;

/// The default number of sequences.
const SEQUENCES: u64 = if cfg!(target_arch = "x86_64") { 20_000 } else { 500 };

/// The failure of a sequence, if there is one. The message of a panic is already on stderr.
fn run(bytes: &[u8]) -> Result<sequence::Tally, String> {
    catch_unwind(|| sequence::run(bytes)).unwrap_or_else(|_| Err("a panic".into()))
}

/// Removes bytes from a failing sequence as long as it still fails.
fn shrunk(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut part = bytes.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < bytes.len() {
            let mut fewer = bytes.clone();
            fewer.drain(at..bytes.len().min(at + part));
            if run(&fewer).is_err() {
                bytes = fewer;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    bytes
}

#[test]
fn files_have_what_was_written_to_them() {
    let _serial = crate::serial();
    let count = variable("FAULTIN_ORACLE_CASES").unwrap_or(SEQUENCES);
    let first = variable("FAULTIN_ORACLE_SEED").unwrap_or(0);
    let mut all = sequence::Tally::default();
    for seed in first..first + count {
        let bytes = Random::new(seed).bytes(60 + (seed % 500) as usize);
        match run(&bytes) {
            Ok(tally) => {
                all.whole += tally.whole;
                all.short += tally.short;
                all.nothing += tally.nothing;
                all.failed += tally.failed;
            }
            Err(what) => {
                let small = shrunk(bytes);
                let smallest = run(&small).err();
                panic!(
                    "{}\nThe sequence is {small:?}.\n\
                     Again: FAULTIN_ORACLE_SEED={seed} FAULTIN_ORACLE_CASES=1 cargo test -p faultin-cache --test oracle",
                    smallest.unwrap_or(what)
                )
            }
        }
    }
    if count >= SEQUENCES {
        for (what, times) in
            [("whole", all.whole), ("short", all.short), ("nothing", all.nothing), ("failed", all.failed)]
        {
            assert!(times > count / 4, "{what}: {times} times in {count} sequences: {all:?}");
        }
    }
}
