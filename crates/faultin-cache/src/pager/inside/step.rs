//! Moments at which another thread may act: a hook for the exploration; a no-op in the library.

#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) use crate::pager::explore::step;

/// A step that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Bytes of a mapped file's memory were read.
    Read { pos: u64, len: usize },
    /// Bytes of a mapped file's memory were written.
    Wrote { pos: u64, len: usize },
    /// Bytes of a mapped file's memory were freed.
    Punched { pos: u64, len: usize },
    /// A store was read in the signal.
    Answered { pos: u64, len: usize },
    /// A lock was released that is taken again.
    Unlocked,
    /// The page table was changed.
    #[cfg(test)]
    Told { map: usize, what: &'static str, page: usize, pages: usize },
    /// The store has answered.
    #[cfg(test)]
    Store { what: &'static str, pos: u64, len: usize },
    /// An access has faulted, and the fault is not handled yet.
    #[cfg(test)]
    Faulted,
    /// A thread is about to act, or to repeat an action.
    #[cfg(test)]
    Begin,
}

/// Reports a step.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn step(_: Step) {}
