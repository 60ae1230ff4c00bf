//! The parts of a lock's bytes that threads have for themselves: [`Regions`].

use core::ops::Range;

use crate::sync::{self, AtomicU32, OnceLock, Ordering, REGIONS};

/// Size of a region in bytes, as a power of two.
const BITS: u32 = 14;

/// Maximum number of regions of one range.
const MOST: u64 = 16;

/// Which regions are taken. Regions whose numbers are equal modulo [`REGIONS`] are one. Each is in a line of its own, or two
/// that are fetched together. They are made when they are first needed, and stay.
#[derive(Debug, Default)]
pub(crate) struct Regions(OnceLock<Box<[Region]>>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Region(AtomicU32);

impl Regions {
    pub(crate) const fn new() -> Regions {
        Regions(OnceLock::new())
    }

    // Outside signals: it allocates.
    /// Makes them.
    pub(crate) fn make(&self) {
        self.0.get_or_init(|| (0..REGIONS).map(|_| Region::default()).collect());
    }

    fn all(&self) -> &[Region] {
        self.0.get().map_or(&[], |all| all)
    }

    /// Takes the regions of a range, unless one is taken or they are too many. What the thread does afterwards is after that
    /// for all threads. Returns the set of their numbers, for [`give_back`](Self::give_back).
    #[inline]
    pub(crate) fn take(&self, range: &Range<u64>) -> Option<u64> {
        let (first, last) = (range.start >> BITS, range.end.checked_sub(1)? >> BITS);
        let all = self.all();
        if range.is_empty() || last - first >= MOST || all.is_empty() {
            return None;
        }
        let mut taken = 0;
        for number in first..=last {
            let at = number as usize % REGIONS;
            if taken & 1 << at != 0 {
                continue;
            }
            if !sync::take(&all[at].0) {
                self.give_back(taken);
                return None;
            }
            taken |= 1 << at;
        }
        Some(taken)
    }

    /// Gives regions back, before all that the thread does afterwards.
    #[inline]
    pub(crate) fn give_back(&self, mut taken: u64) {
        let all = self.all();
        while taken != 0 {
            if let Some(region) = all.get(taken.trailing_zeros() as usize) {
                sync::give_back(&region.0);
            }
            taken &= taken - 1;
        }
    }

    /// Returns whether any is taken. Async-signal-safe.
    pub(crate) fn is_any_taken(&self) -> bool {
        self.all().iter().any(|region| region.0.load(Ordering::Acquire) != 0)
    }
}
