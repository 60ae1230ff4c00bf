//! What was read straight not long ago.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::folio::Table;

/// Minimum number of bytes that are read straight into a buffer: less is cheap to copy twice, and as expensive to fetch as
/// more. (The files of this crate's own tests are small.)
pub(super) const STRAIGHT: u64 = if cfg!(test) { 6 << 10 } else { 64 << 10 };

/// The unit of [`Recent`] in bytes.
const UNIT: u64 = STRAIGHT.next_power_of_two();

/// The parts of files that were read straight, not long ago: for each a hash and the time. Two parts may share a place: then
/// the older one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    places: OnceLock<Box<[AtomicU64]>>,
    /// The number of units that were read straight.
    clock: AtomicU64,
}

impl Recent {
    /// Notes parts, and returns whether most of them had been noted since half of the limit was read.
    pub(super) fn has_most(&self, table: &Table, parts: &[Range<u64>], limit: usize) -> bool {
        let count = (limit as u64 / UNIT).next_power_of_two().clamp(64, 1 << 16) as usize;
        let places = self.places.get_or_init(|| (0..count).map(|_| AtomicU64::new(0)).collect());
        let (mut known, mut all) = (0, 0);
        for part in parts {
            for unit in part.start / UNIT..part.end.div_ceil(UNIT) {
                let print = table.print(unit * UNIT);
                let now = self.clock.fetch_add(1, Relaxed) as u32;
                let place = &places[print as usize & (places.len() - 1)];
                // Half of each: bits of the hash that did not choose the place, and the time.
                let kept = (print >> 32 | 1) << 32;
                let before = place.load(Relaxed);
                place.store(kept | u64::from(now), Relaxed);
                let is_same = before >> 32 == kept >> 32;
                known += u64::from(is_same && u64::from(now.wrapping_sub(before as u32)) < limit as u64 / 2 / UNIT);
                all += 1;
            }
        }
        2 * known > all
    }
}
