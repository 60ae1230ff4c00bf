//! [`Curve`]: the time of an operation by a number, and the exponent of the power that fits it.
//!
//! A cost that does not depend on the number has the exponent 0, a list that is searched tends to 1. All numbers of a curve
//! are measured in each *round*, so that other load meets all of them. A round has an exponent: the slope of a straight line
//! through the logarithms, by least squares. The exponent of the curve is the median of the rounds', with the interval that
//! contains that median with 95 % confidence.

use serde::Serialize;

use crate::stats::Summary;

/// The largest exponent of a curve that counts as flat.
pub const FLAT: f64 = 0.1;

/// The time of an operation by a number.
#[derive(Clone, Serialize)]
pub struct Curve {
    /// The title of the plot that it is in, and the meaning of the numbers.
    pub plot: &'static str,
    pub counted: &'static str,
    pub name: String,
    /// The times, in ascending order of the numbers.
    pub points: Vec<Point>,
    /// The fitted exponent; `None` with fewer than two numbers above 0.
    pub exponent: Option<Summary>,
    /// The largest exponent that is accepted; `None` for a peer.
    pub bound: Option<f64>,
    /// The largest time that is accepted, in nanoseconds, if there is one.
    pub limit: Option<f64>,
}

/// The time at one number.
#[derive(Clone, Copy, Serialize)]
pub struct Point {
    pub number: usize,
    /// Nanoseconds of one operation.
    pub ns: Summary,
}

impl Curve {
    /// Makes a curve of the rounds' times: `times[round][index]` is the one at `numbers[index]`, in nanoseconds.
    pub fn new(name: &str, numbers: &[usize], times: &[Vec<f64>]) -> Curve {
        let points = numbers.iter().enumerate().map(|(index, &number)| {
            let times: Vec<f64> = times.iter().map(|round| round[index]).collect();
            Point { number, ns: Summary::of(&times) }
        });
        let exponents: Vec<f64> = times.iter().filter_map(|round| exponent(numbers, round)).collect();
        let exponent = (!exponents.is_empty()).then(|| Summary::of(&exponents));
        let (name, points) = (name.to_owned(), points.collect());
        Curve { plot: "", counted: "", name, points, exponent, bound: None, limit: None }
    }

    /// Requires the curve to be flat.
    pub fn flat(self) -> Curve {
        Curve { bound: Some(FLAT), ..self }
    }

    /// Sets the title of the plot, and the meaning of the numbers.
    pub fn in_plot(self, plot: &'static str, counted: &'static str) -> Curve {
        Curve { plot, counted, ..self }
    }

    /// Sets the largest accepted time in nanoseconds.
    pub fn within(self, limit: f64) -> Curve {
        Curve { limit: Some(limit), ..self }
    }

    /// Returns the largest of the medians, in nanoseconds.
    pub fn slowest(&self) -> f64 {
        self.points.iter().map(|point| point.ns.median).fold(0.0, f64::max)
    }

    /// Returns what is wrong with the curve, if it should be flat and is not.
    pub fn failure(&self) -> Option<String> {
        let (exponent, bound) = (self.exponent?, self.bound?);
        let [low, high] = exponent.interval;
        (exponent.median > bound).then(|| {
            format!(
                "{}: grows with the power {:.2} ({low:.2} to {high:.2}), at most {bound} is flat",
                self.name, exponent.median
            )
        })
    }
}

/// Returns the exponent of the power that fits the times at the numbers above 0 best.
fn exponent(numbers: &[usize], times: &[f64]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = numbers
        .iter()
        .zip(times)
        .filter(|(number, time)| **number > 0 && **time > 0.0)
        .map(|(&number, time)| ((number as f64).ln(), time.ln()))
        .collect();
    let count = logs.len() as f64;
    let (mean_x, mean_y) =
        (logs.iter().map(|p| p.0).sum::<f64>() / count, logs.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [usize; 4] = [0, 100, 1_000, 10_000];

    fn curve(rounds: &[fn(f64) -> f64]) -> Curve {
        let times: Vec<Vec<f64>> =
            rounds.iter().map(|time| NUMBERS.iter().map(|&number| time(number as f64)).collect()).collect();
        Curve::new("a curve", &NUMBERS, &times).flat()
    }

    #[test]
    fn exponents_are_those_of_the_powers() {
        for (power, time) in [(0.0, (|_| 50.0) as fn(f64) -> f64), (1.0, |n| 3.0 * n), (0.5, f64::sqrt)] {
            let fitted = curve(&[time]).exponent.unwrap().median;
            assert!((fitted - power).abs() < 1e-9, "{fitted} for {power}");
        }
    }

    #[test]
    fn a_steep_curve_fails_and_a_flat_one_does_not() {
        let flat = curve(&[|n| 50.0 + n / 1_000.0]);
        assert_eq!(flat.failure(), None);
        let steep = curve(&[|n| 50.0 + n / 10.0]);
        assert!(steep.failure().is_some_and(|why| why.starts_with("a curve: grows")), "{:?}", steep.failure());
        let peer = Curve { bound: None, ..steep };
        assert_eq!(peer.failure(), None);
    }

    #[test]
    fn a_disturbed_round_does_not_decide() {
        let rounds: [fn(f64) -> f64; 5] = [|_| 50.0, |_| 51.0, |n| 50.0 + n, |_| 49.0, |_| 50.0];
        assert_eq!(curve(&rounds).failure(), None);
        assert!((curve(&rounds).slowest() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn one_number_has_no_exponent() {
        let curve = Curve::new("a curve", &[0, 7], &[vec![1.0, 2.0]]).flat();
        assert!(curve.exponent.is_none() && curve.failure().is_none());
    }
}
