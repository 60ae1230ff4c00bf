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
    /// Of this variant
    pub variant: Variant,
    /// in this scenario.
    pub scenario: Scenario,
    /// How it ends.
    pub ends: Ends,
    /// Attempts it takes. Where nobody but the kernel serves the faults, nothing is ever missing, and it may take fewer.
    pub attempts: u32,
    /// Who says so.
    pub source: &'static str,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this status, after moving so much.
    With(&'static str, Moved),
    /// Never: a livelock.
    Never,
    /// Never: it waits for a lock that it holds.
    Deadlock,
    /// With one of these, every time, and with a right product.
    OneOf(&'static [&'static str]),
}

/// How much of the object moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// The bytes in front of the second page.
    FirstPage,
    /// The bytes in front of the bad tail.
    BeforeTail,
    /// The bytes in front of where it starts over.
    BeforeRestart,
    /// So many.
    Bytes(usize),
}

/// The status of a caller that waits for itself, where others run beside it.
pub const DEADLOCK: &str = "deadlock";

/// The status of a caller that is still starting over when it is stopped, though others have moved the world meanwhile.
pub const STILL_RETRYING: &str = "still retrying";

/// One expectation, of one attempt: reads as a line of a table.
pub const fn expect(variant: Variant, scenario: Scenario, ends: Ends, source: &'static str) -> Expectation {
    Expectation { variant, scenario, ends, attempts: 1, source }
}

impl Expectation {
    /// It takes so many attempts.
    #[must_use]
    pub const fn in_attempts(self, attempts: u32) -> Expectation {
        Expectation { attempts, ..self }
    }
}
