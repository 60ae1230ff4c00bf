//! Mappings that are kept so that the handler can unmap them: the room that it needs exists beforehand.
//!
//! A process may have about `vm.max_map_count` mappings. Substituting a part of one splits it, which adds up to two; and
//! once a process has reached the limit, the kernel rejects every `mmap`, even one that adds none. So each scan sets aside
//! [`UNITS`] *units* before it begins, ranges of three mappings that nothing else uses. The handler unmaps one when the
//! kernel reports too many mappings, and tries again. A scan for which no unit can be set aside does not begin: its caller
//! reads a copy.
//!
//! Units do not belong to a scan: a handler takes any of them. They are kept for the next scan, and units that handlers
//! have unmapped are replaced when the next scan begins.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::slots::{Blank, Slot, Slots};
use crate::arch::context::syscall6;
use crate::page_size;

/// Number of units for each scan: one for a part of what it reads, and one for the whole, after which nothing of it faults.
const UNITS: usize = 2;

/// Number of pages of a unit, each a separate mapping.
const PAGES: usize = 3;

/// The units of a process, and the number of scans they are for.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Reserve {
    scans: AtomicUsize,
    /// Number of mapped units.
    mapped: AtomicUsize,
    places: Slots<Place>,
}

/// A place for a unit.
#[derive(Debug)]
#[repr(C)]
struct Place {
    /// Address of the unit; 0 for none. A thread that swaps it out owns the unit.
    unit: AtomicUsize,
    len: AtomicUsize,
}

// SAFETY: atomic variables, for which all zeros is a value: no unit.
unsafe impl Blank for Place {}

impl Reserve {
    pub(crate) const fn new() -> Self {
        Reserve { scans: AtomicUsize::new(0), mapped: AtomicUsize::new(0), places: Slots::new() }
    }

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

    /// Unmaps a unit, so that there is room for other mappings. Returns whether there was one. Async-signal-safe.
    pub(crate) fn give_up_one(&self) -> bool {
        let Some((unit, len)) = self.take() else { return false };
        // SAFETY: a unit that `take` has given this thread.
        unsafe { syscall6(libc::SYS_munmap, [unit, len, 0, 0, 0, 0]) };
        true
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

    fn take(&self) -> Option<(usize, usize)> {
        let taken = |place: &'static Slot<Place>| match place.unit.swap(0, Ordering::Acquire) {
            0 => None,
            unit => Some((unit, place.len.load(Ordering::Relaxed))),
        };
        let taken = self.places.all().find_map(taken)?;
        self.mapped.fetch_sub(1, Ordering::Relaxed);
        Some(taken)
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

/// Maps read-only zeros in place of the current mapping. Async-signal-safe.
///
/// # Errors
/// The kernel's error number.
///
/// # Safety
/// The range is a part of a mapping of the caller.
pub(super) unsafe fn put_zeros(start: usize, len: usize) -> Result<(), i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let arguments = [start, len, libc::PROT_READ as usize, flags as usize, usize::MAX, 0];
    // SAFETY: the caller's contract.
    match unsafe { syscall6(libc::SYS_mmap, arguments) } {
        result if result == start as isize => Ok(()),
        error => Err(i32::try_from(-error).unwrap_or(libc::EINVAL)),
    }
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
