//! [`Axis`]: values on a line of pixels.

/// A logarithmic or linear axis.
#[derive(Clone, Copy)]
pub struct Axis {
    /// The values at the ends.
    values: [f64; 2],
    /// The pixels of the ends.
    pixels: [f64; 2],
    is_log: bool,
}

/// A position with a name.
pub struct Tick {
    pub at: f64,
    pub value: f64,
    /// Whether it is a power of ten, or has a label for another reason.
    pub is_major: bool,
}

impl Axis {
    /// Makes a logarithmic axis for positive values: whole decades, at least one.
    pub fn log(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Axis {
        let [low, high] = ends(values.filter(|value| *value > 0.0));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let first = (low.log10() + 1e-9).floor();
        let last = (high.log10() - 1e-9).ceil().max(first + 1.0);
        Axis { values: [10_f64.powf(first), 10_f64.powf(last)], pixels, is_log: true }
    }

    /// Makes a linear axis from 0 to 1.
    pub fn share(pixels: [f64; 2]) -> Axis {
        Axis { values: [0.0, 1.0], pixels, is_log: false }
    }

    /// Returns the pixel of a value; of one outside, that of the nearer end.
    pub fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_log { value.log10() } else { value };
        let [low, high] = self.values.map(scale);
        let [from, to] = self.pixels;
        let part = (scale(value.clamp(self.values[0], self.values[1])) - low) / (high - low);
        rounded(from + part * (to - from))
    }

    /// Returns the positions of grid lines.
    pub fn ticks(&self) -> Vec<Tick> {
        let tick = |value: f64, is_major| Tick { at: self.at(value), value, is_major };
        if !self.is_log {
            return (0..=10).map(|tenth| tick(f64::from(tenth) / 10.0, tenth % 2 == 0)).collect();
        }
        let [low, high] = self.values.map(|value| value.log10().round() as i32);
        // Of few decades, 2 and 5 have labels, too.
        let few = high - low <= 2;
        let mut ticks = Vec::new();
        for power in low..=high {
            let decade = 10_f64.powi(power);
            ticks.push(tick(decade, true));
            if power < high {
                ticks.extend([2.0, 5.0].map(|step| tick(step * decade, few)));
            }
        }
        ticks
    }
}

fn ends(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)])
}

/// Rounds to a tenth of a pixel: shorter files, and the same ones from the same numbers.
pub fn rounded(pixel: f64) -> f64 {
    (pixel * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_whole_decades() {
        let axis = Axis::log([30.0, 60.0].into_iter(), [0.0, 100.0]);
        assert_eq!((axis.at(10.0), axis.at(100.0)), (0.0, 100.0));
        assert_eq!(axis.at(1_000.0), 100.0, "outside");
        let majors = axis.ticks().iter().filter(|tick| tick.is_major).count();
        assert_eq!(majors, 4, "10, 20, 50, 100");
        let axis = Axis::log([1.0, 1_000.0].into_iter(), [100.0, 0.0]);
        assert_eq!((axis.at(1.0), axis.at(1_000.0)), (100.0, 0.0));
    }

    #[test]
    fn an_axis_of_nothing_is_an_axis() {
        let axis = Axis::log(std::iter::empty(), [0.0, 10.0]);
        assert!(axis.at(5.0) > 0.0 && axis.ticks().len() > 1);
    }
}
