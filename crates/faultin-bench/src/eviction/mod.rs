//! What the cache evicts, and what that costs: miss ratios beside simulated policies and a published cache, and the time of
//! operations by the number of files.

mod files;
mod ratios;

use serde::Serialize;

use super::report;

/// One number beside its bound.
#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    bound: Option<f64>,
}

impl Figure {
    fn is_missed(&self) -> bool {
        self.bound.is_some_and(|bound| self.value > bound)
    }
}

/// The results.
#[derive(Serialize)]
pub struct Eviction {
    ratios: Vec<ratios::Row>,
    figures: Vec<Figure>,
}

impl Eviction {
    /// Measures everything; with `quick` at small numbers.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn measure(quick: bool) -> Result<Eviction, String> {
        let ratios = ratios::measure(if quick { 20_000 } else { 1_000_000 })?;
        let mut figures = Vec::new();
        for row in ratios.iter().filter(|row| row.is_bounded) {
            let name = format!("misses, {} (at most SIEVE's)", row.trace);
            figures.push(Figure { name, value: row.ours, bound: Some(row.sieve) });
        }
        files::closing(if quick { &[100, 1_000] } else { &[1_000, 10_000, 100_000] }, &mut figures)?;
        let numbers: &[usize] = if quick { &[1, 100] } else { &[1, 100, 1_000, 20_000] };
        files::random_reads(numbers, if quick { 2_000 } else { 200_000 }, &mut figures)?;
        Ok(Eviction { ratios, figures })
    }

    /// Returns the figures that miss their bound, in words.
    pub fn failures(&self) -> Vec<String> {
        let missed = self.figures.iter().filter(|figure| figure.is_missed());
        missed
            .map(|figure| format!("{}: {:.4}, bound {:.4}", figure.name, figure.value, figure.bound.unwrap_or(0.0)))
            .collect()
    }

    /// Returns the results as tables.
    pub fn text(&self) -> String {
        let mut ratios = report::plain(["share of misses", "ours", "LRU", "SIEVE", "S3-FIFO", "quick_cache"]);
        for row in &self.ratios {
            let [ours, lru, sieve, s3, quick] =
                [row.ours, row.lru, row.sieve, row.s3_fifo, row.quick_cache].map(|ratio| format!("{ratio:.3}"));
            ratios.add_row([row.trace, &ours, &lru, &sieve, &s3, &quick]);
        }
        let mut figures = report::plain(["figure", "value", "bound", "met"]);
        for figure in &self.figures {
            let bound = figure.bound.map_or("-".to_owned(), |bound| format!("{bound:.3}"));
            let met = if figure.bound.is_none() {
                "-"
            } else if figure.is_missed() {
                "no"
            } else {
                "yes"
            };
            figures.add_row([&figure.name, &format!("{:.3}", figure.value), &bound, met]);
        }
        format!("{ratios}\n\n{figures}\n")
    }
}
