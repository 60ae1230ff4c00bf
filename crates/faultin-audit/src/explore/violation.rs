//! The findings of an exploration.

#![forbid(unsafe_code)]

use std::fmt;

use faultin_sim::Action;

use crate::log::{Step, write_steps};

/// The kind of a violated invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A state was repeated without an event in between.
    Livelock,
    /// It was stopped after very many attempts.
    Endless,
    /// It waited for a lock that it held.
    Deadlock,
    /// More attempts than were justified.
    Wasted,
    /// The product is not right, or differs from the count.
    Product,
    /// It ended in a way that no cell of the table knows.
    Status,
    /// Memory changed that must not change.
    Changed,
    /// A lock was still held at the end.
    StillHeld,
    /// An access waited for a page while a lock was held.
    WaitedUnderLock,
    /// The machine failed.
    Failed,
}

/// A violated invariant. Printed in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    kind: Kind,
    words: String,
}

impl Violation {
    pub(super) fn new(kind: Kind, words: impl Into<String>) -> Violation {
        Violation { kind, words: words.into() }
    }

    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// A violation, and how to reproduce it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The violation.
    pub violation: Violation,
    /// The script: actions, each after a step.
    pub script: Vec<(u64, Action)>,
    /// Number of the actions that are initial faults.
    pub faults: usize,
    /// The caller's steps.
    pub steps: Vec<Step>,
}

/// Number of steps that are printed at the beginning and at the end of many.
const SHOWN: usize = 8;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        for (_, action) in &self.script[..self.faults] {
            writeln!(f, "  from the beginning: {action}")?;
        }
        for (step, action) in &self.script[self.faults..] {
            writeln!(f, "  after access {step}: {action}")?;
        }
        write_steps(f, &self.steps, SHOWN)
    }
}
