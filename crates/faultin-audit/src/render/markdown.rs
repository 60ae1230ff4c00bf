//! The model as a Markdown document.
//!
//! The document is the same whenever and wherever it is written, unless a result changed: it shows the results on simulated
//! memory, which run everywhere. A cell on memory of this process has the same expectation, so if it ran it either agrees
//! or is unexpected. It is shown only if it is unexpected, and never if it was skipped.

#![forbid(unsafe_code)]

use std::fmt::Write;

use crate::axes::{Feature, Memory, Variant};
use crate::expect::DEADLOCK;
use crate::kernel;
use crate::model::{Kind, Model, Row, Square, Table};

/// The mail that the audit starts from.
const MAIL: &str = "https://lore.kernel.org/all/YSldx9uhMYhT%2FG8X@zeniv-ca.linux.org.uk/";

const STRING: &str = "a string takes everything";

/// Returns the document: a summary, results, callers, scenarios. `command` is the command that writes it.
pub fn document(model: &Model, command: &str) -> String {
    let mut out = format!(
        "# The audit\n\n\
         <!-- Written by `{command}`; the same with `--check` tells whether it still holds. -->\n\n\
         The callers of the kernel's two fault-in helpers, as [a mail of 27 August 2021]({MAIL}) found them and as they should \
         be, and the four that the series added. Every result is executed and compared with an expectation written by hand, on simulated memory, which is \
         what the table shows, and on memory of the process wherever the machine can show the scenario; a result that is not \
         as expected on either is marked ✗. `faultin-audit` shows which cells were skipped on a machine; `faultin-audit \
         --html FILE` shows the steps of each.\n\n{}\n\n",
        sum(model)
    );
    out += "## Summary\n\n\
            What each caller needs from a fault-in: *ANY* is some progress, *ALL* is every byte. The last column has the \
            scenarios in which the code as it was found and the fixed code end in different ways. ∞ is a livelock.\n\n";
    out += &summary(model);
    out += "\n## Results\n\n\
            ∞ is a livelock: a state repeated with no outside event between. A deadlock is a fault that wants a lock which its \
            own caller holds. ▲ is a defect: the fixed code ends in another \
            way. A number counts the bytes that moved, where that is neither none nor all. *holds*: beside a thread that \
            remaps the memory it ends in one of these ways, with a right result.\n\n";
    let [callers, mappings] = &model.tables;
    out += &results(model, callers);
    if !mappings.is_empty() {
        out += "\n## A buffer whose faults we serve ourselves\n\n\
                The buffer is a mapping of a file of the cache. Its page faults take the inode lock, which the read or write takes, too. \
                A *deadlock* is what the lock's own bookkeeping says: who waits for which lock. On this process' memory these are real \
                mappings, served by `faultin_cache`'s pager; simulated memory is served from the file in the same way. Where one of the \
                two has no such thing (simulated memory has one thread, the pager's pages have no memory tags) the other one is \
                shown.\n\n";
        out += &results(model, mappings);
    }
    if model.compares() {
        writeln!(
            out,
            "\n### gfs2 and ours\n\nThe kernel's columns are quoted ({}), ours are executed.\n",
            kernel::SOURCE
        )
        .expect(STRING);
        out += &line(kernel::HEADS.map(String::from));
        out += &line(kernel::HEADS.map(|_| "---".to_string()));
        for compared in &model.comparison {
            out += &line(compared.iter().map(|text| strong(&escaped(text))));
        }
    }
    out += "\n## Callers\n\n";
    for row in &model.rows {
        writeln!(out, "### {} {} ({})\n", row.number, escaped(row.name), escaped(row.place)).expect(STRING);
        writeln!(out, "* needs {}\n* the mail, in our words: {}", row.need, escaped(row.finding)).expect(STRING);
        match row.origins {
            Some(origins) => Variant::ALL.into_iter().zip(origins).for_each(|(variant, origin)| {
                writeln!(out, "* {}: {}", variant.name(), escaped(origin)).expect(STRING);
            }),
            None => out += "* not yet\n",
        }
        out.push('\n');
    }
    out += "## Scenarios\n\n";
    out += &line(["scenario", "what it is", "a machine needs, for its own memory"].map(String::from));
    out += &line(std::iter::repeat_n("---".to_string(), 3));
    for scenario in &model.scenarios {
        let needs = scenario.needs(Memory::Host).map(Feature::name).unwrap_or_default();
        out += &line([scenario.name(), scenario.meaning(), needs].map(escaped));
    }
    out
}

/// Returns the results of one table.
fn results(model: &Model, table: &Table) -> String {
    let heads = table.scenarios.iter().map(|scenario| scenario.name().to_string());
    let mut out = line(["#", "caller", "variant"].into_iter().map(String::from).chain(heads));
    out += &line(std::iter::repeat_n("---".to_string(), 3 + table.scenarios.len()));
    for row in model.rows_of(table).filter(|row| !row.is_not_yet()) {
        for (index, squares) in row.variants.iter().enumerate() {
            let (number, name) = if index == 0 { (row.number.to_string(), named(row)) } else { Default::default() };
            let variant = squares[0].variant.name().to_string();
            let squares = row.squares(index, &table.scenarios).map(result);
            out += &line([number, name, variant].into_iter().chain(squares));
        }
    }
    out
}

/// Returns a row for each caller: its need, the mail's finding, and where the fixed code ends in another way.
fn summary(model: &Model) -> String {
    let mut out = line(["#", "caller", "needs", "the mail, in our words", "as found → fixed"].map(String::from));
    out += &line(std::iter::repeat_n("---".to_string(), 5));
    for row in &model.rows {
        let number = row.number.to_string();
        out += &line([number, named(row), row.need.to_string(), escaped(row.finding), changes(row)]);
    }
    out
}

/// Returns the totals of the simulated cells: the same everywhere.
fn sum(model: &Model) -> String {
    let (callers, simulated) = (model.rows.len(), &model.simulated);
    format!(
        "{} of {callers} callers run; {} of {} simulated cells are as expected, {} of them livelocks and {} deadlocks.",
        callers - model.summary.callers_not_yet,
        simulated.as_expected,
        simulated.executed,
        simulated.livelocks,
        simulated.deadlocks,
    )
}

/// Returns in which scenarios the variants end differently, and how.
fn changes(row: &Row) -> String {
    let changes = match &row.changes {
        _ if row.is_not_yet() => return "not yet".into(),
        None => return String::new(),
        Some(changes) if changes.is_empty() => return "the same ends, by other steps".into(),
        Some(changes) => changes.iter(),
    };
    let changes = changes.map(|change| {
        let [found, fixed] = change.ends.each_ref().map(|end| strong(&escaped(end)));
        format!("{}: {found} → {fixed}", change.scenarios.join(", "))
    });
    changes.collect::<Vec<_>>().join("; ")
}

fn named(row: &Row) -> String {
    format!("`{}` ({})", row.name, row.place)
}

/// Returns a square's text in the document. With a concurrent adversary, the allowed ends; their frequencies vary.
fn result(square: &Square) -> String {
    let shown = &square.portable;
    let text = match shown.expected.as_deref().filter(|ends| ends.starts_with("holds")) {
        Some(ends) if shown.text == "holds" => escaped(ends),
        _ => strong(&escaped(&shown.text)),
    };
    if shown.kind == Some(Kind::Defect) { format!("▲ {text}") } else { text }
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
