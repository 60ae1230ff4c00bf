//! The model as text: the table, the steps of its cells, and the list of callers and scenarios.

#![forbid(unsafe_code)]

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell as Field, Color, ColumnConstraint, ContentArrangement, Table, Width};

use crate::axes::Variant;
use crate::caller::Caller;
use crate::kernel;
use crate::log::{SHOWN, write_steps};
use crate::model::{Cell, Kind, Model, Row, Skip, Square, Summary, Table as Part};
use crate::scenario::Scenario;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to use colours.
    pub colour: bool,
    /// Number of characters in a line.
    pub width: u16,
}

/// Returns the legend, the tables, the mail's findings for their rows, and the totals. Where lines are too short for the
/// tables, a small one for each caller.
pub fn table(model: &Model, style: Style) -> String {
    let mut out = format!(
        "faultin-audit: {}\n\n{}\n\n{}",
        model.environment,
        folded(OPENING, usize::from(style.width)).join("\n"),
        legend(&model.skips, style)
    );
    let grids: Option<Vec<String>> = model.tables.iter().map(|part| grid(model, part, style)).collect();
    match grids.as_deref() {
        Some([callers, mappings]) => {
            out += callers;
            if !mappings.is_empty() {
                out += &format!("{MAPPINGS}\n\n{mappings}");
            }
            out += &comparison(model, style);
            out += &findings(&model.rows, style);
        }
        _ => out += &blocks(&model.rows, style),
    }
    out + &verdict(model) + &closing(&model.summary, style)
}

/// The introduction.
const OPENING: &str = "Each row is a loop in the Linux kernel around a copy from or to user memory. Each column is what is the matter \
     with that memory. Each cell is what the loop did, run just now: how it ended, or ∞ where it would never have ended.";

/// The subject of the second table.
pub const MAPPINGS: &str = "what happens when the buffer is a mapping whose faults we serve ourselves";

/// The conclusion.
fn closing(summary: &Summary, style: Style) -> String {
    let text = if summary.ok {
        "If you write such a loop: copy first; after a short copy, restart at the first byte that was not copied; fault in only when \
         nothing was copied, and give up when that finds nothing. How a cell came about, step by step (this one never ends): \
         faultin-audit 5 --scenario second-page-bad --trace"
    } else {
        "A line that begins with ✗ says what was not as expected here, and why. Its steps: faultin-audit CALLER --scenario SCENARIO \
         --trace"
    };
    format!("\n{}\n", folded(text, usize::from(style.width)).join("\n"))
}

/// Returns the unexpected results, and the totals.
pub fn verdict(model: &Model) -> String {
    unexpected(&model.cells) + &sum(&model.summary)
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
    table.load_style(UTF8_FULL_CONDENSED);
    table
}

fn head(text: &str) -> Field {
    Field::new(text).add_attribute(Attribute::Bold)
}

/// Returns everything that runs: callers and variants down, scenarios across. `None` if there is no room for that, or
/// nothing.
fn grid(model: &Model, part: &Part, style: Style) -> Option<String> {
    let scenarios = &part.scenarios;
    let running: Vec<&Row> = model.rows_of(part).filter(|row| !row.is_not_yet()).collect();
    if running.is_empty() || scenarios.is_empty() {
        return Some(String::new());
    }
    let mut table = empty(style);
    let mut columns = vec![Column::default(); 3 + scenarios.len()];
    let heads = ["#", "caller", "variant"].into_iter().chain(scenarios.iter().map(|scenario| scenario.name()));
    columns.iter_mut().zip(heads.clone()).for_each(|(column, head)| column.takes_head(head));
    table.set_header(heads.map(head));
    for row in running {
        let need = format!("{}, needs {}", row.place, row.need);
        let mut names = match row.variants.len() {
            1 => vec![format!("{}\n{need}", row.name)],
            _ => vec![row.name.to_string(), need],
        }
        .into_iter();
        for index in 0..row.variants.len() {
            let squares: Vec<&Square> = row.squares(index, scenarios).collect();
            let number = if index == 0 { row.number.to_string() } else { String::new() };
            let line = [number, names.next().unwrap_or_default(), squares[0].variant.name().into()];
            let results = squares.iter().map(|square| square.texts.join("\n"));
            for (column, text) in columns.iter_mut().zip(line.iter().cloned().chain(results)) {
                text.lines().for_each(|line| column.takes(line));
            }
            let named = line.into_iter().map(Field::new);
            table.add_row(named.chain(squares.iter().map(|square| field(square))));
        }
    }
    let width = |width: usize| Width::Fixed(u16::try_from(width + PADDING).unwrap_or(u16::MAX));
    let widths = Column::share(&columns, style.width)?;
    table.set_constraints(widths.into_iter().map(|w| ColumnConstraint::Absolute(width(w))));
    Some(format!("{}\n\n", table.trim_fmt()))
}

