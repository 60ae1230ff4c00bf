//! The behaviour of the real gfs2, for comparison: the same operation, with a mapping of the same file as its buffer, or with
//! memory of which a granule is bad.
//!
//! These are observations, made in a virtual machine with a local lock (`lock_nolock`), and quoted; what stands beside them
//! are the cells of a report.

#![forbid(unsafe_code)]

use crate::scenario::Scenario;

/// The origin of the kernel's columns.
pub const SOURCE: &str = "observed in a virtual machine: x86-64 with 5.10, 6.1, 6.12 and 7.2, 4 KiB and 64 KiB at a time; bad granules on \
     aarch64 with memory tags, 6.1 and 6.12";

/// The result of one operation in a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The row of the operation.
    pub row: u8,
    /// The pages that the buffer maps, or another fault.
    pub pages: Scenario,
    /// The same, in words.
    pub buffer: &'static str,
    /// Before the series, in 5.10.
    pub before: &'static str,
    /// Since then, in 6.1 to 7.2.
    pub since: &'static str,
}

const NONE: &str = "not observed";
const COMPLETE: &str = "completes";
const LIVELOCK: &str = "∞ (a fatal signal ends it)";
const LIVELOCK_WITH_TAGS: &str = "∞ (6.1 and 6.12)";

const fn same(row: u8, before: &'static str, since: &'static str) -> Observed {
    Observed { row, pages: Scenario::SamePages, buffer: "the same pages", before, since }
}

const fn other(row: u8, before: &'static str, since: &'static str) -> Observed {
    Observed { row, pages: Scenario::OtherPages, buffer: "other pages", before, since }
}

const fn granule(row: u8, before: &'static str, since: &'static str) -> Observed {
    Observed { row, pages: Scenario::RestartGranuleBad, buffer: "no file, a granule is bad", before, since }
}

/// All observations.
pub const OBSERVED: [Observed; 9] = [
    same(17, NONE, COMPLETE),
    other(17, NONE, COMPLETE),
    same(18, NONE, COMPLETE),
    other(18, "BUG in glock.c", COMPLETE),
    granule(18, NONE, LIVELOCK_WITH_TAGS),
    same(19, NONE, LIVELOCK),
    other(19, NONE, COMPLETE),
    same(20, NONE, COMPLETE),
    other(20, NONE, COMPLETE),
];

/// The heads of the comparison: the operation, the pages, 5.10, 6.1 to 7.2, ours as found, ours fixed.
pub const HEADS: [&str; 6] =
    ["operation", "the buffer maps", "gfs2 5.10", "gfs2 6.1 to 7.2", "ours, as found", "ours, fixed"];
