//! [`Figure`]: one number beside its bound.

use serde::Serialize;

/// One number beside its bound.
#[derive(Clone, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    /// The confidence interval (95 %) of the value, if it is a median.
    pub interval: Option<[f64; 2]>,
    pub bound: f64,
    /// Whether the bound is the least accepted value, and not the largest.
    pub is_least: bool,
    /// Whether a miss is a failure. A time is information: it depends on the machine.
    pub decides: bool,
}

impl Figure {
    /// A number that does not depend on the speed of the machine: above `bound` it is a failure.
    pub fn at_most(name: impl Into<String>, value: f64, bound: f64) -> Figure {
        Figure { name: name.into(), value, interval: None, bound, is_least: false, decides: true }
    }

    /// Makes a miss information, not a failure.
    pub fn informs(self) -> Figure {
        Figure { decides: false, ..self }
    }

    /// Adds the confidence interval of the value.
    pub fn with_interval(self, interval: [f64; 2]) -> Figure {
        Figure { interval: Some(interval), ..self }
    }

    pub fn is_missed(&self) -> bool {
        if self.is_least { self.value < self.bound } else { self.value > self.bound }
    }

    /// Returns the bound in words.
    pub fn limit(&self) -> String {
        format!("{} {}", if self.is_least { "≥" } else { "≤" }, number(self.bound))
    }

    /// Returns `met`, `missed`, or `missed (fails)`.
    pub fn verdict(&self) -> &'static str {
        match (self.is_missed(), self.decides) {
            (false, _) => "met",
            (true, false) => "missed",
            (true, true) => "missed (fails)",
        }
    }

    /// Returns what is wrong, if a miss of this figure is a failure.
    pub fn failure(&self) -> Option<String> {
        (self.decides && self.is_missed())
            .then(|| format!("{}: {}, bound {}", self.name, number(self.value), self.limit()))
    }
}

/// Writes a number with three or four digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.3}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_miss_that_decides_is_a_failure() {
        for (value, is_least, decides, verdict, fails) in [
            (1.0, false, true, "met", false),
            (2.1, false, true, "missed (fails)", true),
            (2.1, false, false, "missed", false),
            (2.1, true, true, "met", false),
            (1.9, true, true, "missed (fails)", true),
        ] {
            let figure = Figure { is_least, decides, ..Figure::at_most("a figure", value, 2.0) };
            assert_eq!(
                (figure.verdict(), figure.failure().is_some()),
                (verdict, fails),
                "{value} {is_least} {decides}"
            );
        }
    }
}
