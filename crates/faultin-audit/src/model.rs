//! The model of a report: everything that a rendering shows, as plain data, computed once.
//!
//! A *square* is one caller, in one variant, in one scenario: its cell on each memory. Both memories have the same
//! expectation, so a square has one text where both ran and ended alike. Where a cell was skipped, a [mark](Skip) next to the
//! other's result shows the missing feature.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use crate::axes::{Feature, Memory, Variant};
use crate::caller::Need;
use crate::expect::{DEADLOCK, Ends};
use crate::kernel::OBSERVED;
use crate::run::{self, Outcome, Report};
use crate::scenario::Scenario;

/// Everything that a rendering shows.
#[derive(Clone, Debug)]
pub struct Model {
    /// The machine.
    pub environment: String,
    /// The totals.
    pub summary: Summary,
    /// The totals of the simulated cells: the same everywhere.
    pub simulated: Simulated,
    /// The cells: by row, then by variant, then by memory, then by column.
    pub cells: Vec<Cell>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The scenarios, in the order of the columns.
    pub scenarios: Vec<Scenario>,
    /// The table of all callers, and the one of those whose buffer may be a mapping of their own file.
    pub tables: [Table; 2],
    /// The features that skipped cells need, the most frequent first.
    pub skips: Vec<Skip>,
    /// The kernel's results and ours: the operation, the pages, 5.10, 6.1 to 7.2, ours as found, ours fixed. As far as both
    /// of ours were requested.
    pub comparison: Vec<[String; 6]>,
}

/// A cell; serialized, a row of the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
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
    /// "Caller from X, helper from Y". `None` if it is not written yet.
    #[serde(skip)]
    pub origin: Option<&'static str>,
    /// The kind of its result.
    #[serde(skip)]
    pub kind: Kind,
    /// Its result in the table, without marks.
    #[serde(skip)]
    pub text: String,
    /// How the fixed code must end, if that differs.
    #[serde(skip)]
    pub fixed: Option<String>,
    /// Whether it ran.
    #[serde(skip)]
    pub has_run: bool,
    /// Number of runs.
    #[serde(skip)]
    pub runs: u32,
    /// The steps of the last run.
    #[serde(skip)]
    pub steps: Vec<String>,
}

/// The kind of a result, the worst last.
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

/// One caller, and its squares.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// The kernel's name.
    pub name: &'static str,
    /// Its place.
    pub place: &'static str,
    /// Its need of a fault-in.
    pub need: Need,
    /// The mail's finding.
    pub finding: &'static str,
    /// "Caller from X, helper from Y", of each variant. `None` if it is not written yet.
    pub origins: Option<[&'static str; 2]>,
    /// For each variant, its squares in the order of the columns.
    pub variants: Vec<Vec<Square>>,
    /// The scenarios in which both variants end differently on simulated memory, by the two ends. `None` if only one was
    /// requested.
    pub changes: Option<Vec<Change>>,
}

/// A difference between the variants.
#[derive(Clone, Debug)]
pub struct Change {
    /// The end as found, and fixed.
    pub ends: [String; 2],
    /// The scenarios.
    pub scenarios: Vec<&'static str>,
}

/// One square of the table.
#[derive(Clone, Debug)]
pub struct Square {
    /// The variant.
    pub variant: Variant,
    /// The column.
    pub scenario: Scenario,
    /// The kind of its worst result.
    pub kind: Kind,
    /// Its texts, with marks: one, or one for each memory where they differ.
    pub texts: Vec<String>,
    /// Whether some of it ran and some was skipped.
    pub is_partly_skipped: bool,
    /// What a document shows of it, which is the same on every machine unless something is wrong.
    pub portable: Portable,
    /// The indices of its cells in the model: one for each memory.
    pub cells: Vec<usize>,
}

/// The result of the simulated cell of a square; or, where there is no such cell, of the other one.
#[derive(Clone, Debug)]
pub struct Portable {
    /// Its text, and the host's if that ran, is unexpected and differs.
    pub text: String,
    /// Its kind.
    pub kind: Option<Kind>,
    /// How it must end.
    pub expected: Option<String>,
}

/// One of the two tables.
#[derive(Clone, Debug)]
pub struct Table {
    /// The columns, in order.
    pub scenarios: Vec<Scenario>,
    /// The indices of the rows in the model that are not empty.
    pub rows: Vec<usize>,
}

impl Table {
    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty() || self.rows.is_empty()
    }
}

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

/// The totals of the simulated cells.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// Number of cells that ran.
    pub executed: usize,
    /// Number of those that ran as expected.
    pub as_expected: usize,
    /// Number of livelocks.
    pub livelocks: usize,
    /// Number of deadlocks.
    pub deadlocks: usize,
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

