//! The arithmetic of rounds: a median, and its confidence interval.

use serde::Serialize;

/// The median of values and its confidence interval (95 %); see [`interval_ranks`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub interval: [f64; 2],
}

impl Summary {
    /// Summarizes values, of which there is at least one.
    pub fn of(values: &[f64]) -> Summary {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = interval_ranks(sorted.len());
        Summary { median: median(&sorted), interval: [sorted[low], sorted[high]] }
    }
}

/// Returns the middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the ranks (from 0) of the sorted values between which the median is with at least 95 % probability.
pub fn interval_ranks(n: usize) -> (usize, usize) {
    // Whether a value is below the true median is a coin toss: the rank of the median is binomial.
    let mut term = 0.5_f64.powi(n as i32);
    let mut tail = 0.0;
    let mut low = 0;
    for k in 0..n / 2 {
        tail += term;
        if 2.0 * tail > 0.05 {
            break;
        }
        low = k;
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    (low, n - 1 - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_is_the_tabled_one() {
        // Ranks from 1 of the tables for 95 %: n = 6: 1 and 6; 9: 2 and 8; 11: 2 and 10; 21: 6 and 16; 25: 8 and 18.
        for (n, low, high) in [(3, 1, 3), (6, 1, 6), (9, 2, 8), (11, 2, 10), (21, 6, 16), (25, 8, 18)] {
            assert_eq!(interval_ranks(n), (low - 1, high - 1), "{n} rounds");
        }
    }
}
