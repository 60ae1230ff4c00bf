//! Events, step by step.

use core::fmt;

use super::action::Action;
use super::state::State;
use faultin::{Access, Fault};

/// The operation that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// A copy or a fill.
    Copy,
    /// A load, a store, or an atomic operation.
    Scalar,
    /// A fault_in or a probe: nothing is changed.
    Touch,
}

/// An event. Steps are counted from 1, offsets from the start of the space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// An elementary access.
    Step {
        /// Its number.
        step: u64,
        /// The operation that it belongs to.
        kind: StepKind,
        /// Its direction.
        access: Access,
        /// Its first byte.
        offset: usize,
        /// Number of bytes accessed; those before the fault if it failed.
        len: usize,
        /// Its fault, if it failed.
        fault: Option<Fault>,
    },
    /// An access that may wait made a page resident.
    FaultIn {
        /// The number of the step that waited.
        step: u64,
        /// The page's number.
        page: usize,
    },
    /// The script, or the test, has acted.
    Action {
        /// The number of the previous step.
        after: u64,
        /// The action.
        action: Action,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Step { step, kind, access, offset, len, fault } => {
                let kind = match (kind, access) {
                    (StepKind::Copy, Access::Read) => "copy from",
                    (StepKind::Copy, Access::Write) => "copy to",
                    (StepKind::Scalar, Access::Read) => "load from",
                    (StepKind::Scalar, Access::Write) => "store to",
                    (StepKind::Touch, Access::Read) => "read touch of",
                    (StepKind::Touch, Access::Write) => "write touch of",
                };
                write!(f, "{step}: {kind} {offset}, {len} bytes")?;
                fault.map_or(Ok(()), |fault| write!(f, ": {fault}"))
            }
            Event::FaultIn { step, page } => write!(f, "{step}: page {page} faulted in"),
            Event::Action { after, action } => write!(f, "after {after}: {action}"),
        }
    }
}

/// A moment after a step, before the adversary's turn; the first is before all steps.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The number of the previous step.
    pub step: u64,
    /// The state that an access depends on.
    pub state: State,
    /// A hash of everything that the accesses so far have observed: the accesses, the bytes they moved, their faults. Code
    /// that makes them and depends on nothing else is in the same state at two moments with the same hash.
    pub observed: u64,
}

/// A step log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    /// In order.
    pub events: Vec<Event>,
}

impl Trace {
    /// Returns the pages that an access waited for, in order.
    pub fn fault_ins(&self) -> impl Iterator<Item = usize> {
        self.events.iter().filter_map(|event| match event {
            Event::FaultIn { page, .. } => Some(*page),
            _ => None,
        })
    }

    /// Returns the faults, in order.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        self.events.iter().filter_map(|event| match event {
            Event::Step { fault, .. } => *fault,
            _ => None,
        })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
