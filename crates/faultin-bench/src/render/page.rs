//! One self-contained page: curves, ratios with their intervals, and what missed its bound.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plots::{self, count, exponent, time};
use crate::report::{Goal, Report, Row, bytes, ratio};
use crate::scale::{Curve, Figure, Misses, Scale, number};

/// The look that the project's pages share, of plots, and of this page.
const STYLES: [&str; 3] =
    [include_str!("../../../faultin-audit/src/render/page.css"), plots::STYLE, include_str!("page.css")];

/// Nothing is fetched from anywhere, and no script runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Returns the page.
pub fn page(report: &Report) -> String {
    let benches = report.benches();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "faultin bench" }
                style { @for style in STYLES { (PreEscaped(style)) } }
            }
            body {
                header {
                    h1 { "faultin bench" }
                    p { "faultin and its peers, measured in one process, in rounds, in random order." }
                    p.environment { (report.environment.text()) }
                    (sums(report))
                    nav {
                        ul {
                            @if report.scale.is_some() { li { a href="#growth" { "Growth" } } }
                            @for title in &benches { li { a href={ "#" (title) } { (title) } } }
                            li { a href="#reading" { "How to read it" } }
                        }
                    }
                }
                main {
                    (wrong(report))
                    @if let Some(scale) = &report.scale { (growth(scale)) }
                    @for title in &benches { (bench(report, title)) }
                    (reading())
                }
            }
        }
    };
    page.into_string()
}

fn sums(report: &Report) -> Markup {
    let figures = report.scale.iter().flat_map(|scale| &scale.figures);
    let bounds: Vec<bool> =
        report.goals.iter().map(|goal| goal.met).chain(figures.map(|figure| !figure.is_missed())).collect();
    let curves: Vec<&Curve> =
        report.scale.iter().flat_map(|scale| &scale.curves).filter(|c| c.bound.is_some()).collect();
    let flat = curves.iter().filter(|curve| curve.failure().is_none()).count();
    let met = bounds.iter().filter(|met| **met).count();
    html! {
        ul.sums {
            @if !curves.is_empty() { li { strong { (flat) " of " (curves.len()) } " curves flat" } }
            @if !bounds.is_empty() { li { strong { (met) " of " (bounds.len()) } " bounds met" } }
            @if !report.results.is_empty() { li { strong { (report.results.len()) } " comparisons" } }
            @if !report.missing.is_empty() { li.wrong { strong { (report.missing.len()) } " did not run" } }
            @if !report.skipped.is_empty() { li { strong { (report.skipped.len()) } " skipped" } }
        }
    }
}

/// Returns what failed, missed a bound, did not run, or was skipped.
fn wrong(report: &Report) -> Markup {
    let scale = report.scale.as_ref();
    let failures: Vec<String> = scale.map(Scale::failures).unwrap_or_default();
    let informs = scale.iter().flat_map(|scale| &scale.figures).filter(|figure| figure.is_missed() && !figure.decides);
    let mut missed: Vec<String> =
        informs.map(|figure| format!("{}: {}, bound {}", figure.name, number(figure.value), figure.limit())).collect();
    let goals = report.goals.iter().filter(|goal| !goal.met);
    missed.extend(goals.map(|goal| format!("{}: {}, bound ≤ {}", goal.goal, ratio(goal.figure), ratio(goal.bound))));
    let lists = [
        ("Failed", failures, true),
        ("Did not run", report.missing.clone(), true),
        ("Missed bounds", missed, false),
        ("Skipped", report.skipped.clone(), false),
    ];
    html! {
        @for (title, list, is_failure) in lists {
            @if !list.is_empty() {
                h2 { (title) }
                ul { @for what in list { li.missed[is_failure] { (what) } } }
            }
        }
    }
}

fn growth(scale: &Scale) -> Markup {
    html! {
        section #growth {
            h2 { "Growth" }
            p.soft {
                "One operation beside more and more of something: medians of interleaved rounds. A vertical line is the 95 % "
                "interval of its median. The exponent is that of the fitted power: 0 is flat, 1 doubles with the number. "
                "A dashed curve has no bound of its own."
            }
            div.plots {
                @for group in plots::groups(&scale.curves) {
                    figure { (plots::curves(&group, None)) (curve_table(&group.curves)) }
                }
                @if !scale.misses.is_empty() {
                    figure { (plots::misses(&scale.misses, None)) (miss_table(&scale.misses)) }
                }
            }
            @if !scale.figures.is_empty() { h3 { "Bounds" } (figure_table(&scale.figures)) }
            @if !scale.threads.is_empty() { h3 { "Threads" } (rows(&scale.threads)) }
        }
    }
}

