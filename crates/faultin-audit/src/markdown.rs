//! The report as a Markdown document.
//!
//! The document is the same whenever and wherever it is written, unless a result changed: it shows the results on simulated
//! memory, which run everywhere. A cell on memory of this process has the same expectation, so if it ran it either agrees
//! or is unexpected. It is shown only if it is unexpected, and never if it was skipped.

#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::callers::Variant;
use crate::environment::Feature;
use crate::expect::DEADLOCK;
use crate::kernel;
use crate::run::{Cell, Outcome, Report};
use crate::square::{self, Kind, Part, Rows, Square};
use crate::user::Memory;

/// The mail that the audit starts from.
const MAIL: &str = "https://lore.kernel.org/all/YSldx9uhMYhT%2FG8X@zeniv-ca.linux.org.uk/";

const STRING: &str = "a string takes everything";

/// Returns the document: a summary, results, callers, scenarios. `command` is the command that writes it.
pub fn document(report: &Report, command: &str) -> String {
    let (rows, scenarios) = (Square::all(report), square::scenarios(report));
    let mut out = format!(
        "# The audit\n\n\
         <!-- Written by `{command}`; the same with `--check` tells whether it still holds. -->\n\n\
         The callers of the kernel's two fault-in helpers, as [a mail of 27 August 2021]({MAIL}) found them and as they should \
         be, and the four that the series added. Every result is executed and compared with an expectation written by hand, on simulated memory, which is \
         what the table shows, and on memory of the process wherever the machine can show the scenario; a result that is not \
         as expected on either is marked ✗. `faultin-audit` shows which cells were skipped on a machine; `faultin-audit \
         --html FILE` shows the steps of each.\n\n{}\n\n",
        sum(report)
    );
    out += "## Summary\n\n\
            What each caller needs from a fault-in: *ANY* is some progress, *ALL* is every byte. The last column has the \
            scenarios in which the code as it was found and the fixed code end in different ways. ∞ is a livelock.\n\n";
    out += &summary(report);
    out += "\n## Results\n\n\
            ∞ is a livelock: a state repeated with no outside event between. A deadlock is a fault that wants a lock which its \
            own caller holds. ▲ is a defect: the fixed code ends in another \
            way. A number counts the bytes that moved, where that is neither none nor all. *holds*: beside a thread that \
            remaps the memory it ends in one of these ways, with a right result.\n\n";
    let [callers, mappings] = Part::both(report, &rows);
    out += &results(&callers);
    if !mappings.is_empty() {
        out += "\n## A buffer whose faults we serve ourselves\n\n\
                The buffer is a mapping of a file of the cache. Its page faults take the inode lock, which the read or write takes, too. \
                A *deadlock* is what the lock's own bookkeeping says: who waits for which lock. On this process' memory these are real \
                mappings, served by `faultin_cache`'s pager; simulated memory is served from the file in the same way. Where one of the \
                two has no such thing (simulated memory has one thread, the pager's pages have no memory tags) the other one is \
                shown.\n\n";
        out += &results(&mappings);
    }
    if kernel::is_in(report) {
        writeln!(
            out,
            "\n### gfs2 and ours\n\nThe kernel's columns are quoted ({}), ours are executed.\n",
            kernel::SOURCE
        )
        .expect(STRING);
        out += &line(kernel::HEADS.map(String::from));
        out += &line(kernel::HEADS.map(|_| "---".to_string()));
        for compared in kernel::comparison(report) {
            out += &line(compared.map(|text| strong(&escaped(&text))));
        }
    }
    out += "\n## Callers\n\n";
    for rows in &rows {
        let caller = rows.caller;
        writeln!(out, "### {} {} ({})\n", caller.row, escaped(caller.name), escaped(caller.place)).expect(STRING);
        writeln!(out, "* needs {}\n* the mail, in our words: {}", caller.need, escaped(caller.finding)).expect(STRING);
        match caller.job {
            Some(job) => Variant::ALL.into_iter().for_each(|variant| {
                writeln!(out, "* {}: {}", variant.name(), escaped(job.origin(variant))).expect(STRING);
            }),
            None => out += "* not yet\n",
        }
        out.push('\n');
    }
    out += "## Scenarios\n\n";
    out += &line(["scenario", "what it is", "a machine needs, for its own memory"].map(String::from));
    out += &line(std::iter::repeat_n("---".to_string(), 3));
    for scenario in scenarios {
        let needs = scenario.needs(Memory::Host).map(Feature::name).unwrap_or_default();
        out += &line([scenario.name(), scenario.meaning(), needs].map(escaped));
    }
    out
}

/// Returns the results of one table.
fn results(part: &Part) -> String {
    let heads = part.scenarios.iter().map(|scenario| scenario.name().to_string());
    let mut out = line(["#", "caller", "variant"].into_iter().map(String::from).chain(heads));
    out += &line(std::iter::repeat_n("---".to_string(), 3 + part.scenarios.len()));
    for rows in part.rows.iter().filter(|rows| !rows.is_not_yet()) {
        for index in 0..rows.variants.len() {
            let (number, name) =
                if index == 0 { (rows.caller.row.to_string(), named(rows)) } else { Default::default() };
            let variant = rows.variants[index][0].variant.name().to_string();
            let squares = rows.squares(index, &part.scenarios).map(result);
            out += &line([number, name, variant].into_iter().chain(squares));
        }
    }
    out
}

