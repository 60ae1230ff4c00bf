//! [`Residency`]: which bytes of a range are in memory.

use core::iter;
use core::ops::Range;

/// The bytes of a range of a file that are in memory: the answer of `resident` of a map, and of a cached file.
///
/// It is a snapshot: a byte may be evicted, or brought in, before the answer is looked at. So it is for decisions (what to
/// prefetch, what to leave to another thread), and not a promise that an access does not wait: `try_read_at` is one.
///
/// ```
/// use faultin::Residency;
///
/// let mut found = Residency::new(100..1_000);
/// found.add(0..200);
/// found.add(200..300);
/// found.add(900..5_000);
/// assert_eq!(found.runs(), [100..300, 900..1_000]);
/// assert_eq!((found.bytes(), found.is_whole()), (300, false));
/// assert_eq!(found.missing().collect::<Vec<_>>(), [300..900]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    range: Range<u64>,
    runs: Vec<Range<u64>>,
}

impl Residency {
    /// Makes an answer about `range` of which nothing is in memory.
    pub fn new(range: Range<u64>) -> Self {
        let range = range.start..range.end.max(range.start);
        Residency { range, runs: Vec::new() }
    }

    /// Adds a run of bytes that are in memory, which begins at or after the end of the last one. What is outside of the range is
    /// left out, and so is what was added before.
    pub fn add(&mut self, run: Range<u64>) {
        let least = self.runs.last().map_or(self.range.start, |last| last.end);
        let run = run.start.max(least)..run.end.min(self.range.end);
        if run.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// Returns the range that was asked about, as far as the file has it, in bytes.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Returns the parts of the range that are in memory, in ascending order, with a gap between any two.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Returns the parts of the range that are not in memory, in ascending order.
    pub fn missing(&self) -> impl Iterator<Item = Range<u64>> {
        let ends = iter::once(self.range.start).chain(self.runs.iter().map(|run| run.end));
        let starts = self.runs.iter().map(|run| run.start).chain(iter::once(self.range.end));
        ends.zip(starts).map(|(end, start)| end..start).filter(|gap| !gap.is_empty())
    }

    /// Returns the number of bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Returns whether all of the range is in memory.
    pub fn is_whole(&self) -> bool {
        self.bytes() == self.range.end - self.range.start
    }
}
