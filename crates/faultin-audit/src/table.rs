//! The report for people: the table, the steps of its cells, and the list of what there is.

#![forbid(unsafe_code)]

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell as Field, Color, ColumnConstraint, ContentArrangement, Table, Width};

use crate::callers::{self, Caller, Variant};
use crate::json::Summary;
use crate::run::{Cell, Outcome, Report};
use crate::scenario::Scenario;

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

/// Lines this wide have room for every column.
const WIDE: u16 = 176;

/// The table, its legend and its sum. In lines that have no room for it, a small table for each caller.
pub fn table(report: &Report, style: Style) -> String {
    let mut out = format!("faultin audit: {}\n\n", report.environment);
    if style.width >= WIDE {
        writeln!(out, "{}\n", grid(report, style).trim_fmt()).expect(STRING);
    } else {
        out += &blocks(report, style);
    }
    out + &legend() + &unexpected(report) + &sum(&Summary::of(report))
}

const STRING: &str = "a string takes everything";

fn empty(style: Style) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(style.width);
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// The cells of each caller.
fn by_caller(report: &Report) -> impl Iterator<Item = &[Cell]> {
    report.cells.chunk_by(|a, b| a.caller.row == b.caller.row)
}

/// Everything: callers and variants down, scenarios across.
fn grid(report: &Report, style: Style) -> Table {
    let scenarios: Vec<Scenario> =
        Scenario::ALL.into_iter().filter(|s| report.cells.iter().any(|cell| cell.scenario == *s)).collect();
    // Names and results stay in one piece; heads fold at words; what the mail says takes the rest.
    let needs = report.cells.iter().map(|cell| cell.caller.need.name().len()).max().unwrap_or(0);
    let mut widths = vec![2, 25, 8, needs.max(5), 13];
    widths.extend(scenarios.iter().map(|&scenario| {
        let results =
            report.cells.iter().filter(|cell| cell.scenario == scenario).map(|cell| text(cell).chars().count());
        results.chain(scenario.name().split(' ').map(str::len)).max().unwrap_or(0)
    }));
    let taken: usize = widths.iter().map(|width| width + PADDING + 1).sum();
    widths.push(usize::from(style.width).saturating_sub(taken + PADDING + 2).max(12));
    let mut table = empty(style);
    table.load_style(UTF8_FULL_CONDENSED);
    let heads = ["#", "caller", "where", "needs", "variant"].into_iter().chain(scenarios.iter().map(|s| s.name()));
    table.set_header(heads.chain(["the mail"]).map(|head| Field::new(head).add_attribute(Attribute::Bold)));
    for cells in by_caller(report) {
        let waits = matches!(cells[0].outcome, Outcome::NotYet);
        let shown = if waits { &cells[..scenarios.len()] } else { cells };
        let finding = folded(cells[0].caller.finding, widths[widths.len() - 1]);
        let lines = shown.len() / scenarios.len();
        let mut finding = finding.chunks(finding.len().div_ceil(lines)).map(|part| part.join("\n"));
        for (index, line) in shown.chunks(scenarios.len()).enumerate() {
            let caller = &line[0].caller;
            let dim = |field: Field| if waits { field.fg(Color::DarkGrey) } else { field };
            let once = |text: &str| dim(Field::new(if index == 0 { text } else { "" }));
            let mut row = vec![once(&caller.row.to_string()), once(caller.name), once(caller.place)];
            row.push(once(caller.need.name()));
            let variant = format!("{} {}", line[0].variant.name(), line[0].memory.name());
            row.push(dim(Field::new(if waits { String::new() } else { variant })));
            row.extend(line.iter().map(|cell| field(cell, report)));
            row.push(dim(Field::new(finding.next().unwrap_or_default())));
            table.add_row(row);
        }
    }
    let width = |width: usize| Width::Fixed(u16::try_from(width + PADDING).unwrap_or(u16::MAX));
    table.set_constraints(widths.into_iter().map(|w| ColumnConstraint::Absolute(width(w))));
    table
}

