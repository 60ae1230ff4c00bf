//! The command under test.

use std::process::Command;

#[path = "../../../faultin/tests/processes/mod.rs"]
#[allow(dead_code)]
pub mod processes;

/// `faultin`.
#[allow(dead_code)] // not by every test binary
pub fn faultin() -> Command {
    processes::run(env!("CARGO_BIN_EXE_faultin"))
}
