//! The results, as JSON and as a table.

use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use serde::Serialize;

use super::environment::Environment;
use super::ranges::Ranges;
use super::scale::Scale;
use super::stats::Summary;

/// One operation of ours against one peer.
#[derive(Clone, Serialize)]
pub struct Row {
    pub name: String,
    /// Size of the operation in bytes.
    pub size: u64,
    pub peer: String,
    /// Median time of one operation.
    pub ours_ns: f64,
    pub peer_ns: f64,
    /// Median of the paired ratios ours / peer.
    pub ratio: f64,
    pub rounds: usize,
    /// Confidence interval (95 %) of the ratio; see [`measure`](super::measure).
    pub interval: [f64; 2],
    /// The goal for the ratio, if there is one.
    pub bound: Option<f64>,
    /// The paired ratio of each round.
    #[serde(skip)]
    pub each: Vec<f64>,
}

impl Row {
    fn label(&self) -> String {
        format!("{}, {}, against {}", self.name, bytes(self.size), self.peer)
    }
}

/// A goal that takes more than one row, and the achieved value.
#[derive(Clone, Serialize)]
pub struct Goal {
    /// The bench that it belongs to.
    pub bench: &'static str,
    pub goal: String,
    pub bound: f64,
    pub figure: f64,
    pub met: bool,
    /// The confidence interval (95 %) of the figure, if it is a median.
    pub interval: Option<[f64; 2]>,
    /// The origin of the figure.
    pub detail: String,
}

impl Goal {
    /// Makes a goal for the geometric mean of the rows' ratios.
    pub fn mean(goal: &str, bound: f64, rows: &[Row], which: impl Fn(&Row) -> bool) -> Option<Goal> {
        let ratios: Vec<f64> = rows.iter().filter(|r| which(r)).map(|r| r.ratio).collect();
        let figure = geometric_mean(&ratios)?;
        let detail = format!("geometric mean of {} ratios", ratios.len());
        Some(Goal { bench: "", goal: goal.to_owned(), bound, figure, met: figure <= bound, interval: None, detail })
    }

    /// Makes a goal for the largest of the rows' ratios.
    pub fn worst(goal: &str, bound: f64, rows: &[Row], which: impl Fn(&Row) -> bool) -> Option<Goal> {
        let rows: Vec<&Row> = rows.iter().filter(|r| which(r)).collect();
        let worst = rows.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
        let good = rows.iter().filter(|r| r.ratio <= bound).count();
        let detail = format!("{good} of {} within; worst: {}", rows.len(), worst.label());
        Some(Goal {
            bench: "",
            goal: goal.to_owned(),
            bound,
            figure: worst.ratio,
            met: worst.ratio <= bound,
            interval: Some(worst.interval),
            detail,
        })
    }

    /// Makes a goal for the ratio of one row relative to that of another one, which was measured in the same rounds.
    pub fn relative(
        goal: &str,
        bound: f64,
        rows: &[Row],
        ours: impl Fn(&Row) -> bool,
        theirs: impl Fn(&Row) -> bool,
    ) -> Option<Goal> {
        let (ours, theirs) = (rows.iter().find(|r| ours(r))?, rows.iter().find(|r| theirs(r))?);
        let ratios: Vec<f64> = ours.each.iter().zip(&theirs.each).map(|(a, b)| a / b).collect();
        if ratios.is_empty() {
            return None;
        }
        let Summary { median, interval } = Summary::of(&ratios);
        let detail = format!("{:.3}, and {:.3} for {}", ours.ratio, theirs.ratio, theirs.name);
        let goal = goal.to_owned();
        Some(Goal { bench: "", goal, bound, figure: median, met: median <= bound, interval: Some(interval), detail })
    }

    /// Makes a goal that each row's interval includes 1, or is below; the figure is the highest lower end.
    pub fn not_slower(goal: &str, rows: &[Row], which: impl Fn(&Row) -> bool) -> Option<Goal> {
        let worst = rows.iter().filter(|r| which(r)).max_by(|a, b| a.interval[0].total_cmp(&b.interval[0]))?;
        let figure = worst.interval[0];
        let detail = format!("worst: {}: {:.3} to {:.3}", worst.label(), figure, worst.interval[1]);
        Some(Goal { bench: "", goal: goal.to_owned(), bound: 1.0, figure, met: figure <= 1.0, interval: None, detail })
    }

