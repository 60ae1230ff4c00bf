//! The command under test.

use std::process::Command;

/// `faultin-soak`.
pub fn faultin_soak() -> Command {
    faultin_test::processes::run(env!("CARGO_BIN_EXE_faultin-soak"))
}
