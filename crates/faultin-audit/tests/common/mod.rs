//! The command under test.

use std::process::Command;

/// `faultin-audit`.
pub fn faultin_audit() -> Command {
    faultin_test::processes::run(env!("CARGO_BIN_EXE_faultin-audit"))
}
