//! The signal handler. Each guarantee is tested in a separate process, because most of them concern how a process dies.
//!
//! A scenario is a function that runs in a child: this binary again, with the scenario in its environment. It asserts what
//! it can observe itself, and announces a death with what the parent should observe ([`child::dies`]). The parent traces
//! the child and compares signal, `siginfo` and program counter at the last stop: what a core file would contain.

// Without the crate's assembly there is no handler.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

mod child;
mod foreign;
mod parent;

mod asynchronous;
mod deaths;
mod flags;
mod hosts;
mod maps;
mod masks;
mod nesting;
mod order;
mod room;
mod scans;
mod scarce;
mod storms;
mod threads;

/// How a scenario ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// All assertions held, and the process exited.
    Well,
    /// By this signal, as the child announced.
    Killed(i32),
}

/// A scenario's name and function, with an argument for tables of cases.
type Scenario = (&'static str, fn(&str));

/// A test for each scenario, and the table in which the child finds it.
macro_rules! scenarios {
    ($($(#[doc = $doc:literal])* $name:ident => $ends:expr, $run:expr;)*) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$((concat!(module_path!(), "::", stringify!($name)), $run)),*];
        $(
            $(#[doc = $doc])*
            #[test]
            fn $name() {
                crate::parent::check(concat!(module_path!(), "::", stringify!($name)), "", $ends);
            }
        )*
    };
}
pub(crate) use scenarios;

/// All scenarios.
const ALL: &[&[Scenario]] = &[
    asynchronous::SCENARIOS,
    deaths::SCENARIOS,
    deaths::TABLES,
    flags::SCENARIOS,
    flags::TABLES,
    hosts::SCENARIOS,
    maps::SCENARIOS,
    masks::SCENARIOS,
    nesting::SCENARIOS,
    order::SCENARIOS,
    room::SCENARIOS,
    scans::SCENARIOS,
    storms::SCENARIOS,
    scarce::SCENARIOS,
    threads::SCENARIOS,
];

/// Runs the scenario in a child, and nothing otherwise.
#[test]
fn child_entry() {
    child::entry(ALL);
}