    /// Makes a goal for the row that exceeds its own bound by the largest factor; the figure is that factor.
    pub fn within_bounds(goal: &str, rows: &[Row], which: impl Fn(&Row) -> bool) -> Option<Goal> {
        let rows: Vec<(&Row, f64)> =
            rows.iter().filter(|r| which(r)).filter_map(|r| Some((r, r.ratio / r.bound?))).collect();
        let (worst, figure) = rows.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let good = rows.iter().filter(|(_, part)| *part <= 1.0).count();
        let detail = format!(
            "ratio / bound; {good} of {} within; worst: {}: {:.2} of at most {:.2}",
            rows.len(),
            worst.label(),
            worst.ratio,
            worst.bound.unwrap_or(f64::NAN)
        );
        Some(Goal {
            bench: "",
            goal: goal.to_owned(),
            bound: 1.0,
            figure: *figure,
            met: *figure <= 1.0,
            interval: None,
            detail,
        })
    }
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|v| v.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

/// All results of a run.
#[derive(Default, Serialize)]
pub struct Report {
    pub environment: Environment,
    pub results: Vec<Row>,
    pub goals: Vec<Goal>,
    /// Peers that did not run. If not empty, the table has failed.
    pub missing: Vec<String>,
    /// Cases that this machine cannot measure.
    pub skipped: Vec<String>,
    /// Growth, if it was measured.
    pub scale: Option<Scale>,
    /// The ranges of a large file, if they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
}

impl Report {
    /// Returns the names of the benches that have results, in their order.
    pub fn benches(&self) -> Vec<&str> {
        let rows = self.results.iter().filter_map(|row| row.name.split(' ').next());
        let mut benches: Vec<&str> = rows.chain(self.goals.iter().map(|goal| goal.bench)).collect();
        let mut seen = Vec::new();
        benches.retain(|bench| {
            let is_new = !seen.contains(bench);
            seen.push(*bench);
            is_new
        });
        benches
    }
}

/// Returns the rows of one bench, for people.
pub fn table(rows: &[Row]) -> Table {
    let mut table = plain(["what", "size", "ours", "peer", "its time", "ratio", "95 % interval", "bound"]);
    let mut before = ("", u64::MAX);
    for row in rows {
        let now = (row.name.as_str(), row.size);
        // A group of rows shows its name once; a name, its sizes below each other.
        let (name, size, ours) = if now == before {
            (String::new(), String::new(), String::new())
        } else {
            let name = if now.0 == before.0 { String::new() } else { row.name.clone() };
            (name, bytes(row.size), time(row.ours_ns))
        };
        before = now;
        table.add_row([
            Cell::new(name).add_attribute(Attribute::Bold),
            Cell::new(size).set_alignment(CellAlignment::Right),
            Cell::new(ours).set_alignment(CellAlignment::Right),
            Cell::new(&row.peer),
            Cell::new(time(row.peer_ns)).set_alignment(CellAlignment::Right),
            verdict(Cell::new(ratio(row.ratio)), row.bound, row.ratio, row.interval[0]),
            Cell::new(format!("{} - {}", ratio(row.interval[0]), ratio(row.interval[1]))),
            Cell::new(row.bound.map_or(String::new(), |b| format!("≤ {}", ratio(b)))),
        ]);
    }
    table
}

/// Returns the goals, for people.
pub fn goals(goals: &[Goal]) -> Table {
    let mut table = plain(["here", "bound", "goal"]);
    for goal in goals {
        table.add_row([
            verdict(Cell::new(ratio(goal.figure)), Some(goal.bound), goal.figure, goal.figure),
            Cell::new(format!("≤ {}", ratio(goal.bound))),
            Cell::new(format!("{}\n  {}", goal.goal, goal.detail)),
        ]);
    }
    table
}

pub fn plain<const N: usize>(header: [&str; N]) -> Table {
    const LINE: LineStyle = LineStyle::none().fill('─').junction('─');
    let style = TableStyle::new().top_border(LINE).header_separator(LINE).bottom_border(LINE);
    let mut table = Table::new();
    table.load_style(style).set_header(header);
    table
}

/// Colours a cell: green within the bound, yellow where the interval still reaches it, red above. Colours only show on a
/// terminal.
fn verdict(cell: Cell, bound: Option<f64>, ratio: f64, low: f64) -> Cell {
    let cell = cell.set_alignment(CellAlignment::Right);
    match bound {
        Some(bound) if ratio <= bound => cell.fg(Color::Green),
        Some(bound) if low <= bound => cell.fg(Color::Yellow),
        Some(_) => cell.fg(Color::Red),
        None => cell,
    }
}

/// Writes a ratio.
pub fn ratio(value: f64) -> String {
    match value {
        v if v < 0.1 => format!("{v:.4}"),
        v if v < 10.0 => format!("{v:.3}"),
        v => format!("{v:.1}"),
    }
}

fn time(ns: f64) -> String {
    match ns {
        v if v < 100.0 => format!("{v:.2} ns"),
        v if v < 10_000.0 => format!("{v:.0} ns"),
        v if v < 10_000_000.0 => format!("{:.1} µs", v / 1e3),
        v => format!("{:.1} ms", v / 1e6),
    }
}

/// Returns a number of bytes in a readable form.
pub fn bytes(size: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", size / unit),
        None => format!("{size} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio: f64, bound: Option<f64>) -> Row {
        Row {
            name: "copy copy_in".into(),
            size: 4 << 10,
            peer: "memcpy".into(),
            ours_ns: 2.0 * ratio,
            peer_ns: 2.0,
            ratio,
            rounds: 11,
            interval: [ratio, ratio],
            bound,
            each: vec![ratio],
        }
    }

    #[test]
    fn goals_find_the_mean_and_the_worst() {
        let rows = [row(0.5, Some(0.4)), row(2.0, Some(2.5))];
        let mean = Goal::mean("", 1.1, &rows, |_| true).unwrap();
        assert!((mean.figure - 1.0).abs() < 1e-9 && mean.met);
        let worst = Goal::worst("", 1.1, &rows, |_| true).unwrap();
        assert!(worst.figure == 2.0 && !worst.met);
        let bounds = Goal::within_bounds("", &rows, |_| true).unwrap();
        assert!((bounds.figure - 1.25).abs() < 1e-9 && !bounds.met);
        assert!(Goal::mean("", 1.0, &rows, |_| false).is_none());
        let relative = Goal::relative("", 1.05, &rows, |r| r.ratio > 1.0, |r| r.ratio < 1.0).unwrap();
        assert!((relative.figure - 4.0).abs() < 1e-9 && !relative.met);
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (size, text) in [(0, "0 B"), (1, "1 B"), (1536, "1536 B"), (4096, "4 KiB"), (96 << 20, "96 MiB")] {
            assert_eq!(bytes(size), text);
        }
    }
}
