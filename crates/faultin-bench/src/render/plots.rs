//! The plots: curves by a number, shares of misses, and intervals of ratios. SVG, for a page or as files of their own.

use maud::{Markup, PreEscaped, html};

use super::axis::{Axis, rounded};
use crate::environment::Environment;
use crate::report::Row;
use crate::scale::{Curve, Misses, Scale};

/// The look of all plots.
pub const STYLE: &str = include_str!("plot.css");

const WIDTH: f64 = 720.0;

/// The curves of one plot.
pub struct Group<'a> {
    pub title: &'static str,
    pub curves: Vec<&'a Curve>,
}

/// Returns the curves by their plots, in the order in which they were measured.
pub fn groups(curves: &[Curve]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for curve in curves {
        match groups.iter_mut().find(|group| group.title == curve.plot) {
            Some(group) => group.curves.push(curve),
            None => groups.push(Group { title: curve.plot, curves: vec![curve] }),
        }
    }
    groups
}

/// Returns the plots as files: names without a folder, and contents.
pub fn files(scale: &Scale, environment: &Environment) -> Vec<(String, String)> {
    let machine = environment.text();
    let mut files: Vec<_> = groups(&scale.curves)
        .iter()
        .map(|group| (file_name(group.title), curves(group, Some(&machine)).into_string() + "\n"))
        .collect();
    if !scale.misses.is_empty() {
        files.push(("misses.svg".to_owned(), misses(&scale.misses, Some(&machine)).into_string() + "\n"));
    }
    files
}

fn file_name(title: &str) -> String {
    let name: String =
        title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    name + ".svg"
}

/// The frame of a plot. One that stands alone has its style and a caption.
fn plot(title: &str, height: f64, caption: Option<&str>, contents: Markup) -> Markup {
    let height = if caption.is_some() { height + 20.0 } else { height };
    html! {
        svg.plot xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(title) {
            @if caption.is_some() { style { (PreEscaped(STYLE)) } }
            rect.back width=(WIDTH) height=(height) rx="6" {}
            text.title x="16" y="26" { (title) }
            (contents)
            @if let Some(caption) = caption {
                text.soft x="16" y=(height - 10.0) font-size="10.5" { (caption) }
            }
        }
    }
}

