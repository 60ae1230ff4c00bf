//! The command under test.

use std::process::Command;

#[path = "../../../faultin/tests/processes/mod.rs"]
#[allow(dead_code)]
pub mod processes;

/// `faultin-audit`.
pub fn faultin_audit() -> Command {
    processes::run(env!("CARGO_BIN_EXE_faultin-audit"))
}