impl Model {
    /// Makes the model of a report.
    pub fn of(report: &Report) -> Model {
        let cells: Vec<Cell> = report.cells.iter().map(Cell::of).collect();
        let skips = skips(report);
        let rows = rows(report, &cells, &skips);
        let asked_for = |scenario: &Scenario| report.cells.iter().any(|cell| cell.scenario == *scenario);
        let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(asked_for).collect();
        Model {
            environment: report.environment.to_string(),
            summary: Summary::of(report, &cells, &rows),
            simulated: Simulated::of(&cells),
            tables: [Scenario::OF_BUFFERS, Scenario::OF_MAPPINGS].map(|columns| table(columns, &scenarios, &rows)),
            comparison: comparison(&rows, &cells),
            cells,
            rows,
            scenarios,
            skips,
        }
    }

    /// Returns the rows of a table.
    pub fn rows_of<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a Row> {
        table.rows.iter().map(|&index| &self.rows[index])
    }

    /// Returns the cells of a square.
    pub fn cells_of<'a>(&'a self, square: &'a Square) -> impl Iterator<Item = &'a Cell> {
        square.cells.iter().map(|&index| &self.cells[index])
    }

    /// Returns whether the kernel's results are to be shown beside ours: if the second table was requested, too.
    pub fn compares(&self) -> bool {
        self.scenarios.iter().any(|scenario| scenario.is_of_mappings()) && !self.comparison.is_empty()
    }
}

