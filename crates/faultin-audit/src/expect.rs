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
    /// Who says so.
    pub source: &'static str,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this status, after moving so much, in one attempt.
    With(&'static str, Moved),
    /// Never: a livelock.
    Never,
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
}

/// The status of a caller that is still starting over when it is stopped, though others have moved the world meanwhile.
pub const STILL_RETRYING: &str = "still retrying";

/// One expectation: reads as a line of a table.
pub const fn expect(variant: Variant, scenario: Scenario, ends: Ends, source: &'static str) -> Expectation {
    Expectation { variant, scenario, ends, source }
}
