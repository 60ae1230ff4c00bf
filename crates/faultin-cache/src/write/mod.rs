//! Writing from a buffer that may fault: one driver for all loops.
//!
//! A write is a sequence of *rounds*. A round takes the inode lock, goes from folio to folio, and for each of them does
//! what a kernel calls `write_begin` (the folio is there, and its blocks that are overwritten in part are up to date), the
//! copy, and `write_end` (so many bytes count). The first copy that is short ends it. What is faulted in is faulted in
//! between two rounds, when the inode lock is free.
//!
//! | | |
//! |---|---|
//! | where it is written | is decided once, before the first round; nobody else writes until it ends |
//! | what counts | the bytes that were copied; the list of segments is behind them |
//! | what ends it | a fault at a byte that cannot be faulted in; an error; [`NO_PROGRESS`] rounds in vain |
//!
//! Others may read what the rounds before have written.

#![forbid(unsafe_code)]

mod config;
mod driver;
mod observer;
mod round;

pub use config::{AfterShort, Batch, FaultIn, Preallocate, ShortCopy, WriteLoop};
pub(crate) use driver::{At, perform};
pub use observer::{Decided, Observer};

pub use crate::transfer::NO_PROGRESS;