impl Cell {
    fn of(cell: &run::Cell) -> Cell {
        let ran = match &cell.outcome {
            Outcome::Ran(ran) => Some(ran),
            _ => None,
        };
        let kind = kind(cell);
        let (expected, fixed) = (cell.expected(), cell.expected_of_fixed());
        let caller = &cell.caller;
        Cell {
            row: caller.row,
            caller: caller.name,
            place: caller.place,
            need: caller.need.name(),
            variant: cell.variant.name(),
            memory: cell.memory.name(),
            scenario: cell.scenario.name(),
            source: cell.expectation.map(|expectation| expectation.source),
            actual: cell.actual(),
            wrong: match cell.outcome {
                Outcome::Skipped { feature, allowed: false } => Some(format!("{feature} ought to be here")),
                _ => ran.and_then(|ran| ran.verdict.clone().err()),
            },
            not_applicable: match cell.outcome {
                Outcome::NotApplicable(why) => Some(why),
                _ => None,
            },
            moved: ran.map_or(0, |ran| ran.moved),
            rounds: ran.map_or(0, |ran| ran.rounds),
            ok: cell.ok(),
            origin: caller.job.map(|_| caller.origin(cell.variant)),
            kind,
            text: text(cell),
            fixed: fixed.filter(|fixed| cell.variant == Variant::AsFound && expected.as_ref() != Some(fixed)),
            expected,
            has_run: ran.is_some(),
            runs: ran.map_or(0, |ran| ran.runs),
            steps: ran.map(|ran| ran.steps.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        }
    }

    /// Returns its name.
    pub fn title(&self) -> String {
        let Cell { row, caller, place, variant, scenario, memory, .. } = self;
        format!("{row} {caller} ({place}), {variant}, {scenario}, {memory}")
    }

    /// Returns whether it does not terminate.
    pub fn is_endless(&self) -> bool {
        self.actual.contains('∞')
    }
}

/// Returns the kind of one cell's result.
fn kind(cell: &run::Cell) -> Kind {
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
fn text(cell: &run::Cell) -> String {
    let actual = cell.actual();
    let short = match cell.expectation.map(|expectation| expectation.ends) {
        Some(Ends::OneOf([only])) if cell.ok() == Some(true) => only,
        _ => actual.split(':').next().unwrap_or_default(),
    };
    if cell.ok() == Some(false) { format!("✗ {short}") } else { short.into() }
}

/// Returns the rows of a report. Its cells are by row, then by variant, then by memory, then by column.
fn rows(report: &Report, cells: &[Cell], skips: &[Skip]) -> Vec<Row> {
    let mut start = 0;
    let of_rows = report.cells.chunk_by(|a, b| a.caller.row == b.caller.row);
    let row = |of_row: &[run::Cell]| {
        let of_variants = of_row.chunk_by(|a, b| a.variant == b.variant);
        let variants: Vec<Vec<Square>> = of_variants
            .map(|of_variant| {
                let of_first_memory = of_variant.iter().take_while(|cell| cell.memory == of_variant[0].memory);
                let squares = of_first_memory.map(|first| {
                    let same = |index: &usize| report.cells[*index].scenario == first.scenario;
                    let indices = (start..start + of_variant.len()).filter(same).collect();
                    square(report, cells, skips, first, indices)
                });
                let squares = squares.collect();
                start += of_variant.len();
                squares
            })
            .collect();
        let caller = of_row[0].caller;
        Row {
            number: caller.row,
            name: caller.name,
            place: caller.place,
            need: caller.need,
            finding: caller.finding,
            origins: caller.job.map(|_| caller.origins),
            changes: changes(&variants),
            variants,
        }
    };
    of_rows.map(row).collect()
}

impl Row {
    /// Returns whether this caller is not written yet.
    pub fn is_not_yet(&self) -> bool {
        self.origins.is_none()
    }

    /// Returns the squares of a variant, by its index, in these columns.
    pub fn squares<'a>(&'a self, variant: usize, scenarios: &'a [Scenario]) -> impl Iterator<Item = &'a Square> {
        self.variants[variant].iter().filter(|square| scenarios.contains(&square.scenario))
    }

    /// Returns the name of one of its squares.
    pub fn title(&self, square: &Square) -> String {
        let (variant, scenario) = (square.variant.name(), square.scenario.name());
        format!("{} {} ({}), {variant}, {scenario}", self.number, self.name, self.place)
    }
}

fn square(report: &Report, cells: &[Cell], skips: &[Skip], first: &run::Cell, indices: Vec<usize>) -> Square {
    let of_this = || indices.iter().map(|&index| &cells[index]);
    let skipped = |skip: &&Skip| {
        indices.iter().any(|&index| {
            let cell = &report.cells[index];
            matches!(cell.outcome, Outcome::Skipped { feature, .. } if (cell.memory, feature) == (skip.memory, skip.feature))
        })
    };
    let marks: String = skips.iter().filter(skipped).map(|skip| skip.mark).collect();
    let mut texts = texts(&of_this().collect::<Vec<_>>());
    if let (Some(last), false) = (texts.last_mut(), marks.is_empty()) {
        *last += " ";
        *last += &marks;
    }
    Square {
        variant: first.variant,
        scenario: first.scenario,
        kind: of_this().map(|cell| cell.kind).max().unwrap_or(Kind::NotYet),
        texts,
        is_partly_skipped: !marks.is_empty() && !of_this().all(|cell| cell.kind == Kind::Skipped),
        portable: portable(&of_this().collect::<Vec<_>>()),
        cells: indices,
    }
}

/// Returns one text, or one for each memory where they differ.
fn texts(cells: &[&Cell]) -> Vec<String> {
    let mut told: Vec<&Cell> = cells.iter().copied().filter(|cell| cell.kind != Kind::Skipped).collect();
    if told.is_empty() {
        told.extend(cells.first());
    }
    // Where one memory does not have the scenario, the other one decides.
    if told.iter().any(|cell| cell.kind != Kind::NotApplicable) {
        told.retain(|cell| cell.kind != Kind::NotApplicable);
    }
    match &told[..] {
        [first, rest @ ..] if rest.iter().all(|cell| cell.text == first.text) => vec![first.text.clone()],
        _ => told.iter().map(|cell| format!("{} {}", cell.memory, cell.text)).collect(),
    }
}

fn portable(cells: &[&Cell]) -> Portable {
    let on = |memory: Memory| cells.iter().copied().find(move |cell| cell.memory == memory.name());
    let simulated = on(Memory::Sim);
    let shown = simulated.filter(|cell| cell.kind != Kind::NotApplicable);
    let shown = shown.or_else(|| on(Memory::Host).filter(|cell| cell.has_run)).or(simulated);
    let wrong = on(Memory::Host).filter(|cell| cell.has_run && cell.wrong.is_some());
    let wrong = wrong.filter(|host| shown.is_none_or(|shown| shown.text != host.text));
    let texts = shown.map(|cell| cell.text.clone()).into_iter().chain(wrong.map(|host| format!("host {}", host.text)));
    Portable {
        text: texts.collect::<Vec<_>>().join("; "),
        kind: shown.map(|cell| cell.kind),
        expected: shown.and_then(|cell| cell.expected.clone()),
    }
}

fn changes(variants: &[Vec<Square>]) -> Option<Vec<Change>> {
    let [found, fixed] = variants else { return None };
    let mut changes: Vec<Change> = Vec::new();
    for (found, fixed) in found.iter().zip(fixed) {
        let ends = [&found.portable.text, &fixed.portable.text];
        if ends[0] == ends[1] && !ends[0].contains('✗') {
            continue;
        }
        let ends = ends.map(String::clone);
        match changes.iter_mut().find(|known| known.ends == ends) {
            Some(known) => known.scenarios.push(found.scenario.name()),
            None => changes.push(Change { ends, scenarios: vec![found.scenario.name()] }),
        }
    }
    Some(changes)
}

fn table(columns: &[Scenario], asked_for: &[Scenario], rows: &[Row]) -> Table {
    let scenarios: Vec<Scenario> = columns.iter().copied().filter(|scenario| asked_for.contains(scenario)).collect();
    let has_some = |row: &Row| row.squares(0, &scenarios).any(|square| square.kind != Kind::NotApplicable);
    let mut of_this: Vec<usize> = (0..rows.len()).filter(|&index| has_some(&rows[index])).collect();
    // If only scenarios were requested that do not exist for the callers, the table says so.
    if of_this.is_empty() && scenarios.len() == asked_for.len() {
        of_this.extend(0..rows.len());
    }
    Table { scenarios, rows: of_this }
}

/// Returns the marks of a report's skips.
fn skips(report: &Report) -> Vec<Skip> {
    const SIGNS: [char; 4] = ['†', '‡', '§', '¶'];
    let mut skips: Vec<Skip> = Vec::new();
    for cell in &report.cells {
        let Outcome::Skipped { feature, .. } = cell.outcome else { continue };
        match skips.iter_mut().find(|skip| (skip.memory, skip.feature) == (cell.memory, feature)) {
            Some(skip) => skip.cells += 1,
            None => skips.push(Skip { mark: ' ', memory: cell.memory, feature, cells: 1 }),
        }
    }
    skips.sort_by_key(|skip| Reverse(skip.cells));
    skips.iter_mut().zip(SIGNS.into_iter().cycle()).for_each(|(skip, sign)| skip.mark = sign);
    skips
}

fn comparison(rows: &[Row], cells: &[Cell]) -> Vec<[String; 6]> {
    let lines = OBSERVED.iter().filter_map(|observed| {
        let row = rows.iter().find(|row| row.number == observed.row)?;
        let ours = |variant: Variant| {
            let squares = row.variants.iter().find(|squares| squares[0].variant == variant)?;
            let square = squares.iter().find(|square| square.scenario == observed.pages)?;
            let of_square: Vec<&Cell> = square.cells.iter().map(|&index| &cells[index]).collect();
            Some(texts(&of_square).join("; "))
        };
        let operation = row.name.strip_prefix("gfs2 ").unwrap_or(row.name);
        let [found, fixed] = Variant::ALL.map(ours);
        let [operation, buffer, before, since] =
            [operation, observed.buffer, observed.before, observed.since].map(String::from);
        Some([operation, buffer, before, since, found?, fixed?])
    });
    lines.collect()
}

impl Simulated {
    fn of(cells: &[Cell]) -> Simulated {
        let simulated = || cells.iter().filter(|cell| cell.memory == Memory::Sim.name() && cell.ok.is_some());
        let of_kind = |kind| simulated().filter(|cell| cell.kind == kind).count();
        Simulated {
            executed: simulated().count(),
            as_expected: simulated().filter(|cell| cell.ok == Some(true)).count(),
            livelocks: of_kind(Kind::Livelock),
            deadlocks: of_kind(Kind::Deadlock),
        }
    }
}

impl Summary {
    fn of(report: &Report, cells: &[Cell], rows: &[Row]) -> Summary {
        let count = |which: fn(&Cell) -> bool| cells.iter().filter(|cell| which(cell)).count();
        let skipped = |allowed: &[bool]| {
            let is = |cell: &&run::Cell| matches!(&cell.outcome, Outcome::Skipped { allowed: is, .. } if allowed.contains(is));
            report.cells.iter().filter(is).count()
        };
        Summary {
            environment: report.environment.to_string(),
            callers: rows.len(),
            callers_not_yet: rows.iter().filter(|row| row.is_not_yet()).count(),
            cells: count(|cell| cell.not_applicable.is_none()),
            executed: count(|cell| cell.has_run),
            skipped: skipped(&[false, true]),
            not_yet: count(|cell| cell.kind == Kind::NotYet),
            as_expected: count(|cell| cell.ok == Some(true)),
            unexpected: count(|cell| cell.has_run && cell.wrong.is_some()),
            skips_not_allowed: skipped(&[false]),
            livelocks: count(Cell::is_endless),
            deadlocks: count(|cell| cell.actual.contains(DEADLOCK)),
            ok: report.is_ok(),
        }
    }
}
