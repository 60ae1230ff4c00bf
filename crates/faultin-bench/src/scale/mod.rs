//! Growth: operations beside more and more mappings, maps, files and threads, as curves, and the misses of the cache.
//!
//! | module | measures |
//! |---|---|
//! | `ranges` | `fault_in` beside mapped cached files and registered ranges, and the registry of ranges alone |
//! | `maps` | opening one more map |
//! | `files` | opening, closing and reading many cached files |
//! | `misses` | the share of misses, beside simulated policies and a published cache |
//!
//! Two threads are a [bench](super::threads) of their own, with peers, whose goals become figures here.
//!
//! A [`Curve`] that should be flat fails above [`FLAT`](curve::FLAT). A [`Figure`] is one number beside its bound; a missed
//! bound of a time is information, others fail.

mod clock;
mod curve;
mod figure;
mod files;
mod maps;
mod misses;
mod ranges;

use serde::Serialize;

pub use curve::Curve;
pub use figure::{Figure, number};
pub use misses::Misses;

use super::measure::Bench;
use super::report::{self, Row};
use super::stats::Summary;
use super::threads;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A smoke test, whose figures mean nothing.
    Quick,
    /// Fewer numbers and rounds.
    Short,
    Long,
}

impl Effort {
    fn of<T>(self, quick: T, short: T, long: T) -> T {
        match self {
            Effort::Quick => quick,
            Effort::Short => short,
            Effort::Long => long,
        }
    }
}

/// The curves, the figures, and what could not be measured.
#[derive(Default, Serialize)]
pub struct Scale {
    pub curves: Vec<Curve>,
    pub misses: Vec<Misses>,
    /// Two threads beside one.
    pub threads: Vec<Row>,
    pub figures: Vec<Figure>,
    pub skipped: Vec<String>,
    /// Peers that did not run, or did not do their job.
    pub missing: Vec<String>,
}

