//! Somebody who looks on while a write goes its way: what the audit's logs are made of.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use faultin::{Fault, Short};

/// Looks on. Does nothing, unless told otherwise.
///
/// What it is told of has happened. A method that panics leaves the file usable: what was counted is there.
pub trait Observer {
    /// The inode lock was taken.
    fn locked(&mut self) {}

    /// It is about to be let go.
    fn unlocked(&mut self) {}

    /// The store was read for what a read found missing; no lock is held.
    fn filled(&mut self) {}

    /// The next `len` bytes of the buffer were faulted in, or as many as could be.
    fn faulted_in(&mut self, len: usize, result: &Result<NonZeroUsize, Fault>) {
        let _ = (len, result);
    }

    /// A piece of `len` bytes was copied, or a part of it.
    fn copied(&mut self, len: usize, result: &Result<usize, Short>) {
        let _ = (len, result);
    }

    /// Something was decided.
    fn decided(&mut self, what: Decided) {
        let _ = what;
    }

    /// Another attempt begins, after one that moved nothing. [`Break`](ControlFlow::Break) ends the write
    /// ([`Error::Stopped`](crate::Error::Stopped)).
    fn again(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A decision of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decided {
    /// A copy of so many bytes is refused, because the rest of its block is not up to date.
    Reject(usize),
    /// The rest of a block was brought up to date behind a copy that ended within it.
    Complete,
    /// The next attempt asks for at most so much.
    AskFor(usize),
    /// So many bytes were promised to the file by its store.
    Reserve(u64),
    /// So many of them are not needed after all.
    Release(u64),
    /// The range is allocated in advance.
    Preallocate,
    /// It is not, because not every byte could be faulted in.
    DoNotPreallocate,
    /// What was allocated behind the end is given back.
    Trim,
    /// What was copied goes to the store.
    WriteThrough,
}

impl Observer for () {}
