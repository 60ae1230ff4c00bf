//! The command under test.

use std::process::Command;

/// `faultin-bench`.
pub fn faultin_bench() -> Command {
    faultin_test::processes::run(env!("CARGO_BIN_EXE_faultin-bench"))
}
