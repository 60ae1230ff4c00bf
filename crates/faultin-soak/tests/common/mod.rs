//! The command under test.

use std::process::Command;

#[path = "../../../faultin/tests/processes/mod.rs"]
#[allow(dead_code)]
pub mod processes;

/// `faultin-soak`.
pub fn faultin_soak() -> Command {
    processes::run(env!("CARGO_BIN_EXE_faultin-soak"))
}
