//! The rows that do not run yet: their names, needs and findings. [`all`](super::all) has them in line with those that do.

#![forbid(unsafe_code)]

use super::Need::Any;
use super::{Caller, Need};

const fn row(row: u8, name: &'static str, place: &'static str, need: Need, finding: &'static str) -> Caller {
    Caller { row, name, place, need, finding, job: None }
}

pub(super) const ROWS: [Caller; 4] = [
    row(
        17,
        "gfs2 buffered write",
        "gfs2",
        Any,
        "copy with faults disabled under the lock, drop it, fault in, retry; one page when nothing moves",
    ),
    row(18, "gfs2 buffered read", "gfs2", Any, "same, faulting in for writing without destroying the buffer"),
    row(19, "gfs2 direct read", "gfs2", Any, "same, resumable: goes on where it stopped"),
    row(20, "gfs2 direct write", "gfs2", Any, "same; falls back to buffered when the write invalidates its own source"),
];
