//! Sequences of operations on tiny cached files, against vectors of bytes: see `crates/faultin-cache/tests/oracle/sequence`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/faultin-audit/src/callers/kernel_loops.rs"]
mod kernel_loops;
#[path = "../../crates/faultin-cache/tests/oracle/sequence/mod.rs"]
mod sequence;

fuzz_target!(|bytes: &[u8]| {
    sequence::run(bytes).unwrap_or_else(|what| panic!("{what}"));
});
