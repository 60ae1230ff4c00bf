//! Expectations: how each cell must end, written by hand, each with its source.
//!
//! *The mail* is that of 27 August 2021 which this audit repeats; *the thread* is the discussion around it. Lines about a
//! kernel version state what that version's source does, in our words.

#![forbid(unsafe_code)]

use crate::callers::Variant;
use crate::scenario::Scenario;

/// How one cell must end.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The variant.
    pub variant: Variant,
    /// The scenario.
    pub scenario: Scenario,
    /// How it ends.
    pub ends: Ends,
    /// Number of attempts. Where the kernel alone resolves the faults, no page is ever missing, and it may take fewer.
    pub attempts: u32,
    /// The source of the expectation.
    pub source: &'static str,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this status, after moving this much.
    With(&'static str, Moved),
    /// Never: a livelock.
    Never,
    /// Never: it waits for a lock that it holds itself.
    Deadlock,
    /// With one of these, every time, and with a right product.
    OneOf(&'static [&'static str]),
}

/// The part of the object that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// The bytes before the second page.
    FirstPage,
    /// The bytes before the bad tail.
    BeforeTail,
    /// The bytes before the place where it starts over.
    BeforeRestart,
    /// This number of bytes.
    Bytes(usize),
}

/// The status of a caller that waits for itself, where other threads run concurrently.
pub const DEADLOCK: &str = "deadlock";

/// The status of a caller that is still starting over when it is stopped, although other threads have changed the memory
/// meanwhile.
pub const STILL_RETRYING: &str = "still retrying";

/// Makes an expectation of one attempt: reads as a line of a table.
pub const fn expect(variant: Variant, scenario: Scenario, ends: Ends, source: &'static str) -> Expectation {
    Expectation { variant, scenario, ends, attempts: 1, source }
}

impl Expectation {
    /// Sets the number of attempts.
    #[must_use]
    pub const fn in_attempts(self, attempts: u32) -> Expectation {
        Expectation { attempts, ..self }
    }
}
