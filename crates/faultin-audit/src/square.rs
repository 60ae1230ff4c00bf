//! The entries of a table. A *square* is one caller, in one variant, in one scenario: its cell on each memory.
//!
//! Both memories have the same expectation, so a square has one text where both ran and ended alike. Where a cell was
//! skipped, a [mark](Marks) next to the other's result shows the missing feature.

#![forbid(unsafe_code)]

use std::fmt;

use crate::callers::{Caller, Variant};
use crate::environment::Feature;
use crate::expect::{DEADLOCK, Ends};
use crate::run::{Cell, Outcome, Report};
use crate::scenario::Scenario;
use crate::user::Memory;

/// The cells of one square of the table.
#[derive(Clone)]
pub struct Square<'a> {
    /// The row.
    pub caller: &'a Caller,
    /// The variant.
    pub variant: Variant,
    /// The column.
    pub scenario: Scenario,
    /// One for each memory.
    pub cells: Vec<&'a Cell>,
}

/// The kind of a square's result, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The scenario does not exist for the caller.
    NotApplicable,
    /// It is not written yet.
    NotYet,
    /// It needs a feature that is missing, and may be.
    Skipped,
    /// As expected, and right.
    Fine,
    /// As expected, and the fixed code ends in another way.
    Defect,
    /// As expected, and does not terminate.
    Livelock,
    /// As expected, and waits for itself.
    Deadlock,
    /// Unexpected; or skipped where it may not be.
    Unexpected,
}

/// One caller's squares, by variant.
pub struct Rows<'a> {
    /// The caller.
    pub caller: &'a Caller,
    /// For each variant, its squares in the order of the columns.
    pub variants: Vec<Vec<Square<'a>>>,
}

impl<'a> Square<'a> {
    /// Returns every square of a report.
    pub fn all(report: &'a Report) -> Vec<Rows<'a>> {
        report.cells.chunk_by(|a, b| a.caller.row == b.caller.row).map(Rows::of).collect()
    }

    /// Returns the worst of its cells.
    pub fn kind(&self) -> Kind {
        self.cells.iter().map(|cell| kind(cell)).max().unwrap_or(Kind::NotYet)
    }

    /// Returns its text, without marks: one text, or one for each memory where they differ.
    pub fn texts(&self) -> Vec<String> {
        let mut told: Vec<&Cell> = self.cells.iter().copied().filter(|cell| !is_skipped(cell)).collect();
        if told.is_empty() {
            told.extend(self.cells.first());
        }
        // Where one memory does not have the scenario, the other one decides.
        if told.iter().any(|cell| !is_not_applicable(cell)) {
            told.retain(|cell| !is_not_applicable(cell));
        }
        let texts: Vec<String> = told.iter().map(|cell| text(cell)).collect();
        match &texts[..] {
            [first, rest @ ..] if rest.iter().all(|text| text == first) => vec![first.clone()],
            _ => told.iter().zip(texts).map(|(cell, text)| format!("{} {text}", cell.memory.name())).collect(),
        }
    }

    /// Returns the features that its skipped cells need, and their memory.
    pub fn skips(&self) -> impl Iterator<Item = (Memory, Feature)> {
        self.cells.iter().filter_map(|cell| match cell.outcome {
            Outcome::Skipped { feature, .. } => Some((cell.memory, feature)),
            _ => None,
        })
    }

    /// Returns whether some of it ran and some was skipped.
    pub fn is_partly_skipped(&self) -> bool {
        self.skips().next().is_some() && !self.cells.iter().all(|cell| is_skipped(cell))
    }
}

impl<'a> Rows<'a> {
    fn of(cells: &'a [Cell]) -> Rows<'a> {
        let variants = cells.chunk_by(|a, b| a.variant == b.variant).map(|cells| {
            let of_first_memory = cells.iter().take_while(|cell| cell.memory == cells[0].memory);
            of_first_memory
                .map(|first| Square {
                    caller: &first.caller,
                    variant: first.variant,
                    scenario: first.scenario,
                    cells: cells.iter().filter(|cell| cell.scenario == first.scenario).collect(),
                })
                .collect()
        });
        Rows { caller: &cells[0].caller, variants: variants.collect() }
    }

    /// Returns the squares of a variant, by its index, in these columns.
    pub fn squares<'s>(&'s self, variant: usize, scenarios: &'s [Scenario]) -> impl Iterator<Item = &'s Square<'a>> {
        self.variants[variant].iter().filter(|square| scenarios.contains(&square.scenario))
    }

