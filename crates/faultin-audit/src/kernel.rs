//! The behaviour of the real gfs2, for comparison: the same operation, with a mapping of the same file as its buffer, or with
//! memory of which a granule is bad.
//!
//! The kernel's columns are observations, made in a virtual machine with a local lock (`lock_nolock`), and quoted; ours are
//! the cells of a report.

#![forbid(unsafe_code)]

use crate::callers::Variant;
use crate::run::Report;
use crate::scenario::Scenario;
use crate::square::{self, Square};

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
    /// Before the series, in 5.10.
    pub before: &'static str,
    /// Since then, in 6.1 to 7.2.
    pub since: &'static str,
}

const NONE: &str = "not observed";
const COMPLETE: &str = "completes";
const LIVELOCK: &str = "∞ (a fatal signal ends it)";
const LIVELOCK_WITH_TAGS: &str = "∞ (6.1 and 6.12)";

const fn observed(row: u8, pages: Scenario, before: &'static str, since: &'static str) -> Observed {
    Observed { row, pages, before, since }
}

/// All observations.
pub const OBSERVED: [Observed; 9] = [
    observed(17, Scenario::SamePages, NONE, COMPLETE),
    observed(17, Scenario::OtherPages, NONE, COMPLETE),
    observed(18, Scenario::SamePages, NONE, COMPLETE),
    observed(18, Scenario::OtherPages, "BUG in glock.c", COMPLETE),
    observed(18, Scenario::RestartGranuleBad, NONE, LIVELOCK_WITH_TAGS),
    observed(19, Scenario::SamePages, NONE, LIVELOCK),
    observed(19, Scenario::OtherPages, NONE, COMPLETE),
    observed(20, Scenario::SamePages, NONE, COMPLETE),
    observed(20, Scenario::OtherPages, NONE, COMPLETE),
];

/// One line of the comparison: the operation, the pages, 5.10, 6.1 to 7.2, ours as found, ours fixed.
pub type Line = [String; 6];

/// The heads of these columns.
pub const HEADS: [&str; 6] =
    ["operation", "the buffer maps", "gfs2 5.10", "gfs2 6.1 to 7.2", "ours, as found", "ours, fixed"];

/// Returns the lines for which a report has both of our cells.
pub fn comparison(report: &Report) -> Vec<Line> {
    let rows = Square::all(report);
    let ours = |observed: &Observed, variant: Variant| -> Option<String> {
        let row = rows.iter().find(|row| row.caller.row == observed.row)?;
        let squares = row.variants.iter().find(|squares| squares[0].variant == variant)?;
        let square = squares.iter().find(|square| square.scenario == observed.pages)?;
        Some(square.texts().join("; "))
    };
    let line = |observed: &Observed| -> Option<Line> {
        let [as_found, fixed] = Variant::ALL.map(|variant| ours(observed, variant));
        let name = rows.iter().find(|row| row.caller.row == observed.row)?.caller.name;
        let operation = name.strip_prefix("gfs2 ").unwrap_or(name).to_string();
        let pages = match observed.pages {
            Scenario::SamePages => "the same pages",
            Scenario::OtherPages => "other pages",
            Scenario::RestartGranuleBad => "no file, a granule is bad",
            other => other.name(),
        };
        Some([operation, pages.into(), observed.before.into(), observed.since.into(), as_found?, fixed?])
    };
    OBSERVED.iter().filter_map(line).collect()
}

/// Returns whether a report has cells to compare.
pub fn is_in(report: &Report) -> bool {
    square::scenarios(report).iter().any(|scenario| scenario.is_of_mappings()) && !comparison(report).is_empty()
}