/// Returns the times of curves by a number, both axes logarithmic.
pub fn curves(group: &Group<'_>, caption: Option<&str>) -> Markup {
    let Group { title, curves } = group;
    // One line of the legend for each curve.
    let top = 44.0 + 18.0 * curves.len() as f64;
    // The last label of the axis may be `1,000,000`.
    let (left, right, bottom) = (76.0, WIDTH - 40.0, top + 250.0);
    let numbers = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.number as f64));
    let times =
        curves.iter().flat_map(|curve| curve.points.iter().flat_map(|point| point.ns.interval).chain(curve.limit));
    let x = Axis::log(numbers, [left, right]);
    let y = Axis::log(times, [bottom, top]);
    let limit = curves.iter().find_map(|curve| curve.limit);
    let counted = curves.first().map_or("", |curve| curve.counted);
    plot(
        title,
        bottom + 46.0,
        caption,
        html! {
            @for tick in x.ticks() {
                line.grid.major[tick.is_major] x1=(tick.at) x2=(tick.at) y1=(top) y2=(bottom) {}
                @if tick.is_major {
                    text.soft x=(tick.at) y=(bottom + 16.0) text-anchor="middle" { (count(tick.value)) }
                }
            }
            @for tick in y.ticks() {
                line.grid.major[tick.is_major] x1=(left) x2=(right) y1=(tick.at) y2=(tick.at) {}
                @if tick.is_major {
                    text.soft x=(left - 8.0) y=(tick.at + 4.0) text-anchor="end" { (time(tick.value)) }
                }
            }
            text.soft x=(right) y=(bottom + 34.0) text-anchor="end" { (counted) }
            @if let Some(limit) = limit {
                line.limit x1=(left) x2=(right) y1=(y.at(limit)) y2=(y.at(limit)) {}
                text.bound x=(right - 4.0) y=(rounded(y.at(limit) - 5.0)) text-anchor="end" { "bound: " (time(limit)) }
            }
            @for (index, curve) in curves.iter().enumerate() {
                (line(index, curve, x, y))
                @let at = 48.0 + 18.0 * index as f64;
                path.line.(series(index)).dashed[curve.bound.is_none()] d={ "M16 " (at - 4.0) "h28" } {}
                (marker(index, 30.0, at - 4.0))
                text x="54" y=(at) {
                    (curve.name)
                    @if let Some(fit) = curve.exponent {
                        tspan.soft {
                            ": exponent " (exponent(fit.median))
                            @if let Some(bound) = curve.bound {
                                @if fit.median > bound { ", grows" } @else { ", flat" }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// Returns the line of a curve with its intervals. A number of 0 has no place on a logarithmic axis.
fn line(index: usize, curve: &Curve, x: Axis, y: Axis) -> Markup {
    let points: Vec<_> = curve.points.iter().filter(|point| point.number > 0).collect();
    let path: String = points
        .iter()
        .enumerate()
        .map(|(i, point)| {
            format!("{}{} {}", if i == 0 { 'M' } else { 'L' }, x.at(point.number as f64), y.at(point.ns.median))
        })
        .collect();
    html! {
        path.line.(series(index)).dashed[curve.bound.is_none()] d=(path) {}
        @for point in &points {
            @let at = x.at(point.number as f64);
            @let [low, high] = point.ns.interval;
            line.(series(index)) x1=(at) x2=(at) y1=(y.at(low)) y2=(y.at(high)) stroke-width="1.5" {
                title {
                    (curve.name) ", " (count(point.number as f64)) ": " (time(point.ns.median)) ", 95 %: " (time(low))
                    " to " (time(high))
                }
            }
            (marker(index, at, y.at(point.ns.median)))
        }
    }
}

fn series(index: usize) -> &'static str {
    ["s0", "s1", "s2", "s3", "s4"][index % 5]
}

/// Returns the marker of a series: they differ in form, too.
fn marker(index: usize, x: f64, y: f64) -> Markup {
    shape(index, x, y, false)
}

/// Returns a marker through which others can be seen.
fn hollow(index: usize, x: f64, y: f64) -> Markup {
    shape(index, x, y, true)
}

fn shape(index: usize, x: f64, y: f64, is_hollow: bool) -> Markup {
    let (x, y) = (rounded(x), rounded(y));
    let class = if is_hollow { format!("{} hollow", series(index)) } else { series(index).to_owned() };
    html! {
        @match index % 5 {
            0 => circle class=(class) cx=(x) cy=(y) r="4" {},
            1 => rect class=(class) x=(rounded(x - 3.5)) y=(rounded(y - 3.5)) width="7" height="7" {},
            2 => path class=(class) d={ "M" (x) " " (rounded(y - 5.0)) "l5 9h-10z" } {},
            3 => path class=(class) d={ "M" (x) " " (rounded(y - 5.0)) "l5 5l-5 5l-5 -5z" } {},
            _ => path class=(class) d={ "M" (x) " " (rounded(y + 5.0)) "l5 -9h-10z" } {},
        }
    }
}

/// Returns the shares of misses: a line for each trace, a marker for each policy.
pub fn misses(rows: &[Misses], caption: Option<&str>) -> Markup {
    let (left, right, top) = (300.0, WIDTH - 24.0, 74.0);
    let bottom = top + 30.0 * rows.len() as f64;
    let x = Axis::share([left, right]);
    let policies = rows.first().map(Misses::shares).unwrap_or_default();
    plot(
        "Share of accesses that miss",
        bottom + 46.0,
        caption,
        html! {
            @for (index, (name, _)) in policies.iter().enumerate() {
                @let at = 24.0 + 110.0 * index as f64;
                @if index == 0 { (marker(index, at, 46.0)) } @else { (hollow(index, at, 46.0)) }
                text x=(at + 10.0) y="50" { (name) }
            }
            @for tick in x.ticks() {
                line.grid.major[tick.is_major] x1=(tick.at) x2=(tick.at) y1=(top) y2=(bottom) {}
                @if tick.is_major {
                    text.soft x=(tick.at) y=(bottom + 16.0) text-anchor="middle" { (format!("{:.1}", tick.value)) }
                }
            }
            text.soft x=(right) y=(bottom + 34.0) text-anchor="end" { "lower is better" }
            @for (row, misses) in rows.iter().enumerate() {
                @let y = top + 15.0 + 30.0 * row as f64;
                line.grid x1=(left) x2=(right) y1=(y) y2=(y) {}
                @for (part, text) in wrapped(misses.trace, 48).iter().enumerate() {
                    text x=(left - 12.0) y=(y + 4.0 + 13.0 * part as f64 - 6.5 * (wrapped(misses.trace, 48).len() - 1) as f64)
                        text-anchor="end" font-size="11" { (text) }
                }
                // The others are hollow, so that ours can be seen through them.
                @for (index, (name, share)) in misses.shares().iter().enumerate() {
                    g {
                        title { (name) ": " (format!("{share:.3}")) }
                        @if index == 0 { (marker(index, x.at(*share), y)) } @else { (hollow(index, x.at(*share), y)) }
                    }
                }
            }
        },
    )
}

/// Splits a text at spaces into lines of at most `most` characters, where it has spaces.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > most {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The axis of [`interval`].
pub fn ratios(rows: &[Row]) -> Axis {
    let values = rows.iter().flat_map(|row| [row.interval[0], row.interval[1], 1.0].into_iter().chain(row.bound));
    Axis::log(values, [6.0, 234.0])
}

/// Returns the interval of a ratio on a common axis, with lines at 1 and at the bound.
pub fn interval(row: &Row, x: Axis) -> Markup {
    let [low, high] = row.interval.map(|end| x.at(end));
    // A narrow interval is still visible.
    let (low, high) = (rounded((low).min(x.at(row.ratio) - 1.0)), rounded(high.max(x.at(row.ratio) + 1.0)));
    html! {
        svg.plot.interval viewBox="0 0 240 18" aria-hidden="true" {
            @for tick in x.ticks().iter().filter(|tick| tick.is_major) {
                line.grid x1=(tick.at) x2=(tick.at) y1="0" y2="18" {}
            }
            line.grid.major x1=(x.at(1.0)) x2=(x.at(1.0)) y1="0" y2="18" stroke-width="2" {}
            @if let Some(bound) = row.bound { line.limit x1=(x.at(bound)) x2=(x.at(bound)) y1="0" y2="18" {} }
            line.s0 x1=(low) x2=(high) y1="9" y2="9" stroke-width="3" {}
            circle.s0 cx=(x.at(row.ratio)) cy="9" r="4" {}
        }
    }
}

/// Writes a time with its unit.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        v if v < 999.5 => (v, "ns"),
        v if v < 999_500.0 => (v / 1e3, "µs"),
        v => (v / 1e6, "ms"),
    };
    let digits = if value >= 99.5 || (value - value.round()).abs() < 1e-6 { 0 } else { usize::from(value < 9.95) + 1 };
    format!("{value:.digits$} {unit}")
}

/// Writes a number with separators.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes an exponent; -0.00 is 0.
pub fn exponent(value: f64) -> String {
    let text = format!("{value:.2}");
    if text == "-0.00" { "0.00".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([1.0, 100.0, 1_000.0, 16_000.0, 1e6].map(count), ["1", "100", "1,000", "16,000", "1,000,000"]);
        assert_eq!(
            [3.71, 60.0, 104.2, 1_300.0, 11_240.0, 2e6].map(time),
            ["3.71 ns", "60 ns", "104 ns", "1.30 µs", "11.2 µs", "2 ms"]
        );
        assert_eq!([-0.001, 0.123].map(exponent), ["0.00", "0.12"]);
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrapped("a long name of a trace", 10), ["a long", "name of a", "trace"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
    }

    #[test]
    fn a_plot_that_stands_alone_is_well_formed_and_shows_every_point() {
        let times = [vec![50.0, 51.0, 52.0], vec![49.0, 52.0, 51.0]];
        let scale = Scale {
            curves: vec![
                Curve::new("a <curve>", &[0, 100, 1_000], &times).in_plot("A & B", "things").flat().within(60.0),
            ],
            ..Scale::default()
        };
        let files = files(&scale, &Environment::at_start());
        assert_eq!(files[0].0, "a---b.svg");
        let svg = &files[0].1;
        assert!(svg.starts_with("<svg") && svg.contains("a &lt;curve&gt;") && svg.contains("A &amp; B"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3, "two points and the legend: {svg}");
        assert!(svg.contains("bound: 60 ns") && svg.contains("<style>"), "{svg}");
    }
}
