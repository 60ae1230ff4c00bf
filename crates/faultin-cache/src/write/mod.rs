//! Writing from a buffer that may fault: one driver for all loops.
//!
//! A write is a sequence of *rounds*. A round takes the inode lock, goes from folio to folio, and for each of them does
//! what the kernel calls `write_begin` (the folio exists, and its blocks that are overwritten in part are valid), the copy,
//! and `write_end` (the copied bytes count). The first short copy ends it. The buffer is faulted in between two rounds,
//! when the inode lock is free.
//!
//! | | |
//! |---|---|
//! | position | is decided once, before the first round; no other write happens until it ends |
//! | counted bytes | the bytes that were copied; the position of the list of segments is after them |
//! | end | a fault at a byte that cannot be faulted in; an error; [`NO_PROGRESS`] rounds without progress |
//!
//! Other threads may read what the previous rounds have written.

#![forbid(unsafe_code)]

mod config;
mod driver;
mod observer;
mod round;

pub use config::{AfterShort, Batch, FaultIn, Preallocate, ShortCopy, WriteLoop};
pub(crate) use driver::{At, perform};
pub use observer::{Decision, Observer};

pub use crate::transfer::NO_PROGRESS;
