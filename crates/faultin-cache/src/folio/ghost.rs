//! The positions of recently evicted folios: some bits of each position's hash, and the time of the eviction.

#![forbid(unsafe_code)]

/// Number of entries in each set of the table. A new entry replaces the oldest one of its set.
const WAYS: usize = 4;

/// A set of bounded size that drops old entries. It takes 8 bytes per folio of the cache, whose number is rounded up to
/// a power of two.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    sets: Box<[[Place; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Some bits of the hash; 0 for an empty entry.
    print: u32,
    /// The time of the eviction.
    when: u32,
}

/// Returns the bits of a hash that an entry keeps; never 0.
fn kept(print: u64) -> u32 {
    (print >> 32) as u32 | 1
}

impl Ghost {
    fn set(&mut self, print: u64) -> Option<&mut [Place; WAYS]> {
        let count = self.sets.len();
        (count > 0).then(|| &mut self.sets[print as usize & (count - 1)])
    }

    /// Adds the position with this hash at the time `now`. `folios` is the number of folios of the cache, which
    /// determines the size.
    pub(super) fn put(&mut self, print: u64, now: u32, folios: usize) {
        // A larger table starts empty. That happens once each time that the cache has doubled.
        if WAYS * self.sets.len() < folios.max(1) {
            let sets = folios.next_power_of_two().div_ceil(WAYS);
            self.sets = vec![[Place::default(); WAYS]; sets].into_boxed_slice();
        }
        let Some(set) = self.set(print) else { return };
        let age = |place: &Place| if place.print == 0 { u64::MAX } else { u64::from(now.wrapping_sub(place.when)) };
        if let Some(oldest) = set.iter_mut().max_by_key(|place| age(place)) {
            *oldest = Place { print: kept(print), when: now };
        }
    }

    /// Removes the position with this hash. Returns whether it was there and is younger than `most`.
    pub(super) fn take(&mut self, print: u64, now: u32, most: u32) -> bool {
        let Some(set) = self.set(print) else { return false };
        let Some(place) = set.iter_mut().find(|place| place.print == kept(print)) else { return false };
        place.print = 0;
        now.wrapping_sub(place.when) < most
    }
}
