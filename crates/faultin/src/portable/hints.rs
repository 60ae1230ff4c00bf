//! Replaces `map::hints` on systems other than Linux, which are asked for nothing.

use core::ops::Range;
use std::fs::File;

use crate::residency::Residency;

/// Returns `None`: it is not known.
pub(super) fn is_cached(_: &File, _: u64, _: u64) -> Option<bool> {
    None
}

/// Does nothing, and returns 0.
pub(super) fn read_ahead(_: &File, _: u64, _: u64) -> u64 {
    0
}

/// Returns `None`: it is not known.
pub(super) fn resident(_: &File, _: Range<u64>, _: Option<*mut u8>) -> Option<Residency> {
    None
}

/// What is not known.
pub(super) const UNKNOWN: &str = "finding out what is in memory";
