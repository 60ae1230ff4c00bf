//! The report as JSON.
//!
//! `{"rows": […], "summary": {…}}`. A row is a cell. `ok` is `true` or `false` where the cell ran; `false`, too, for a skip
//! that is not allowed here; `null` where it did not run and did not have to. `expected` is `null` for rows that do not run
//! yet. `actual` contains `∞` for a livelock, and is `not yet`, `skipped: …` or `–` for a cell that did not run.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::expect::DEADLOCK;
use crate::run::{Cell, Outcome, Report};

/// The report.
#[derive(Debug, Serialize)]
pub struct Json {
    /// The cells.
    pub rows: Vec<Row>,
    /// The totals.
    pub summary: Summary,
}

/// A cell.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The row's number in the mail, or after it.
    pub row: u8,
    /// The kernel's name.
    pub caller: &'static str,
    /// The caller's place: two callers share a name.
    pub place: &'static str,
    /// The caller's need of a fault-in.
    pub need: &'static str,
    /// `as-found` or `fixed`.
    pub variant: &'static str,
    /// The memory that it ran on.
    pub memory: &'static str,
    /// The column.
    pub scenario: &'static str,
    /// How it must end.
    pub expected: Option<String>,
    /// The source of the expectation.
    pub source: Option<&'static str>,
    /// How it ended.
    pub actual: String,
    /// What is wrong with the end, if anything.
    pub wrong: Option<String>,
    /// The reason why there is no such cell, if there is none.
    pub not_applicable: Option<&'static str>,
    /// Number of bytes that moved, in all runs together.
    pub moved: usize,
    /// Number of attempts, the most of one run.
    pub rounds: u32,
    /// Whether it is as expected.
    pub ok: Option<bool>,
}

/// The totals of the cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The machine.
    pub environment: String,
    /// Number of requested rows.
    pub callers: usize,
    /// Number of them that do not run yet.
    pub callers_not_yet: usize,
    /// Number of possible cells: the sum of the next three.
    pub cells: usize,
    /// Number of cells that ran.
    pub executed: usize,
    /// Number of cells that need a missing feature.
    pub skipped: usize,
    /// Number of cells that are not written yet.
    pub not_yet: usize,
    /// Number of those that ran as expected.
    pub as_expected: usize,
    /// Number of those that ran and ended unexpectedly.
    pub unexpected: usize,
    /// Number of those skipped that are not on the list for this environment.
    pub skips_not_allowed: usize,
    /// Number of livelocks seen.
    pub livelocks: usize,
    /// Number of deadlocks seen.
    pub deadlocks: usize,
    /// Whether everything is as expected: the exit status.
    pub ok: bool,
}

impl Summary {
    /// Makes the JSON of a report.
    pub fn of(report: &Report) -> Summary {
        let count = |which: fn(&Cell) -> bool| report.cells.iter().filter(|cell| which(cell)).count();
        let rows = |which: fn(&Cell) -> bool| {
            let mut rows: Vec<u8> = report.cells.iter().filter(|c| which(c)).map(|c| c.caller.row).collect();
            rows.dedup();
            rows.len()
        };
        let ran = |cell: &Cell| matches!(cell.outcome, Outcome::Ran(_));
        Summary {
            environment: report.environment.to_string(),
            callers: rows(|_| true),
            callers_not_yet: rows(|cell| matches!(cell.outcome, Outcome::NotYet)),
            cells: count(|cell| !matches!(cell.outcome, Outcome::NotApplicable(_))),
            executed: count(ran),
            skipped: count(|cell| matches!(cell.outcome, Outcome::Skipped { .. })),
            not_yet: count(|cell| matches!(cell.outcome, Outcome::NotYet)),
            as_expected: count(|cell| cell.ok() == Some(true)),
            unexpected: count(|cell| matches!(&cell.outcome, Outcome::Ran(ran) if ran.verdict.is_err())),
            skips_not_allowed: count(|cell| matches!(cell.outcome, Outcome::Skipped { allowed: false, .. })),
            livelocks: count(|cell| cell.actual().contains('∞')),
            deadlocks: count(|cell| cell.actual().contains(DEADLOCK)),
            ok: report.is_ok(),
        }
    }
}

impl Json {
    /// Makes the JSON of a report.
    pub fn of(report: &Report) -> Json {
        Json { rows: report.cells.iter().map(Row::of).collect(), summary: Summary::of(report) }
    }
}

impl Row {
    fn of(cell: &Cell) -> Row {
        let (moved, rounds, wrong) = match &cell.outcome {
            Outcome::Ran(ran) => (ran.moved, ran.rounds, ran.verdict.clone().err()),
            Outcome::Skipped { feature, allowed: false } => (0, 0, Some(format!("{feature} ought to be here"))),
            _ => (0, 0, None),
        };
        Row {
            row: cell.caller.row,
            caller: cell.caller.name,
            place: cell.caller.place,
            need: cell.caller.need.name(),
            variant: cell.variant.name(),
            memory: cell.memory.name(),
            scenario: cell.scenario.name(),
            expected: cell.expected(),
            source: cell.expectation.map(|expectation| expectation.source),
            actual: cell.actual(),
            wrong,
            not_applicable: match cell.outcome {
                Outcome::NotApplicable(why) => Some(why),
                _ => None,
            },
            moved,
            rounds,
            ok: cell.ok(),
        }
    }
}

/// Returns the report as a JSON text.
///
/// # Panics
/// Never: the structures above can all be written.
pub fn text(report: &Report) -> String {
    serde_json::to_string_pretty(&Json::of(report)).expect("strings, numbers and truth values")
}
