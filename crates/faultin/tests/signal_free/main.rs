//! Accesses that never rely on the handler: in threads that block SIGSEGV and SIGBUS, in crash handlers, under system call
//! filters, and of other processes.
#![cfg(not(faultin_syscall))]

mod blocked;
mod child;
mod emulator;
#[path = "../filters/mod.rs"]
mod filters;
mod handlers;
#[path = "../pages/mod.rs"]
mod pages;
#[allow(dead_code)] // it is shared with other test binaries
mod remote;
mod ways;

/// A scenario's name and its function, which runs in a separate process.
type Scenario = (&'static str, fn());

/// Not a test: the entry of child processes.
#[test]
fn child_entry() {
    child::entry(&[blocked::SCENARIOS, emulator::SCENARIOS, handlers::SCENARIOS, ways::SCENARIOS, remote::SCENARIOS]);
}