/// Number of spaces on both sides of a column's text.
const PADDING: usize = 2;

/// The minimum and the preferred width of a column.
#[derive(Clone, Copy, Default)]
struct Column {
    /// Its longest word.
    least: usize,
    /// Its longest line.
    most: usize,
}

impl Column {
    fn takes(&mut self, line: &str) {
        self.least = line.split(' ').map(|word| word.chars().count()).fold(self.least, usize::max);
        self.most = self.most.max(line.chars().count());
    }

    /// Prefers two lines for a head.
    fn takes_head(&mut self, head: &str) {
        let in_two = (0..head.len()).find(|&width| folded(head, width).len() <= 2);
        folded(head, in_two.unwrap_or(head.len())).iter().for_each(|line| self.takes(line));
    }

    /// Returns widths for all columns in lines of `width` characters: the preferred ones, less what the widest can spare.
    fn share(columns: &[Column], width: u16) -> Option<Vec<usize>> {
        let frame = columns.len() * (PADDING + 1) + 1;
        let room = usize::from(width).checked_sub(frame)?;
        let mut widths: Vec<usize> = columns.iter().map(|column| column.most).collect();
        while widths.iter().sum::<usize>() > room {
            let shrinkable = widths.iter_mut().zip(columns).filter(|(width, column)| **width > column.least);
            *shrinkable.max_by_key(|(width, _)| **width)?.0 -= 1;
        }
        Some(widths)
    }
}

/// Returns the comparison of the real file system with ours, if all of it was requested.
fn comparison(model: &Model, style: Style) -> String {
    if !model.compares() {
        return String::new();
    }
    let mut table = empty(style);
    table.set_header(kernel::HEADS.map(head));
    table.add_rows(&model.comparison);
    let source = format!("gfs2 and ours (the kernel's columns: {})", kernel::SOURCE);
    format!("{}\n\n{}\n\n", folded(&source, usize::from(style.width)).join("\n"), table.trim_fmt())
}

/// Returns the mail's finding for each row, also for those that do not run yet.
fn findings(rows: &[Row], style: Style) -> String {
    let name = |row: &Row| format!("{} ({})", row.name, row.place);
    let longest = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0);
    let indent = 2 + longest + 2 + 7 + 2;
    let mut out = String::from("the mail, in our words\n");
    for row in rows {
        let state = if row.is_not_yet() { "not yet" } else { "" };
        let lines = folded(row.finding, usize::from(style.width).saturating_sub(indent + 2).max(20));
        let lines = lines.join(&format!("\n{:indent$}  ", ""));
        writeln!(out, "{:>2}  {:longest$}  {state:7}  {lines}", row.number, name(row)).expect(STRING);
    }
    out.push('\n');
    out
}

/// Returns the text in lines of at most `width` characters.
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

/// Precedes each line of a caller except the first.
const INDENT: &str = "\n   ";

/// Returns a small table for each caller that runs, two lines for each that does not.
fn blocks(rows: &[Row], style: Style) -> String {
    let mut out = String::new();
    for row in rows {
        let not_yet = if row.is_not_yet() { ": not yet" } else { "" };
        let title = format!("{} {} ({}), needs {}{not_yet}", row.number, row.name, row.place, row.need);
        let finding = format!("the mail: {}", row.finding);
        let width = usize::from(style.width).saturating_sub(INDENT.len());
        let lines = folded(&title, width).into_iter().chain(folded(&finding, width));
        writeln!(out, "{}", lines.collect::<Vec<_>>().join(INDENT)).expect(STRING);
        if !row.is_not_yet() {
            let mut table = empty(style);
            let variants = row.variants.iter().map(|squares| squares[0].variant.name());
            table.set_header(["scenario"].into_iter().chain(variants).map(head));
            let applies = |square: &Square| square.kind != Kind::NotApplicable;
            let any = row.variants[0].iter().any(applies);
            for (index, square) in row.variants[0].iter().enumerate().filter(|(_, square)| !any || applies(square)) {
                let results = row.variants.iter().map(|squares| field(&squares[index]));
                table.add_row([Field::new(square.scenario.name())].into_iter().chain(results));
            }
            writeln!(out, "{}", table.trim_fmt()).expect(STRING);
        }
        out.push('\n');
    }
    out
}

/// Returns a square as a field. Red is only for unexpected results; yellow is a defect that was expected.
fn field(square: &Square) -> Field {
    let field = Field::new(square.texts.join("\n"));
    match square.kind {
        Kind::Unexpected => field.fg(Color::Red).add_attribute(Attribute::Bold),
        Kind::Livelock | Kind::Deadlock => field.fg(Color::Yellow).add_attribute(Attribute::Bold),
        Kind::Defect => field.fg(Color::Yellow),
        Kind::Fine => field.fg(Color::Green),
        Kind::Skipped | Kind::NotYet | Kind::NotApplicable => field.fg(Color::DarkGrey),
    }
}