impl Scale {
    /// Measures everything whose name contains `filter`.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn measure(effort: Effort, filter: Option<&str>) -> Result<Scale, String> {
        let mut scale = Scale::default();
        let wanted = |part: &str| filter.is_none_or(|filter| part.contains(filter));
        if wanted("fault_in beside mapped cached files") {
            scale.beside_files(effort)?;
        }
        if wanted("fault_in beside registered ranges") {
            scale.registry(effort)?;
        }
        if wanted("opening a map") {
            scale.opening(effort)?;
        }
        if wanted("opening and closing cached files") {
            scale.closing(effort)?;
        }
        if wanted("random reads of many cached files") {
            scale.reading(effort)?;
        }
        if wanted("misses") {
            scale.missing_blocks(effort)?;
        }
        if wanted("threads") {
            scale.threads(effort)?;
        }
        if scale.curves.is_empty() && scale.figures.is_empty() && scale.skipped.is_empty() {
            return Err("nothing to measure: no part of that name".to_owned());
        }
        Ok(scale)
    }

    fn beside_files(&mut self, effort: Effort) -> Result<(), String> {
        let numbers: &[usize] = effort.of(&[0, 10, 100], &[0, 100, 3_000], &[0, 100, 300, 1_000, 3_000]);
        let times = ranges::beside_cached_files(numbers, effort.of(1, 6, 11))?;
        self.bounded(
            Curve::new("fault_in, resident, beside mapped cached files", numbers, &times)
                .in_plot("fault_in of a resident page beside other mappings", "mapped files, or registered ranges")
                .flat()
                .within(60.0),
        );
        Ok(())
    }

    fn registry(&mut self, effort: Effort) -> Result<(), String> {
        let numbers: &[usize] =
            effort.of(&[0, 100, 1_000], &[0, 1_000, 100_000], &[0, 1_000, 10_000, 100_000, 1_000_000]);
        let [beside, added, dropped] = ranges::registry(numbers, effort.of(1, 6, 11))?;
        self.bounded(
            Curve::new("fault_in, resident, beside registered ranges", numbers, &beside)
                .in_plot("fault_in of a resident page beside other mappings", "mapped files, or registered ranges")
                .flat()
                .within(60.0),
        );
        for (name, times) in [("registering a range", added), ("dropping a range", dropped)] {
            let curve =
                Curve::new(name, numbers, &times).in_plot("The registry of address ranges", "registered ranges");
            self.curves.push(curve.flat());
        }
        Ok(())
    }

    fn opening(&mut self, effort: Effort) -> Result<(), String> {
        let numbers: &[usize] = effort.of(&[50, 200], &[1_000, 4_000], &[500, 1_000, 2_000, 4_000, 8_000, 16_000]);
        for opened in maps::opening(numbers, effort.of(1, 6, 7), &mut self.skipped)? {
            let curve =
                Curve::new(opened.name, &opened.numbers, &opened.times).in_plot("Opening one more map", "open maps");
            if opened.is_ours {
                self.bounded(curve.flat().within(15_000.0));
            } else {
                self.curves.push(curve);
            }
        }
        Ok(())
    }

    fn closing(&mut self, effort: Effort) -> Result<(), String> {
        let numbers: &[usize] = effort.of(&[100, 1_000], &[1_000, 10_000, 50_000], &[1_000, 10_000, 100_000]);
        let [opened, closed] = files::closing(numbers, effort.of(1, 6, 9))?;
        let curve = |name: &str, times| {
            Curve::new(name, numbers, times).in_plot("Opening and closing many cached files", "files")
        };
        // Opening has no bound of its own: what it builds, closing has to take apart.
        let opened = curve("opening a cached file", &opened);
        let closed = curve("closing a cached file", &closed).flat();
        for (open, close) in opened.points.iter().zip(&closed.points) {
            let name = format!("closing each of {} cached files, relative to opening", open.number);
            self.figures.push(Figure::at_most(name, close.ns.median / open.ns.median, 2.0));
        }
        self.curves.extend([opened, closed]);
        Ok(())
    }

    fn reading(&mut self, effort: Effort) -> Result<(), String> {
        let numbers: &[usize] = effort.of(&[1, 100], &[1, 1_000, 20_000], &[1, 100, 1_000, 5_000, 20_000]);
        let times = files::random_reads(numbers, effort.of(2_000, 50_000, 100_000), effort.of(1, 6, 9))?;
        for (index, &number) in numbers.iter().enumerate().skip(1) {
            let ratios: Vec<f64> = times.iter().map(|round| round[index] / round[0]).collect();
            let ratio = Summary::of(&ratios);
            let name = format!("random read of one of {number} files, relative to one file");
            self.figures.push(Figure::at_most(name, ratio.median, 1.3).with_interval(ratio.interval));
        }
        let curve = Curve::new("random read of 4 KiB beyond the limit", numbers, &times)
            .in_plot("Random reads beyond the limit of the cache", "files that share the cache")
            .flat();
        let one = curve.points.first().map_or(0.0, |point| point.ns.median);
        self.curves.push(curve.within(1.3 * one));
        Ok(())
    }

    fn missing_blocks(&mut self, effort: Effort) -> Result<(), String> {
        self.misses = misses::measure(effort.of(20_000, 1_000_000, 1_000_000))?;
        for row in self.misses.iter().filter(|row| row.is_bounded) {
            self.figures.push(Figure::at_most(format!("misses, {} (at most SIEVE's)", row.trace), row.ours, row.sieve));
        }
        Ok(())
    }

    fn threads(&mut self, effort: Effort) -> Result<(), String> {
        let mut bench = Bench::new("threads", effort.of(None, Some(11), Some(21)), effort == Effort::Quick, None);
        let outcome = threads::run(&mut bench);
        bench.finish();
        outcome?;
        for goal in &bench.goals {
            let figure = Figure::at_most(goal.goal.as_str(), goal.figure, goal.bound).informs();
            self.figures.push(match goal.interval {
                Some(interval) => figure.with_interval(interval),
                None => figure,
            });
        }
        self.threads.append(&mut bench.rows);
        self.skipped.append(&mut bench.skipped);
        self.missing.append(&mut bench.missing);
        Ok(())
    }

    /// Adds a curve with a limit: its slowest point becomes a figure, which is information.
    fn bounded(&mut self, curve: Curve) {
        if let Some(limit) = curve.limit {
            let name = format!("{}, ns at any number", curve.name);
            self.figures.push(Figure::at_most(name, curve.slowest(), limit).informs());
        }
        self.curves.push(curve);
    }

    /// Returns the curves that should be flat and are not, and the other failures, in words.
    pub fn failures(&self) -> Vec<String> {
        let curves = self.curves.iter().filter_map(Curve::failure);
        let figures = self.figures.iter().filter_map(Figure::failure);
        curves.chain(figures).collect()
    }

    /// Returns the results as tables, and below them what was skipped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.curves.is_empty() {
            let mut table = report::plain(["operation", "number: median ns", "exponent", "95 % interval", "bound", ""]);
            for curve in &self.curves {
                let points: Vec<_> =
                    curve.points.iter().map(|point| format!("{}: {:.0}", point.number, point.ns.median)).collect();
                let [exponent, interval] = match curve.exponent {
                    Some(fit) => {
                        [format!("{:.2}", fit.median), format!("{:.2} - {:.2}", fit.interval[0], fit.interval[1])]
                    }
                    None => ["-".to_owned(), "-".to_owned()],
                };
                let bound = curve.bound.map_or("-".to_owned(), |bound| format!("≤ {bound:.2}"));
                let verdict = match (curve.bound, curve.failure()) {
                    (None, _) => "-",
                    (_, None) => "flat",
                    (_, Some(_)) => "grows (fails)",
                };
                table.add_row([curve.name.as_str(), &points.join("  "), &exponent, &interval, &bound, verdict]);
            }
            text += &format!("{table}\n\n");
        }
        if !self.misses.is_empty() {
            text += &format!("{}\n\n", misses::table(&self.misses));
        }
        if !self.threads.is_empty() {
            text += &format!("{}\n\n", report::table(&self.threads));
        }
        let mut figures = report::plain(["figure", "value", "95 % interval", "bound", ""]);
        for figure in &self.figures {
            let interval =
                figure.interval.map_or("-".to_owned(), |[low, high]| format!("{} - {}", number(low), number(high)));
            figures.add_row([&figure.name, &number(figure.value), &interval, &figure.limit(), figure.verdict()]);
        }
        text += &format!("{figures}\n");
        text += &self.skipped.iter().map(|what| format!("skipped: {what}\n")).collect::<String>();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_figure_that_failed() {
        let mut scale = Scale::default();
        let times = |time: fn(f64) -> f64| vec![vec![time(100.0), time(1_000.0)]];
        let curve = |name: &str, time: fn(f64) -> f64| Curve::new(name, &[100, 1_000], &times(time));
        scale.bounded(curve("flat", |n| 50.0 + n / 1_000.0).flat().within(10.0));
        scale.bounded(curve("steep", |n| 50.0 + n / 10.0).flat());
        scale.bounded(curve("a peer's", |n| n));
        scale.figures.push(Figure::at_most("a ratio", 1.4, 1.3));
        scale.figures.push(Figure::at_most("a time", 61.0, 60.0).informs());
        let failures = scale.failures();
        assert!(
            matches!(&failures[..], [one, two] if one.starts_with("steep: ") && two.starts_with("a ratio: ")),
            "{failures:?}"
        );
        let text = scale.text();
        assert!(text.contains("grows (fails)") && text.contains("missed (fails)"), "{text}");
    }
}
