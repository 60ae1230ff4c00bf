//! The places of folios that were evicted lately, by hash: a few bits of each, and when.

#![forbid(unsafe_code)]

/// Number of places that share a position in the table. The oldest one is forgotten for a new one.
const WAYS: usize = 4;

/// A set that forgets. It takes eight bytes for each folio that the cache has, to the next power of two.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    sets: Box<[[Place; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// 0 if there is none.
    print: u32,
    when: u32,
}

/// Returns the bits of a hash that are kept.
fn kept(print: u64) -> u32 {
    (print >> 32) as u32 | 1
}

impl Ghost {
    fn set(&mut self, print: u64) -> Option<&mut [Place; WAYS]> {
        let count = self.sets.len();
        (count > 0).then(|| &mut self.sets[print as usize & (count - 1)])
    }

    /// Adds a place, at the time `now`, for a cache of this number of folios.
    pub(super) fn put(&mut self, print: u64, now: u32, folios: usize) {
        // A larger table forgets everything, once each time that the cache has doubled.
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

    /// Takes a place out. Returns whether it was there, and is younger than `most`.
    pub(super) fn take(&mut self, print: u64, now: u32, most: u32) -> bool {
        let Some(set) = self.set(print) else { return false };
        let Some(place) = set.iter_mut().find(|place| place.print == kept(print)) else { return false };
        place.print = 0;
        now.wrapping_sub(place.when) < most
    }
}
