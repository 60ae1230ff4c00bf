//! The report as one self-contained page: a heat map of callers and scenarios, and for each square the expectation and the
//! steps.
//!
//! A square is a button that opens a popover, so that the page works without its script; the script only opens the square
//! that the page's address names, and moves among squares with the arrow keys.

#![forbid(unsafe_code)]

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::callers::Variant;
use crate::json::Summary;
use crate::kernel;
use crate::run::{Cell, Outcome, Ran, Report};
use crate::scenario::Scenario;
use crate::square::{self, Kind, Marks, Part, Rows, Square};
use crate::table::SHOWN;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Nothing is fetched from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Returns the page.
pub fn page(report: &Report) -> String {
    let (marks, rows, scenarios) = (Marks::of(report), Square::all(report), square::scenarios(report));
    let summary = Summary::of(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "faultin audit" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "faultin audit" }
                    p {
                        "The callers of the kernel’s fault-in helpers, as a mail of August 2021 found them and as they "
                        "should be, on memory that really faults. Every square opens what was expected and what happened."
                    }
                    p.environment { (report.environment) }
                    (sums(&summary))
                }
                main {
                    (unexpected(&rows))
                    @let [callers, mappings] = Part::both(report, &rows);
                    (heat_map(&callers, "Callers and what each needs of a fault-in; scenarios; results", &marks))
                    @if !mappings.is_empty() {
                        h2 { "A buffer whose faults we serve ourselves" }
                        (heat_map(&mappings, "Callers whose buffer is a mapping of a file they lock; scenarios; results", &marks))
                        (comparison(report))
                    }
                    (legend(&marks, &scenarios))
                }
                @for square in rows.iter().filter(|rows| !rows.is_not_yet()).flat_map(|rows| rows.variants.iter().flatten()) {
                    (details(square))
                }
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

/// Returns the unexpected results, by name.
fn unexpected(rows: &[Rows]) -> Markup {
    let squares = rows.iter().flat_map(|rows| rows.variants.iter().flatten());
    let wrong: Vec<&Square> = squares.filter(|square| square.kind() == Kind::Unexpected).collect();
    html! {
        @if !wrong.is_empty() {
            section.unexpected {
                h2 { "Not as expected" }
                ul {
                    @for square in wrong {
                        li { button.plain type="button" popovertarget=(id(square)) { (title(square)) } }
                    }
                }
            }
        }
    }
}

