//! Moments at which another thread may come in between, told to the exploration; in the library itself nothing.

#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) use super::explore::step;

/// What has just been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Bytes of a mapped file's memory were read.
    Read { pos: u64, len: usize },
    /// They were written.
    Wrote { pos: u64, len: usize },
    /// They were given back.
    Punched { pos: u64, len: usize },
    /// A store was asked in the signal.
    Answered { pos: u64, len: usize },
    /// A lock was let go that is taken again.
    Unlocked,
    /// The page table was told something.
    #[cfg(test)]
    Told { map: usize, what: &'static str, page: usize, pages: usize },
    /// The store has answered.
    #[cfg(test)]
    Store { what: &'static str, pos: u64, len: usize },
    /// An access has faulted, and nobody knows of it yet.
    #[cfg(test)]
    Faulted,
    /// Somebody is about to do something, or to do it again.
    #[cfg(test)]
    Begin,
}

/// It has just been done.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn step(_: Step) {}
