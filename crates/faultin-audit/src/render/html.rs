//! The model as one self-contained page: a heat map of callers and scenarios, and for each square the expectation and the
//! steps.
//!
//! A square is a button that opens a popover, so that the page works without its script; the script only opens the square
//! that the page's address names, and moves among squares with the arrow keys.

#![forbid(unsafe_code)]

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::kernel;
use crate::log::{SHOWN, ends_of};
use crate::model::{Cell, Kind, Model, Row, Skip, Square, Summary, Table};
use crate::scenario::Scenario;

/// The look that all pages share (`faultin-bench --html` has it, too), and that of this one.
const STYLES: [&str; 2] = [include_str!("page.css"), include_str!("style.css")];
const SCRIPT: &str = include_str!("script.js");

/// Nothing is fetched from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Returns the page.
pub fn page(model: &Model) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "faultin audit" }
                style { @for style in STYLES { (PreEscaped(style)) } }
            }
            body {
                header {
                    h1 { "faultin audit" }
                    p {
                        "The callers of the kernel’s fault-in helpers, as a mail of August 2021 found them and as they "
                        "should be, on memory that really faults. Every square opens what was expected and what happened."
                    }
                    p.environment { (model.environment) }
                    (sums(&model.summary))
                }
                main {
                    (unexpected(&model.rows))
                    @let [callers, mappings] = &model.tables;
                    (heat_map(model, callers, "Callers and what each needs of a fault-in; scenarios; results"))
                    @if !mappings.is_empty() {
                        h2 { "A buffer whose faults we serve ourselves" }
                        (heat_map(model, mappings, "Callers whose buffer is a mapping of a file they lock; scenarios; results"))
                        (comparison(model))
                    }
                    (legend(&model.skips, &model.scenarios))
                }
                @for (row, square) in squares(&model.rows).filter(|(row, _)| !row.is_not_yet()) { (details(model, row, square)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn sums(summary: &Summary) -> Markup {
    html! {
        ul.sums {
            li.wrong[!summary.ok] {
                strong { (summary.as_expected) " of " (summary.executed) } " executed cells as expected"
                @if !summary.ok { ", " (summary.unexpected + summary.skips_not_allowed) " not" }
            }
            li { strong { (summary.livelocks) } " livelocks and " strong { (summary.deadlocks) } " deadlocks seen" }
            li { strong { (summary.skipped) } " cells skipped" }
            li { strong { (summary.callers - summary.callers_not_yet) " of " (summary.callers) } " callers run" }
        }
    }
}

fn squares(rows: &[Row]) -> impl Iterator<Item = (&Row, &Square)> {
    rows.iter().flat_map(|row| row.variants.iter().flatten().map(move |square| (row, square)))
}

/// Returns the unexpected results, by name.
fn unexpected(rows: &[Row]) -> Markup {
    let wrong: Vec<(&Row, &Square)> = squares(rows).filter(|(_, square)| square.kind == Kind::Unexpected).collect();
    html! {
        @if !wrong.is_empty() {
            section.unexpected {
                h2 { "Not as expected" }
                ul {
                    @for (row, square) in wrong {
                        li { button.plain type="button" popovertarget=(id(row, square)) { (row.title(square)) } }
                    }
                }
            }
        }
    }
}

/// Roles are explicit because narrow windows use another layout, in which browsers no longer treat it as a table.
fn heat_map(model: &Model, table: &Table, caption: &str) -> Markup {
    let scenarios = &table.scenarios;
    let variants = model.rows_of(table).map(|row| row.variants.len()).max().unwrap_or(1);
    html! {
        table.heat role="table" style={ "--variants:" (variants) ";--lines:" (scenarios.len() + 1) } {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    th role="columnheader" scope="col" { "caller" span.soft { ", and the mail in our words" } }
                    th role="columnheader" scope="col" { "variant" }
                    @for scenario in scenarios {
                        th role="columnheader" scope="col" title=(scenario.meaning()) { (scenario.name()) }
                    }
                }
            }
            @for row in model.rows_of(table) {
                tbody role="rowgroup" .later[row.is_not_yet()] {
                    @if row.is_not_yet() {
                        tr role="row" {
                            (caller(row, 1))
                            td.later role="cell" colspan=(scenarios.len() + 1) { "· not yet" }
                        }
                    } @else {
                        @for index in 0..row.variants.len() {
                            tr role="row" {
                                @if index == 0 { (caller(row, row.variants.len())) }
                                th.variant role="rowheader" scope="row" { (row.variants[index][0].variant.name()) }
                                @for square in row.squares(index, scenarios) {
                                    td role="cell" { (button(row, square)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the comparison of the real file system with ours.
fn comparison(model: &Model) -> Markup {
    html! {
        section {
            h2 { "gfs2 and ours" }
            p.soft { "The kernel’s columns are quoted (" (kernel::SOURCE) "), ours are executed." }
            table.compared {
                thead { tr { @for head in kernel::HEADS { th scope="col" { (head) } } } }
                tbody { @for line in &model.comparison { tr { @for text in line { td { (text) } } } } }
            }
        }
    }
}

fn caller(row: &Row, lines: usize) -> Markup {
    html! {
        th.caller role="rowheader" scope="rowgroup" rowspan=(lines) {
            span.number { (row.number) } " "
            span.name { (row.name) } " "
            span.place { (row.place) } " "
            span.need { "needs " (row.need) }
            p.mail { (row.finding) }
        }
    }
}

fn button(row: &Row, square: &Square) -> Markup {
    let (class, sign, meaning) = look(square.kind);
    html! {
        button.square.(class).partly[square.is_partly_skipped] type="button" popovertarget=(id(row, square))
            title={ (square.scenario.name()) ", " (square.variant.name()) ": " (meaning) }
        {
            span.scenario { (square.scenario.name()) " " }
            span.sign aria-hidden="true" { (sign) } " "
            span.result {
                @for (index, text) in square.texts.iter().enumerate() {
                    @if index > 0 { br; }
                    (text.trim_start_matches("✗ "))
                }
            }
            span.unseen { ", " (meaning) }
        }
    }
}

/// Returns a class, a sign and their meaning.
fn look(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Fine => ("fine", "✓", "as expected"),
        Kind::Defect => ("defect", "▲", "as expected: a defect, the fixed code ends in another way"),
        Kind::Livelock => ("livelock", "⟳", "as expected: a livelock, without end"),
        Kind::Deadlock => ("deadlock", "⊗", "as expected: a deadlock, waits for itself"),
        Kind::Unexpected => ("unexpected", "✗", "not as expected"),
        Kind::Skipped => ("skipped", "–", "skipped, for want of what this machine does not have"),
        Kind::NotYet => ("later", "·", "not yet"),
        Kind::NotApplicable => ("later", " ", "does not apply"),
    }
}

fn legend(skips: &[Skip], scenarios: &[Scenario]) -> Markup {
    let kinds = [
        Kind::Fine,
        Kind::Defect,
        Kind::Livelock,
        Kind::Deadlock,
        Kind::Unexpected,
        Kind::Skipped,
        Kind::NotYet,
        Kind::NotApplicable,
    ];
    html! {
        section {
            h2 { "How to read it" }
            ul.legend {
                @for kind in kinds {
                    @let (class, sign, meaning) = look(kind);
                    li { span.swatch.(class) { (sign) } " " (meaning) }
                }
                @for skip in skips {
                    li { span.swatch.partly { (skip.mark) } " " (skip) "; the other memory’s result is shown" }
                }
            }
            dl {
                dt { "as-found, fixed" } dd { "the caller and its helper as the mail met them; as it should be" }
                dt { "ANY" } dd { "some progress is possible: the caller goes on at the first byte that was not copied" }
                dt { "ALL" } dd { "every byte can be accessed: the caller starts from scratch, a part is of no use to it" }
                dt { "host, sim" } dd { "memory of this process; simulated memory. One result where both agree" }
                dt { "∞" } dd { "a state repeated with no outside event between: a livelock" }
                dt { "holds" } dd { "what must hold beside a thread that remaps the memory did, in every run" }
                dt { ", n" } dd { "bytes that moved, where that is neither none nor all" }
            }
            h2 { "Scenarios" }
            dl {
                @for scenario in scenarios { dt { (scenario.name()) } dd { (scenario.meaning()) } }
            }
        }
    }
}

fn id(row: &Row, square: &Square) -> String {
    format!("{}-{}-{}", row.number, square.variant.name(), square.scenario.slug())
}

/// Returns the contents of a square's popover.
fn details(model: &Model, row: &Row, square: &Square) -> Markup {
    let id = id(row, square);
    let label = format!("{id}-title");
    html! {
        section.details #(id) popover role="dialog" aria-labelledby=(label) {
            div.bar {
                h2 #(label) { (row.title(square)) }
                button.close type="button" popovertarget=(id) popovertargetaction="hide" autofocus { "close" }
            }
            dl {
                dt { "scenario" } dd { (square.scenario.meaning()) }
                dt { "needs" } dd { (row.need) }
                dt { "the mail" } dd { (row.finding) }
                @if let Some(origins) = row.origins { dt { "origin" } dd { (origins[square.variant as usize]) } }
            }
            @for cell in model.cells_of(square) { (memory(cell)) }
        }
    }
}

fn memory(cell: &Cell) -> Markup {
    let (class, sign, meaning) = look(cell.kind);
    html! {
        section.memory {
            h3 { span.swatch.(class) { (sign) } " " (cell.memory) span.soft { ", " (meaning) } }
            dl {
                dt { "expected" }
                dd {
                    (cell.expected.as_deref().unwrap_or_default())
                    @if let Some(source) = cell.source { " " span.source { (source) } }
                }
                dt { "actual" } dd { (cell.actual) }
                @if let Some(fixed) = &cell.fixed { dt { "fixed code" } dd { (fixed) } }
                @if cell.has_run {
                    dt { "attempts" } dd { (cell.rounds) @if cell.runs > 1 { ", the most of " (cell.runs) " runs" } }
                    dt { "moved" } dd { (cell.moved) " bytes" @if cell.runs > 1 { " in all runs" } }
                }
                @if let Some(wrong) = &cell.wrong { dt { "wrong" } dd.wrong { "✗ " (wrong) } }
                @if let Some(why) = cell.not_applicable { dt { "does not apply" } dd { (why) } }
            }
            @if cell.has_run { (trace(cell)) }
        }
    }
}

/// Returns the steps, numbered; of many only the first and the last.
fn trace(cell: &Cell) -> Markup {
    let (first, hidden, last) = ends_of(&cell.steps, SHOWN);
    html! {
        @if cell.runs > 1 { p.soft { "The last of " (cell.runs) " runs:" } }
        ol.trace { @for step in first { li { (step) } } }
        @if hidden > 0 {
            p.soft { "… " (hidden) " more" }
            ol.trace start=(SHOWN + hidden + 1) { @for step in last { li { (step) } } }
        }
        @if cell.is_endless() { p.soft { "… and so for ever" } }
    }
}