/// Roles are explicit because narrow windows use another layout, in which browsers no longer treat it as a table.
fn heat_map(part: &Part, caption: &str, marks: &Marks) -> Markup {
    let (rows, scenarios) = (&part.rows, &part.scenarios);
    let variants = rows.iter().map(|rows| rows.variants.len()).max().unwrap_or(1);
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
            @for rows in rows {
                tbody role="rowgroup" .later[rows.is_not_yet()] {
                    @if rows.is_not_yet() {
                        tr role="row" {
                            (caller(rows, 1))
                            td.later role="cell" colspan=(scenarios.len() + 1) { "· not yet" }
                        }
                    } @else {
                        @for index in 0..rows.variants.len() {
                            tr role="row" {
                                @if index == 0 { (caller(rows, rows.variants.len())) }
                                th.variant role="rowheader" scope="row" { (rows.variants[index][0].variant.name()) }
                                @for square in rows.squares(index, scenarios) {
                                    td role="cell" { (button(square, marks)) }
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
fn comparison(report: &Report) -> Markup {
    html! {
        section {
            h2 { "gfs2 and ours" }
            p.soft { "The kernel’s columns are quoted (" (kernel::SOURCE) "), ours are executed." }
            table.compared {
                thead { tr { @for head in kernel::HEADS { th scope="col" { (head) } } } }
                tbody { @for line in kernel::comparison(report) { tr { @for text in line { td { (text) } } } } }
            }
        }
    }
}

fn caller(rows: &Rows, lines: usize) -> Markup {
    let caller = rows.caller;
    html! {
        th.caller role="rowheader" scope="rowgroup" rowspan=(lines) {
            span.number { (caller.row) } " "
            span.name { (caller.name) } " "
            span.place { (caller.place) } " "
            span.need { "needs " (caller.need) }
            p.mail { (caller.finding) }
        }
    }
}

fn button(square: &Square, marks: &Marks) -> Markup {
    let (class, sign, meaning) = look(square.kind());
    html! {
        button.square.(class).partly[square.is_partly_skipped()] type="button" popovertarget=(id(square))
            title={ (square.scenario.name()) ", " (square.variant.name()) ": " (meaning) }
        {
            span.scenario { (square.scenario.name()) " " }
            span.sign aria-hidden="true" { (sign) } " "
            span.result {
                @for (index, text) in marks.texts(square).iter().enumerate() {
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

fn legend(marks: &Marks, scenarios: &[Scenario]) -> Markup {
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
                @for skip in marks.skips() {
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

fn id(square: &Square) -> String {
    format!("{}-{}-{}", square.caller.row, square.variant.name(), square.scenario.slug())
}

fn title(square: &Square) -> String {
    let caller = square.caller;
    let (variant, scenario) = (square.variant.name(), square.scenario.name());
    format!("{} {} ({}), {variant}, {scenario}", caller.row, caller.name, caller.place)
}

/// Returns the contents of a square's popover.
fn details(square: &Square) -> Markup {
    let caller = square.caller;
    let id = id(square);
    let label = format!("{id}-title");
    html! {
        section.details #(id) popover role="dialog" aria-labelledby=(label) {
            div.bar {
                h2 #(label) { (title(square)) }
                button.close type="button" popovertarget=(id) popovertargetaction="hide" autofocus { "close" }
            }
            dl {
                dt { "scenario" } dd { (square.scenario.meaning()) }
                dt { "needs" } dd { (caller.need) }
                dt { "the mail" } dd { (caller.finding) }
                @if let Some(job) = caller.job { dt { "origin" } dd { (job.origin(square.variant)) } }
            }
            @for cell in &square.cells { (memory(cell)) }
        }
    }
}

fn memory(cell: &Cell) -> Markup {
    let (class, sign, meaning) = look(square::kind(cell));
    html! {
        section.memory {
            h3 { span.swatch.(class) { (sign) } " " (cell.memory.name()) span.soft { ", " (meaning) } }
            dl {
                dt { "expected" }
                dd {
                    (cell.expected().unwrap_or_default())
                    @if let Some(expectation) = cell.expectation { " " span.source { (expectation.source) } }
                }
                dt { "actual" } dd { (cell.actual()) }
                @if cell.variant == Variant::AsFound && cell.expected() != cell.expected_of_fixed() {
                    dt { "fixed code" } dd { (cell.expected_of_fixed().unwrap_or_default()) }
                }
                @match &cell.outcome {
                    Outcome::Ran(ran) => {
                        dt { "attempts" } dd { (ran.rounds) @if ran.runs > 1 { ", the most of " (ran.runs) " runs" } }
                        dt { "moved" } dd { (ran.moved) " bytes" @if ran.runs > 1 { " in all runs" } }
                        @if let Err(wrong) = &ran.verdict { dt { "wrong" } dd.wrong { "✗ " (wrong) } }
                    }
                    Outcome::NotApplicable(why) => { dt { "does not apply" } dd { (why) } }
                    Outcome::Skipped { feature, allowed: false } => {
                        dt { "wrong" } dd.wrong { "✗ " (feature) " ought to be here" }
                    }
                    _ => {}
                }
            }
            @if let Outcome::Ran(ran) = &cell.outcome { (trace(ran)) }
        }
    }
}

/// Returns the steps, numbered; of many only the first and the last.
fn trace(ran: &Ran) -> Markup {
    let hidden = ran.steps.len().saturating_sub(2 * SHOWN);
    let last = if hidden > 0 { &ran.steps[SHOWN + hidden..] } else { &[] };
    let first = &ran.steps[..ran.steps.len() - hidden - last.len()];
    html! {
        @if ran.runs > 1 { p.soft { "The last of " (ran.runs) " runs:" } }
        ol.trace { @for step in first { li { (step) } } }
        @if hidden > 0 {
            p.soft { "… " (hidden) " more" }
            ol.trace start=(SHOWN + hidden + 1) { @for step in last { li { (step) } } }
        }
        @if ran.actual.contains('∞') { p.soft { "… and so for ever" } }
    }
}
