//! The findings of an exploration.

#![forbid(unsafe_code)]

use std::fmt;

use faultin_sim::Action;

use crate::log::Step;

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A state was repeated without an event in between.
    Livelock,
    /// It was stopped after very many attempts.
    Endless,
    /// It waited for a lock that it held.
    Deadlock,
    /// More attempts than were justified.
    Wasted {
        /// Number of attempts.
        rounds: u32,
        /// Number of justified attempts.
        justified: usize,
    },
    /// The product is not right, or differs from the count.
    Product(String),
    /// It ended in a way that no cell of the table knows.
    Status(&'static str),
    /// Memory changed that must not change.
    Changed,
    /// A lock was still held at the end.
    StillHeld(&'static str),
    /// An access waited for a page while a lock was held.
    WaitedUnderLock,
    /// The machine failed.
    Failed(String),
}

/// A [`Violation`] without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are the violations'")]
pub enum Kind {
    Livelock,
    Endless,
    Deadlock,
    Wasted,
    Product,
    Status,
    Changed,
    StillHeld,
    WaitedUnderLock,
    Failed,
}

impl Violation {
    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Violation::Livelock => Kind::Livelock,
            Violation::Endless => Kind::Endless,
            Violation::Deadlock => Kind::Deadlock,
            Violation::Wasted { .. } => Kind::Wasted,
            Violation::Product(_) => Kind::Product,
            Violation::Status(_) => Kind::Status,
            Violation::Changed => Kind::Changed,
            Violation::StillHeld(_) => Kind::StillHeld,
            Violation::WaitedUnderLock => Kind::WaitedUnderLock,
            Violation::Failed(_) => Kind::Failed,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Livelock => f.write_str("∞: a state was repeated with nothing happening between"),
            Violation::Endless => f.write_str("still retrying after very many attempts"),
            Violation::Deadlock => f.write_str("waited for a lock that it held"),
            Violation::Wasted { rounds, justified } => write!(f, "{rounds} attempts where {justified} were justified"),
            Violation::Product(wrong) => write!(f, "a wrong product: {wrong}"),
            Violation::Status(status) => write!(f, "ended with {status:?}, which nobody expects"),
            Violation::Changed => f.write_str("memory changed that was not to be"),
            Violation::StillHeld(lock) => write!(f, "{lock} was still locked at the end"),
            Violation::WaitedUnderLock => f.write_str("waited for a page while a lock was held"),
            Violation::Failed(error) => f.write_str(error),
        }
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
        let hidden = self.steps.len().saturating_sub(2 * SHOWN);
        for (index, step) in self.steps.iter().enumerate() {
            if index == SHOWN && hidden > 0 {
                writeln!(f, "        … {hidden} more")?;
            }
            if hidden == 0 || index < SHOWN || index >= SHOWN + hidden {
                writeln!(f, "  {:>4}  {step}", index + 1)?;
            }
        }
        Ok(())
    }
}
