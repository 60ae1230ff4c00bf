//! Setting mappings aside for handlers.

use core::sync::atomic::Ordering;

use crate::arch::context::syscall6;
use crate::page_size;
use crate::signal::inside::reserve::{Place, Reserve, put_zeros};
use crate::signal::inside::slots::Slot;

/// Number of units for each scan: one for a part of what it reads, and one for the whole, after which nothing of it faults.
const UNITS: usize = 2;

/// Number of pages of a unit, each a separate mapping.
const PAGES: usize = 3;

impl Reserve {
    /// Sets aside what a scan may need. Returns whether that is available; if so, [`leave`](Self::leave) follows.
    pub(crate) fn enter(&self) -> bool {
        let wanted = (self.scans.fetch_add(1, Ordering::Relaxed) + 1) * UNITS;
        // A unit may be taken before it is counted.
        while self.mapped.load(Ordering::Acquire).cast_signed() < wanted.cast_signed() {
            let len = PAGES * page_size();
            match map(len) {
                Some(unit) => self.keep(unit, len),
                None => {
                    self.leave();
                    return false;
                }
            }
        }
        true
    }

    /// Records that a scan has ended.
    pub(crate) fn leave(&self) {
        self.scans.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether the kernel does what the handler would request, except when there are too many mappings: a filter of
    /// system calls may have been installed since the units were mapped.
    pub(crate) fn may_substitute(&self) -> bool {
        let Some((unit, len)) = self.take() else { return false };
        // SAFETY: the middle of a unit that `take` has given this thread.
        let result = unsafe { put_zeros(unit + len / PAGES, len / PAGES) };
        self.keep(unit, len);
        matches!(result, Ok(()) | Err(libc::ENOMEM))
    }

    fn keep(&self, unit: usize, len: usize) {
        self.put(unit, len);
        self.mapped.fetch_add(1, Ordering::Release);
    }

    /// Puts a unit into a place from which it can be taken. Does not count it.
    fn put(&self, unit: usize, len: usize) {
        // All units have the same length, so writing it to a place that already has it changes nothing.
        let free = |place: &'static Slot<Place>| {
            place.len.store(len, Ordering::Relaxed);
            place.unit.compare_exchange(0, unit, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        if !self.places.all().any(free) {
            // No place is ever given back, so this is a new one.
            let place = self.places.take(0);
            place.len.store(len, Ordering::Relaxed);
            place.unit.store(unit, Ordering::Release);
        }
    }
}

/// Maps a unit: a page of zeros between two that belong to a shared mapping of its own, which the kernel therefore merges
/// with no other mapping. So it can be unmapped without a split, which makes room for three mappings.
fn map(len: usize) -> Option<usize> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let arguments = [0, len, libc::PROT_NONE as usize, flags as usize, usize::MAX, 0];
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let unit = usize::try_from(unsafe { syscall6(libc::SYS_mmap, arguments) }).ok()?;
    // SAFETY: the middle of what has just been mapped.
    if unsafe { put_zeros(unit + len / PAGES, len / PAGES) }.is_err() {
        // SAFETY: what has just been mapped.
        unsafe { syscall6(libc::SYS_munmap, [unit, len, 0, 0, 0, 0]) };
        return None;
    }
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of units is below zero then.
    #[test]
    fn a_unit_that_is_taken_before_it_is_counted_is_not_taken_for_many() {
        let reserve = Reserve::new();
        let len = PAGES * page_size();
        // One thread is within `keep` while a handler in another unmaps the unit, and a scan begins.
        reserve.put(map(len).unwrap(), len);
        assert!(reserve.give_up_one());
        assert!(reserve.enter());
        for unit in 0..UNITS {
            assert!(reserve.give_up_one(), "{unit} units were set aside");
        }
    }
}
