//! [`Observer`]: sees the steps of a write; the audit's logs are made of them.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use faultin::{Fault, Short};

/// Observes the steps of a transfer. The default methods do nothing.
///
/// Each method is called after the step. A method that panics leaves the file usable: counted bytes are there.
pub trait Observer {
    /// The inode lock was taken.
    fn locked(&mut self) {}

    /// The inode lock is about to be released.
    fn unlocked(&mut self) {}

    /// The store was read for bytes that a read found missing; no lock is held.
    fn filled(&mut self) {}

    /// The next `len` bytes of the buffer were faulted in, or as many as could be.
    fn faulted_in(&mut self, len: usize, result: &Result<NonZeroUsize, Fault>) {
        let _ = (len, result);
    }

    /// A piece of `len` bytes was copied, or a part of it.
    fn copied(&mut self, len: usize, result: &Result<usize, Short>) {
        let _ = (len, result);
    }

    /// A decision was made.
    fn decided(&mut self, what: Decision) {
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
pub enum Decision {
    /// A copy of this many bytes is rejected, because the rest of its block is not valid.
    Reject(usize),
    /// The rest of a block was read from the store after a copy that ended within it.
    Complete,
    /// The next attempt requests at most this many bytes.
    AskFor(usize),
    /// This many bytes were reserved in the store.
    Reserve(u64),
    /// This many reserved bytes are not needed after all.
    Release(u64),
    /// The range is allocated in advance.
    Preallocate,
    /// It is not, because not every byte could be faulted in.
    DoNotPreallocate,
    /// The space that was allocated past the end is freed.
    Trim,
    /// The copied bytes are written to the store.
    WriteThrough,
}

impl Observer for () {}
