//! The `faultin-audit` command: the audit's table, and the exploration of its callers.

#![forbid(unsafe_code)]

mod command;

fn main() -> std::process::ExitCode {
    command::main()
}
