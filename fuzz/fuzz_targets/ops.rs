//! Sequences of operations against the model and the kernel's own copies: see `crates/faultin/tests/model`.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/faultin/tests/model/mod.rs"]
mod model;

fuzz_target!(|bytes: &[u8]| {
    static START: Once = Once::new();
    START.call_once(|| {
        // Above the fuzzer's and the sanitizer's own handlers, which still get every fault that is not ours.
        faultin::install().expect("install");
        // The paths for large copies, at sizes that operations have.
        faultin::testing::set_thresholds([700, 1100, 1500]);
    });
    model::run(bytes);
});