    /// Returns whether this caller is not written yet.
    pub fn is_not_yet(&self) -> bool {
        self.caller.job.is_none()
    }
}

/// One of the two tables: its columns, and the rows that are not empty.
pub struct Part<'r, 'a> {
    /// The columns, in order.
    pub scenarios: Vec<Scenario>,
    /// The rows.
    pub rows: Vec<&'r Rows<'a>>,
}

impl<'r, 'a> Part<'r, 'a> {
    /// Makes the table of all callers, and the one of those whose buffer may be a mapping of their own file; as far as a
    /// report has them.
    pub fn both(report: &Report, rows: &'r [Rows<'a>]) -> [Part<'r, 'a>; 2] {
        [Scenario::OF_BUFFERS, Scenario::OF_MAPPINGS].map(|scenarios| {
            let asked_for = |s: &Scenario| report.cells.iter().any(|cell| cell.scenario == *s);
            let scenarios: Vec<Scenario> = scenarios.iter().copied().filter(asked_for).collect();
            let has_some = |rows: &&Rows| rows.squares(0, &scenarios).any(|s| s.kind() != Kind::NotApplicable);
            let mut of_this: Vec<&Rows> = rows.iter().filter(has_some).collect();
            // If only scenarios were requested that do not exist for the callers, the table says so.
            if of_this.is_empty() && scenarios.len() == self::scenarios(report).len() {
                of_this.extend(rows);
            }
            Part { scenarios, rows: of_this }
        })
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty() || self.rows.is_empty()
    }
}

/// Returns the scenarios of a report, in the order of the columns.
pub fn scenarios(report: &Report) -> Vec<Scenario> {
    Scenario::ALL.into_iter().filter(|s| report.cells.iter().any(|cell| cell.scenario == *s)).collect()
}

/// Returns the kind of one cell's result.
pub fn kind(cell: &Cell) -> Kind {
    match (cell.ok(), &cell.outcome) {
        (Some(false), _) => Kind::Unexpected,
        (_, Outcome::NotYet) => Kind::NotYet,
        (_, Outcome::NotApplicable(_)) => Kind::NotApplicable,
        (_, Outcome::Skipped { .. }) => Kind::Skipped,
        (_, Outcome::Ran(ran)) if ran.actual.contains('∞') => Kind::Livelock,
        (_, Outcome::Ran(ran)) if ran.actual.contains(DEADLOCK) => Kind::Deadlock,
        _ if cell.variant == Variant::AsFound && cell.expected() != cell.expected_of_fixed() => Kind::Defect,
        _ => Kind::Fine,
    }
}

/// Returns the text of one cell. With a concurrent adversary it is a statement that holds, or the only possible end; the
/// frequencies are in the steps and the JSON.
pub fn text(cell: &Cell) -> String {
    let actual = cell.actual();
    let short = match cell.expectation.map(|expectation| expectation.ends) {
        Some(Ends::OneOf([only])) if cell.ok() == Some(true) => only,
        _ => actual.split(':').next().unwrap_or_default(),
    };
    if cell.ok() == Some(false) { format!("✗ {short}") } else { short.into() }
}

fn is_not_applicable(cell: &Cell) -> bool {
    matches!(cell.outcome, Outcome::NotApplicable(_))
}

fn is_skipped(cell: &Cell) -> bool {
    matches!(cell.outcome, Outcome::Skipped { allowed: true, .. })
}

/// The signs for the features that skipped cells need: one for each feature.
pub struct Marks(Vec<Skip>);

/// The skips for lack of one feature. Printed without its sign.
#[derive(Clone, Copy, Debug)]
pub struct Skip {
    /// Its sign.
    pub mark: char,
    /// The memory.
    pub memory: Memory,
    /// The missing feature.
    pub feature: Feature,
    /// Number of skipped cells.
    pub cells: usize,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = if self.cells == 1 { "cell" } else { "cells" };
        write!(f, "skipped on the {}: {} ({} {cells})", self.memory.name(), self.feature, self.cells)
    }
}

impl Marks {
    /// Makes the marks of a report's skips, the most frequent first.
    pub fn of(report: &Report) -> Marks {
        const SIGNS: [char; 4] = ['†', '‡', '§', '¶'];
        let mut skips: Vec<Skip> = Vec::new();
        for cell in &report.cells {
            let Outcome::Skipped { feature, .. } = cell.outcome else { continue };
            match skips.iter_mut().find(|skip| (skip.memory, skip.feature) == (cell.memory, feature)) {
                Some(skip) => skip.cells += 1,
                None => skips.push(Skip { mark: ' ', memory: cell.memory, feature, cells: 1 }),
            }
        }
        skips.sort_by_key(|skip| std::cmp::Reverse(skip.cells));
        for (index, skip) in skips.iter_mut().enumerate() {
            skip.mark = SIGNS[index % SIGNS.len()];
        }
        Marks(skips)
    }

    /// Returns every sign and its meaning.
    pub fn skips(&self) -> &[Skip] {
        &self.0
    }

    /// Returns the texts of a square, with its marks.
    pub fn texts(&self, square: &Square) -> Vec<String> {
        let mut texts = square.texts();
        let signs = self.0.iter().filter(|skip| square.skips().any(|it| it == (skip.memory, skip.feature)));
        let signs: String = signs.map(|skip| skip.mark).collect();
        if let (Some(last), false) = (texts.last_mut(), signs.is_empty()) {
            *last += " ";
            *last += &signs;
        }
        texts
    }
}