/// Spaces on both sides of a column's text.
const PADDING: usize = 2;

/// The text in lines of at most `width` characters.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

/// A small table for each caller that runs, a line for each that does not.
fn blocks(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for cells in by_caller(report) {
        let caller = &cells[0].caller;
        let head = format!("{} {} ({}), needs {}", caller.row, caller.name, caller.place, caller.need);
        if matches!(cells[0].outcome, Outcome::NotYet) {
            writeln!(out, "{head}: not yet\n   the mail: {}\n", caller.finding).expect(STRING);
            continue;
        }
        let lines: Vec<&[Cell]> = cells.chunk_by(|a, b| a.variant == b.variant).collect();
        let mut table = empty(style);
        table.load_style(UTF8_FULL_CONDENSED);
        let heads = ["scenario"].into_iter().chain(lines.iter().map(|line| line[0].variant.name()));
        table.set_header(heads.map(|head| Field::new(head).add_attribute(Attribute::Bold)));
        for (index, cell) in lines[0].iter().enumerate() {
            let results = lines.iter().map(|line| field(&line[index], report));
            table.add_row([Field::new(cell.scenario.name())].into_iter().chain(results));
        }
        writeln!(out, "{head}\n   the mail: {}\n{}\n", caller.finding, table.trim_fmt()).expect(STRING);
    }
    out
}

/// What a cell says. Beside an adversary it is a statement that holds; the tally is for the steps and the JSON.
fn text(cell: &Cell) -> String {
    let actual = cell.actual();
    let short = actual.split(':').next().unwrap_or_default();
    if cell.ok() == Some(false) { format!("✗ {short}") } else { short.into() }
}

/// What a cell shows. Red is only what is not as expected; yellow is a defect that was expected.
fn field(cell: &Cell, report: &Report) -> Field {
    let field = Field::new(text(cell));
    match cell.ok() {
        Some(false) => field.fg(Color::Red).add_attribute(Attribute::Bold),
        None => field.fg(Color::DarkGrey),
        Some(true) if cell.actual().contains('∞') => field.fg(Color::Yellow).add_attribute(Attribute::Bold),
        Some(true) if is_defect(cell, report) => field.fg(Color::Yellow),
        Some(true) => field.fg(Color::Green),
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
     holds     what must hold beside the remapping thread held    , n    bytes that moved, where neither none nor all\n\n"
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
        "{} of {} executed cells as expected (livelocks: {}); {} skipped; {} of {} callers not yet.\n",
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
    let (variant, memory, scenario) = (cell.variant.name(), cell.memory.name(), cell.scenario.name());
    format!("{} {} ({}), {variant}, {scenario}, {memory}", caller.row, caller.name, caller.place)
}

/// The steps of each cell, and the sum.
pub fn traces(report: &Report) -> String {
    let mut out = String::new();
    for cell in &report.cells {
        let (Some(job), Some(expectation)) = (cell.caller.job, cell.expectation) else { continue };
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
    let mut waiting: Vec<&Caller> = report.cells.iter().map(|cell| &cell.caller).filter(|c| c.job.is_none()).collect();
    waiting.dedup_by_key(|caller| caller.row);
    for caller in waiting {
        writeln!(out, "{} {} ({})\n  not yet\n", caller.row, caller.name, caller.place).expect(STRING);
    }
    out + &sum(&Summary::of(report))
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
    names.sort_unstable();
    names.dedup();
    (names, Scenario::ALL.map(Scenario::slug).into())
}

/// Characters in a line of the terminal, if standard output is one.
pub fn terminal_width() -> Option<u16> {
    Table::new().width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_keeps_every_word_and_the_width() {
        let finding = callers::named("15")[0].finding;
        for width in [12, 20, 200] {
            let lines = folded(finding, width);
            assert_eq!(lines.join(" "), finding);
            assert!(lines.iter().all(|line| line.len() <= width), "{lines:?}");
        }
    }
}
