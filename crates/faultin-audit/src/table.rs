//! The report for people: the table, the steps of its cells, and the list of what there is.

#![forbid(unsafe_code)]

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell as Field, Color, ColumnConstraint, ContentArrangement, Table, Width};

use crate::callers::{self, Caller, Variant};
use crate::json::Summary;
use crate::run::{Cell, Outcome, Report};
use crate::scenario::Scenario;

/// Columns before and after those of the scenarios.
const BEFORE: usize = 4;

/// Steps of one run that are printed at its beginning and at its end, if there are more.
const SHOWN: usize = 12;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether with colours.
    pub colour: bool,
    /// Characters in a line.
    pub width: u16,
}

/// The table, its legend and its sum.
pub fn table(report: &Report, style: Style) -> String {
    let scenarios: Vec<Scenario> =
        Scenario::ALL.into_iter().filter(|s| report.cells.iter().any(|cell| cell.scenario == *s)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_width(style.width);
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let heads = ["#", "caller", "needs", "variant"].into_iter().chain(scenarios.iter().map(|s| s.name()));
    table.set_header(heads.chain(["the mail"]).map(|head| Field::new(head).add_attribute(Attribute::Bold)));
    let mut cells = report.cells.as_slice();
    while let Some(first) = cells.first() {
        let row;
        (row, cells) = cells.split_at(scenarios.len());
        let starts = row[0].variant == Variant::AsFound
            || !report.cells.iter().any(|c| c.caller.row == first.caller.row && c.variant == Variant::AsFound);
        if starts || !matches!(first.outcome, Outcome::NotYet) {
            table.add_row(line(row, starts, report));
        }
    }
    let constraints = [2, 25, 7, 8].into_iter().chain(scenarios.iter().map(|_| 9));
    table.set_constraints(constraints.map(|width| ColumnConstraint::LowerBoundary(Width::Fixed(width))));
    let mut out = String::new();
    writeln!(out, "faultin audit: {}\n", report.environment).expect(STRING);
    writeln!(out, "{}\n", table.trim_fmt()).expect(STRING);
    out + &legend() + &unexpected(report) + &sum(&Summary::of(report))
}

const STRING: &str = "a string takes everything";

fn line(cells: &[Cell], starts: bool, report: &Report) -> Vec<Field> {
    let caller = &cells[0].caller;
    let waits = matches!(cells[0].outcome, Outcome::NotYet);
    let dim = |field: Field| if waits { field.fg(Color::DarkGrey) } else { field };
    let only = |text: String| if starts { text } else { String::new() };
    let variant = if waits { "" } else { cells[0].variant.name() };
    let mut line = Vec::with_capacity(BEFORE + cells.len() + 1);
    line.push(dim(Field::new(only(caller.row.to_string()))));
    line.push(dim(Field::new(only(format!("{} ({})", caller.name, caller.place)))));
    line.push(dim(Field::new(only(caller.need.to_string()))));
    line.push(dim(Field::new(variant)));
    line.extend(cells.iter().map(|cell| field(cell, report)));
    line.push(dim(Field::new(only(caller.finding.into()))));
    line
}

/// What a cell shows. Red is only what is not as expected; yellow is a defect that was expected.
fn field(cell: &Cell, report: &Report) -> Field {
    let text = cell.actual();
    // Beside an adversary it is a statement that holds, and the tally is for the steps and the JSON.
    let short = text.split(':').next().unwrap_or(&text).to_owned();
    match cell.ok() {
        Some(false) => Field::new(format!("✗ {short}")).fg(Color::Red).add_attribute(Attribute::Bold),
        None => Field::new(short).fg(Color::DarkGrey),
        Some(true) if text.contains('∞') => Field::new(short).fg(Color::Yellow).add_attribute(Attribute::Bold),
        Some(true) if is_defect(cell, report) => Field::new(short).fg(Color::Yellow),
        Some(true) => Field::new(short).fg(Color::Green),
    }
}

/// Whether the fixed variant ends in another way.
fn is_defect(cell: &Cell, report: &Report) -> bool {
    let other =
        |c: &&Cell| c.caller.row == cell.caller.row && c.scenario == cell.scenario && c.variant == Variant::Fixed;
    let fixed = report.cells.iter().find(other);
    cell.variant == Variant::AsFound && fixed.is_some_and(|fixed| fixed.expected() != cell.expected())
}

fn legend() -> String {
    "as-found  the caller and its helper as the mail met them     fixed  as it should be\n\
     ANY       some progress is enough                            ALL    every byte must be proven: starts from scratch\n\
     ∞         a state repeated with nothing happening between    ✗      not as expected\n\
     holds     what must hold beside the remapping thread held    B      bytes that moved, where neither none nor all\n\n"
        .into()
}

fn unexpected(report: &Report) -> String {
    let mut out = String::new();
    for cell in report.cells.iter().filter(|cell| cell.ok() == Some(false)) {
        let why = match &cell.outcome {
            Outcome::Ran(ran) => ran.verdict.clone().err().unwrap_or_default(),
            _ => "may not be missing in this environment".into(),
        };
        writeln!(out, "✗ {}: {}; {why}", title(cell), cell.actual()).expect(STRING);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn sum(summary: &Summary) -> String {
    let mut out = format!(
        "{} of {} executed cells as expected, {} of them livelocks; {} skipped; {} of {} callers not yet.\n",
        summary.as_expected,
        summary.executed,
        summary.livelocks,
        summary.skipped,
        summary.callers_not_yet,
        summary.callers,
    );
    if summary.skips_not_allowed > 0 {
        writeln!(out, "{} skips are not allowed here.", summary.skips_not_allowed).expect(STRING);
    }
    out
}

fn title(cell: &Cell) -> String {
    let caller = &cell.caller;
    format!("{} {} ({}), {}, {}", caller.row, caller.name, caller.place, cell.variant.name(), cell.scenario.name())
}

/// The steps of each cell.
pub fn traces(report: &Report) -> String {
    let mut out = String::new();
    for cell in &report.cells {
        let (Some(job), Some(expectation)) = (cell.caller.job, cell.expectation) else {
            writeln!(out, "{}\n  not yet\n", title(cell)).expect(STRING);
            continue;
        };
        writeln!(out, "{}", title(cell)).expect(STRING);
        writeln!(out, "  {}", job.origin(cell.variant)).expect(STRING);
        writeln!(out, "  expected  {} [{}]", cell.expected().unwrap_or_default(), expectation.source).expect(STRING);
        writeln!(out, "  actual    {}", cell.actual()).expect(STRING);
        if let Outcome::Ran(ran) = &cell.outcome {
            if ran.runs > 1 {
                writeln!(out, "  the last of {} runs:", ran.runs).expect(STRING);
            }
            for (number, step) in ran.steps.iter().enumerate() {
                let hidden = ran.steps.len().saturating_sub(2 * SHOWN);
                if number == SHOWN && hidden > 0 {
                    writeln!(out, "        … {hidden} more").expect(STRING);
                }
                if hidden == 0 || number < SHOWN || number >= SHOWN + hidden {
                    writeln!(out, "  {:>4}  {step}", number + 1).expect(STRING);
                }
            }
            if cell.actual().contains('∞') {
                writeln!(out, "        … and so for ever").expect(STRING);
            }
            if let Err(wrong) = &ran.verdict {
                writeln!(out, "  ✗ {wrong}").expect(STRING);
            }
        }
        out.push('\n');
    }
    out
}

/// What there is: the callers and the scenarios.
pub fn list(callers: &[Caller]) -> String {
    let mut out = String::from("callers\n");
    for caller in callers {
        let name = format!("{} ({})", caller.name, caller.place);
        writeln!(out, "  {:>2}  {name:<40} needs {:<14} {}", caller.row, caller.need, caller.finding).expect(STRING);
        match caller.job {
            Some(job) => {
                for variant in Variant::ALL {
                    writeln!(out, "        {:<9} {}", variant.name(), job.origin(variant)).expect(STRING);
                }
            }
            None => writeln!(out, "        not yet").expect(STRING),
        }
    }
    out.push_str("\nscenarios\n");
    for scenario in Scenario::ALL {
        writeln!(out, "  {:<17} {}", scenario.slug(), scenario.meaning()).expect(STRING);
    }
    out
}

/// The names that a caller or a scenario may be asked for by.
pub fn names() -> (Vec<&'static str>, Vec<String>) {
    let mut names: Vec<&str> = callers::all().iter().map(|caller| caller.name).collect();
    names.dedup();
    (names, Scenario::ALL.map(Scenario::slug).into())
}

/// Characters in a line of the terminal, if standard output is one.
pub fn terminal_width() -> Option<u16> {
    Table::new().width()
}
