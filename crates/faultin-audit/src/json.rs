//! The report as JSON.
//!
//! `{"rows": […], "summary": {…}}`. A row is a cell. `ok` is `true` or `false` where the cell ran; `false`, too, for a
//! skip that is not allowed here; `null` where it did not run and need not have. `expected` is `null` for rows that do
//! not run yet. `actual` contains `∞` for a livelock, and is `not yet`, `skipped: …` or `–` for what did not run.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::expect::DEADLOCK;
use crate::run::{Cell, Outcome, Report};

/// The report.
#[derive(Debug, Serialize)]
pub struct Json {
    /// The cells.
    pub rows: Vec<Row>,
    /// What they add up to.
    pub summary: Summary,
}

/// A cell.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The row's number in the mail, or after it.
    pub row: u8,
    /// The kernel's name.
    pub caller: &'static str,
    /// Where it is found: two callers share a name.
    pub place: &'static str,
    /// What it needs of a fault-in.
    pub need: &'static str,
    /// `as-found` or `fixed`.
    pub variant: &'static str,
    /// The memory it ran on.
    pub memory: &'static str,
    /// The column.
    pub scenario: &'static str,
    /// How it must end.
    pub expected: Option<String>,
    /// Who says so.
    pub source: Option<&'static str>,
    /// How it ended.
    pub actual: String,
    /// What is wrong with that, if anything.
    pub wrong: Option<String>,
    /// Why there is no such cell, if there is none.
    pub not_applicable: Option<&'static str>,
    /// Bytes that moved, in all runs together.
    pub moved: usize,
    /// Attempts, the most of one run.
    pub rounds: u32,
    /// Whether it is as expected.
    pub ok: Option<bool>,
}

/// What the cells add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The machine.
    pub environment: String,
    /// Rows asked for,
    pub callers: usize,
    /// and how many of them do not run yet.
    pub callers_not_yet: usize,
    /// Cells that there can be: the sum of the next three.
    pub cells: usize,
    /// Cells that ran.
    pub executed: usize,
    /// Cells that need what is not here.
    pub skipped: usize,
    /// Cells that nobody has written yet.
    pub not_yet: usize,
    /// Of those that ran: as expected.
    pub as_expected: usize,
    /// Of those that ran: not as expected.
    pub unexpected: usize,
    /// Of those skipped: not on the list for this environment.
    pub skips_not_allowed: usize,
    /// Livelocks seen.
    pub livelocks: usize,
    /// Deadlocks seen.
    pub deadlocks: usize,
    /// Whether all is as it should be: the exit status.
    pub ok: bool,
}

impl Summary {
    /// Of a report.
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
    /// Of a report.
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

/// The report as a JSON text.
///
/// # Panics
/// Never: the structures above can all be written.
pub fn text(report: &Report) -> String {
    serde_json::to_string_pretty(&Json::of(report)).expect("strings, numbers and truth values")
}