fn curve_table(curves: &[&Curve]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "operation" }
                        th scope="col" { "times by number" }
                        th.number scope="col" { "exponent, 95 %" }
                    }
                }
                tbody {
                    @for curve in curves {
                        tr {
                            th scope="row" { (curve.name) }
                            td {
                                @for (index, point) in curve.points.iter().enumerate() {
                                    @if index > 0 { "; " }
                                    span.soft { (count(point.number as f64)) ": " } (time(point.ns.median))
                                }
                            }
                            td.number {
                                @if let Some(fit) = curve.exponent {
                                    span.missed[curve.failure().is_some()] { (exponent(fit.median)) }
                                    ", " (exponent(fit.interval[0])) " to " (exponent(fit.interval[1]))
                                } @else { "–" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn miss_table(misses: &[Misses]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "trace" }
                        @for (name, _) in misses.first().map(Misses::shares).unwrap_or_default() {
                            th.number scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for row in misses {
                        tr {
                            th scope="row" { (row.trace) }
                            @for (_, share) in row.shares() { td.number { (format!("{share:.3}")) } }
                        }
                    }
                }
            }
        }
    }
}

fn figure_table(figures: &[Figure]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "figure" }
                        th.number scope="col" { "here" }
                        th.number scope="col" { "95 % interval" }
                        th.number scope="col" { "bound" }
                        th scope="col" { "" }
                    }
                }
                tbody {
                    @for figure in figures {
                        tr {
                            th scope="row" { (figure.name) }
                            td.number { (number(figure.value)) }
                            td.number {
                                @if let Some([low, high]) = figure.interval { (number(low)) " to " (number(high)) }
                            }
                            td.number { (figure.limit()) }
                            td .(if figure.is_missed() { "missed" } else { "met" }) { (figure.verdict()) }
                        }
                    }
                }
            }
        }
    }
}

fn bench(report: &Report, title: &str) -> Markup {
    let prefix = format!("{title} ");
    let results: Vec<Row> = report.results.iter().filter(|row| row.name.starts_with(&prefix)).cloned().collect();
    let goals: Vec<&Goal> = report.goals.iter().filter(|goal| goal.bench == title).collect();
    html! {
        section id=(title) {
            h2 { (title) }
            @if !goals.is_empty() {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th.number scope="col" { "here" }
                                th.number scope="col" { "bound" }
                                th scope="col" { "goal" }
                            }
                        }
                        tbody {
                            @for goal in goals {
                                tr {
                                    td.number .(if goal.met { "met" } else { "missed" }) { (ratio(goal.figure)) }
                                    td.number { "≤ " (ratio(goal.bound)) }
                                    th scope="row" { (goal.goal) span.detail { (goal.detail) } }
                                }
                            }
                        }
                    }
                }
            }
            @if !results.is_empty() { (rows(&results)) }
        }
    }
}

/// Returns comparisons: each ratio with its interval on an axis that all of them share.
fn rows(rows: &[Row]) -> Markup {
    let axis = plots::ratios(rows);
    let is_first = |index: usize| {
        index == 0 || (&rows[index - 1].name, rows[index - 1].size) != (&rows[index].name, rows[index].size)
    };
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { "what" }
                        th.number scope="col" { "size" }
                        th.number scope="col" { "ours" }
                        th scope="col" { "peer" }
                        th.number scope="col" { "its time" }
                        th.number scope="col" { "ratio" }
                        th scope="col" { "95 % interval, logarithmic" }
                        th.number scope="col" { "" }
                        th.number scope="col" { "bound" }
                    }
                }
                tbody {
                    @for (index, row) in rows.iter().enumerate() {
                        @let first = is_first(index);
                        tr.first[first] {
                            th scope="row" { @if first { (row.name) } @else { span.unseen { (row.name) } } }
                            td.number { @if first { (bytes(row.size)) } }
                            td.number { @if first { (time(row.ours_ns)) } }
                            td { (row.peer) }
                            td.number { (time(row.peer_ns)) }
                            td.number .(verdict(row)) { (ratio(row.ratio)) }
                            td { (plots::interval(row, axis)) }
                            td.number { (ratio(row.interval[0])) " to " (ratio(row.interval[1])) }
                            td.number { @if let Some(bound) = row.bound { "≤ " (ratio(bound)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the class of a ratio: met, unclear where its interval still reaches the bound, or missed.
fn verdict(row: &Row) -> &'static str {
    match row.bound {
        None => "",
        Some(bound) if row.ratio <= bound => "met",
        Some(bound) if row.interval[0] <= bound => "unclear",
        Some(_) => "missed",
    }
}

fn reading() -> Markup {
    html! {
        section #reading {
            h2 { "How to read it" }
            dl {
                dt { "ratio" }
                dd { "our time divided by the peer’s: the median of the rounds’ ratios. Lower is better, 1 is equal" }
                dt { "95 % interval" }
                dd {
                    "contains that median with 95 % confidence: in this run, not on another machine or in another hour. The "
                    "thick grey line is at 1, the red dashed line at the bound"
                }
                dt { "bound" }
                dd { "what the project wants. A missed time is information, because it depends on the machine and its load" }
                dt { "threads" }
                dd { "several threads that each do the whole work, relative to one thread: 1 is perfect" }
                dt { "misses" }
                dd { "of the second half of the accesses, with room for a sixteenth of the blocks" }
            }
        }
    }
}
