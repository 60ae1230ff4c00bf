//! The signal handler, each promise of it in a process of its own, because most of them are about how a process dies.
//!
//! A scenario is a function that runs in a child: this binary again, told by the environment what to do. It asserts
//! what it can see itself; of a death it says beforehand what the parent will see ([`child::dies`]). The parent traces
//! the child and compares signal, `siginfo` and program counter at the last stop before the end: what a core file would
//! hold.

// Where there is no assembly there is no handler.
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
    /// All assertions held, the process exited.
    Well,
    /// By this signal, as the child announced.
    Killed(i32),
}

/// A scenario's name and what the child does, with an argument that tables of cases use.
type Scenario = (&'static str, fn(&str));

/// A test for each scenario, and the table the child finds it in.
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

/// Every scenario there is.
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

/// In a child: the scenario. Otherwise nothing.
#[test]
fn child_entry() {
    child::entry(ALL);
}