/// Returns a row for each caller: its need, the mail's finding, and where the fixed code ends in another way.
fn summary(report: &Report) -> String {
    let mut out = line(["#", "caller", "needs", "the mail, in our words", "as found → fixed"].map(String::from));
    out += &line(std::iter::repeat_n("---".to_string(), 5));
    for rows in Square::all(report) {
        let caller = rows.caller;
        let number = caller.row.to_string();
        out += &line([number, named(&rows), caller.need.to_string(), escaped(caller.finding), changes(&rows)]);
    }
    out
}

/// Returns the totals of the simulated cells: the same everywhere.
fn sum(report: &Report) -> String {
    let simulated = || report.cells.iter().filter(|cell| cell.memory == Memory::Sim && cell.ok().is_some());
    let (cells, fine) = (simulated().count(), simulated().filter(|cell| cell.ok() == Some(true)).count());
    let of_kind = |kind| simulated().filter(|cell| square::kind(cell) == kind).count();
    let (livelocks, deadlocks) = (of_kind(Kind::Livelock), of_kind(Kind::Deadlock));
    let rows = Square::all(report);
    let running = rows.iter().filter(|rows| !rows.is_not_yet()).count();
    format!(
        "{running} of {} callers run; {fine} of {cells} simulated cells are as expected, {livelocks} of them livelocks and \
         {deadlocks} deadlocks.",
        rows.len()
    )
}

/// Returns in which scenarios the variants end differently, and how.
fn changes(rows: &Rows) -> String {
    if rows.is_not_yet() {
        return "not yet".into();
    }
    let [as_found, fixed] = &rows.variants[..] else { return String::new() };
    let mut changes: Vec<(String, Vec<&str>)> = Vec::new();
    for (as_found, fixed) in as_found.iter().zip(fixed) {
        let (was, is) = (plain(as_found), plain(fixed));
        if was == is && !was.contains('✗') {
            continue;
        }
        let change = format!("{} → {}", strong(&was), strong(&is));
        match changes.iter_mut().find(|(known, _)| *known == change) {
            Some((_, scenarios)) => scenarios.push(as_found.scenario.name()),
            None => changes.push((change, vec![as_found.scenario.name()])),
        }
    }
    let changes: Vec<String> =
        changes.into_iter().map(|(change, scenarios)| format!("{}: {change}", scenarios.join(", "))).collect();
    if changes.is_empty() { "the same ends, by other steps".into() } else { changes.join("; ") }
}

fn named(rows: &Rows) -> String {
    format!("`{}` ({})", rows.caller.name, rows.caller.place)
}

/// Returns a square's text in the document. With a concurrent adversary, the allowed ends; their frequencies vary.
fn result(square: &Square) -> String {
    let (text, kind) = (strong(&plain(square)), shown(square).map(square::kind));
    let ends = shown(square).and_then(Cell::expected).filter(|ends| ends.starts_with("holds"));
    let text = match ends {
        Some(ends) if text == "holds" => escaped(&ends),
        _ => text,
    };
    if kind == Some(Kind::Defect) { format!("▲ {text}") } else { text }
}

/// Returns the simulated cell's text, and the host's if that ran, is unexpected and differs.
fn plain(square: &Square) -> String {
    let simulated = shown(square).map(square::text);
    let wrong = square.cells.iter().filter(|cell| cell.memory == Memory::Host && ran_wrong(cell));
    let host = wrong.map(|cell| square::text(cell)).filter(|host| Some(host) != simulated.as_ref());
    let host: Vec<String> = host.map(|host| format!("host {host}")).collect();
    escaped(&simulated.into_iter().chain(host).collect::<Vec<_>>().join("; "))
}

/// Returns the simulated cell; or, where there is no such thing, the other one.
fn shown<'a>(square: &Square<'a>) -> Option<&'a Cell> {
    let on = |memory| square.cells.iter().copied().find(move |cell| cell.memory == memory);
    let applies = |cell: &&Cell| !matches!(cell.outcome, Outcome::NotApplicable(_));
    let ran = |cell: &&Cell| matches!(cell.outcome, Outcome::Ran(_));
    on(Memory::Sim).filter(applies).or_else(|| on(Memory::Host).filter(ran)).or_else(|| on(Memory::Sim))
}

fn ran_wrong(cell: &Cell) -> bool {
    matches!(&cell.outcome, Outcome::Ran(ran) if ran.verdict.is_err())
}

fn strong(text: &str) -> String {
    if text.contains(['∞', '✗']) || text.contains(DEADLOCK) { format!("**{text}**") } else { text.into() }
}

fn line(fields: impl IntoIterator<Item = String>) -> String {
    let mut line = String::from("|");
    for field in fields {
        write!(line, " {field} |").expect(STRING);
    }
    line + "\n"
}

/// Returns the text without Markdown.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | '|' | '<' | '*' | '`' | '[') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_a_table() {
        assert_eq!(line([escaped("a|b"), escaped("*<c>")]), "| a\\|b | \\*\\<c> |\n");
    }
}