fn legend(skips: &[Skip], style: Style) -> String {
    const ENTRIES: [(&str, &str); 12] = [
        ("as-found", "the caller and its helper as the mail met them"),
        ("fixed", "as it should be"),
        ("ANY", "some progress is enough"),
        ("ALL", "every byte must be proven: starts from scratch"),
        ("∞", "a state repeated with nothing happening between"),
        ("deadlock", "waits for a lock whose holder waits for it"),
        ("✗", "not as expected"),
        ("holds", "what must hold beside the remapping thread held"),
        (", n", "bytes that moved, where neither none nor all"),
        ("host", "memory of this process"),
        ("sim", "simulated memory; one result where both agree"),
        ("–", "there is no such thing"),
    ];
    const TWO: u16 = 115;
    let mut out = String::new();
    for pair in ENTRIES.chunks(if style.width >= TWO { 2 } else { 1 }) {
        let pair: Vec<String> = pair.iter().map(|(sign, meaning)| format!("{sign:<9} {meaning:<51}")).collect();
        writeln!(out, "{}", pair.concat().trim_end()).expect(STRING);
    }
    for skip in skips {
        writeln!(out, "{:<9} {skip}", skip.mark).expect(STRING);
    }
    out.push('\n');
    out
}

fn unexpected(cells: &[Cell]) -> String {
    let mut out = String::new();
    for cell in cells.iter().filter(|cell| cell.ok == Some(false)) {
        let why = match &cell.wrong {
            Some(why) if cell.has_run => why,
            _ => "may not be missing in this environment",
        };
        writeln!(out, "✗ {}: {}; {why}", cell.title(), cell.actual).expect(STRING);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn sum(summary: &Summary) -> String {
    let mut out = format!(
        "{} of {} executed cells as expected (livelocks: {}, deadlocks: {}); {} skipped",
        summary.as_expected, summary.executed, summary.livelocks, summary.deadlocks, summary.skipped,
    );
    if summary.callers_not_yet > 0 {
        write!(out, "; {} of {} callers not yet", summary.callers_not_yet, summary.callers).expect(STRING);
    }
    out.push_str(".\n");
    if summary.skips_not_allowed > 0 {
        writeln!(out, "{} skips are not allowed here.", summary.skips_not_allowed).expect(STRING);
    }
    out
}

/// Returns the steps of each cell, and the totals.
pub fn traces(model: &Model) -> String {
    let mut out = String::new();
    for cell in &model.cells {
        match (cell.origin, cell.not_applicable) {
            (None, _) => {}
            (_, Some(why)) => writeln!(out, "{}\n  does not apply: {why}\n", cell.title()).expect(STRING),
            (Some(origin), None) => out += &trace(cell, origin),
        }
    }
    for row in model.rows.iter().filter(|row| row.is_not_yet()) {
        writeln!(out, "{} {} ({})\n  not yet\n", row.number, row.name, row.place).expect(STRING);
    }
    out + &sum(&model.summary)
}

fn trace(cell: &Cell, origin: &str) -> String {
    let (expected, source) = (cell.expected.as_deref().unwrap_or_default(), cell.source.unwrap_or_default());
    let actual = &cell.actual;
    let mut out = format!("{}\n  {origin}\n  expected  {expected} [{source}]\n  actual    {actual}\n", cell.title());
    if cell.runs > 1 {
        writeln!(out, "  the last of {} runs:", cell.runs).expect(STRING);
    }
    write_steps(&mut out, &cell.steps, SHOWN).expect(STRING);
    if cell.is_endless() {
        out += "        … and so for ever\n";
    }
    if let Some(wrong) = cell.wrong.as_ref().filter(|_| cell.has_run) {
        writeln!(out, "  ✗ {wrong}").expect(STRING);
    }
    out + "\n"
}

/// Returns the list of callers and scenarios.
pub fn list(callers: &[Caller]) -> String {
    let mut out = String::from("callers\n");
    for caller in callers {
        let name = format!("{} ({})", caller.name, caller.place);
        writeln!(out, "  {:>2}  {name:<40} needs {:<14} {}", caller.row, caller.need, caller.finding).expect(STRING);
        match caller.job {
            Some(_) => {
                for variant in Variant::ALL {
                    writeln!(out, "        {:<9} {}", variant.name(), caller.origin(variant)).expect(STRING);
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

/// Returns the number of characters in a line of the terminal, if standard output is one.
pub fn terminal_width() -> Option<u16> {
    Table::new().width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_keeps_every_word_and_the_width() {
        let finding = crate::callers::named("15")[0].finding;
        for width in [12, 20, 200] {
            let lines = folded(finding, width);
            assert_eq!(lines.join(" "), finding);
            assert!(lines.iter().all(|line| line.len() <= width), "{lines:?}");
        }
    }
}
