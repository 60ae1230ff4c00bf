//! Mappings that are kept so that the handler can give them up: what it needs in the moment of need is there beforehand.
//!
//! A process may have about `vm.max_map_count` mappings. Substituting a part of one splits it, which makes up to two more;
//! and once a process has reached the limit, the kernel refuses every `mmap`, also one that makes none. So each scan has
//! [`UNITS`] *units* set aside before it begins, ranges of three mappings that nothing else uses. The handler unmaps one
//! when the kernel refuses for want of room, and asks again. A scan for which nothing can be set aside does not begin:
//! its caller reads a copy.
//!
//! Units belong to no scan: a handler that finds none of its own takes another's. They are kept for the next scan, and
//! what handlers gave up is replaced when the next scan begins.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::arch::context::syscall6;
use crate::page_size;

/// For each scan: one for a part of what it reads, and one for the whole, after which nothing of it faults.
const UNITS: usize = 2;

/// Pages of a unit, each a mapping of its own.
const PAGES: usize = 3;

/// The units of a process, and the number of scans they are for.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Reserve {
    scans: AtomicUsize,
    /// Units that are mapped.
    mapped: AtomicUsize,
    /// Newest first. Only ever grows.
    places: AtomicPtr<Place>,
}

/// A place for a unit.
#[derive(Debug)]
#[repr(C)]
struct Place {
    next: AtomicPtr<Place>,
    /// Where the unit is; 0 for none. A thread that swaps it out owns the unit.
    unit: AtomicUsize,
    len: AtomicUsize,
}

impl Reserve {
    pub(crate) const fn new() -> Self {
        Reserve { scans: AtomicUsize::new(0), mapped: AtomicUsize::new(0), places: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Sets aside what a scan may need. Returns whether it is there; if so, [`leave`](Self::leave) follows.
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

    /// A scan has ended.
    pub(crate) fn leave(&self) {
        self.scans.fetch_sub(1, Ordering::Relaxed);
    }

    /// Unmaps a unit, so that there is room for other mappings. Returns whether there was one. Async-signal-safe.
    pub(crate) fn give_up_one(&self) -> bool {
        let Some((unit, len)) = self.take() else { return false };
        // SAFETY: a unit, which `take` has made this thread's.
        unsafe { syscall6(libc::SYS_munmap, [unit, len, 0, 0, 0, 0]) };
        true
    }

    /// Whether the kernel does what the handler would ask of it, except for want of room: a filter of system calls may
    /// have been installed since the units were mapped.
    pub(crate) fn may_substitute(&self) -> bool {
        let Some((unit, len)) = self.take() else { return false };
        // SAFETY: the middle of a unit, which `take` has made this thread's.
        let result = unsafe { put_zeros(unit + len / PAGES, len / PAGES) };
        self.keep(unit, len);
        matches!(result, Ok(()) | Err(libc::ENOMEM))
    }

    fn take(&self) -> Option<(usize, usize)> {
        let taken = |place: &Place| match place.unit.swap(0, Ordering::Acquire) {
            0 => None,
            unit => Some((unit, place.len.load(Ordering::Relaxed))),
        };
        let taken = self.places().find_map(taken)?;
        self.mapped.fetch_sub(1, Ordering::Relaxed);
        Some(taken)
    }

    fn keep(&self, unit: usize, len: usize) {
        self.put(unit, len);
        self.mapped.fetch_add(1, Ordering::Release);
    }

    /// Puts a unit where it can be taken. It is not counted.
    fn put(&self, unit: usize, len: usize) {
        // All units are of one length, so it does not matter that this is written to a place that has one.
        let free = |place: &Place| {
            place.len.store(len, Ordering::Relaxed);
            place.unit.compare_exchange(0, unit, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        if !self.places().any(free) {
            let place = Place { next: AtomicPtr::new(ptr::null_mut()), unit: unit.into(), len: len.into() };
            self.add(Box::leak(Box::new(place)));
        }
    }

    fn places(&self) -> impl Iterator<Item = &'static Place> {
        // SAFETY: places are never freed, and complete before they are published.
        let place = |at: *mut Place| unsafe { at.as_ref() };
        core::iter::successors(place(self.places.load(Ordering::Acquire)), move |last| {
            place(last.next.load(Ordering::Relaxed))
        })
    }

    fn add(&self, place: &'static Place) {
        let this = ptr::from_ref(place).cast_mut();
        let mut first = self.places.load(Ordering::Relaxed);
        loop {
            place.next.store(first, Ordering::Relaxed);
            match self.places.compare_exchange_weak(first, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }
}

/// Maps a unit: a page of zeros between two that belong to a shared mapping of its own, which the kernel therefore merges
/// with no other mapping. So it can be unmapped without a split, and that makes room for three.
fn map(len: usize) -> Option<usize> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let arguments = [0, len, libc::PROT_NONE as usize, flags as usize, usize::MAX, 0];
    // SAFETY: a new mapping, wherever the kernel likes.
    let unit = usize::try_from(unsafe { syscall6(libc::SYS_mmap, arguments) }).ok()?;
    // SAFETY: the middle of what has just been mapped.
    if unsafe { put_zeros(unit + len / PAGES, len / PAGES) }.is_err() {
        // SAFETY: what has just been mapped.
        unsafe { syscall6(libc::SYS_munmap, [unit, len, 0, 0, 0, 0]) };
        return None;
    }
    Some(unit)
}

/// Puts zeros that can only be read in the place of whatever is mapped there. Async-signal-safe.
///
/// # Errors
/// The kernel's number.
///
/// # Safety
/// The range is a part of a mapping that is the caller's.
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

    /// The number of units is less than none then.
    #[test]
    fn a_unit_that_is_taken_before_it_is_counted_is_not_taken_for_many() {
        let reserve = Reserve::new();
        let len = PAGES * page_size();
        // One thread is within `keep` while a handler in another gives the unit up, and a scan begins.
        reserve.put(map(len).unwrap(), len);
        assert!(reserve.give_up_one());
        assert!(reserve.enter());
        for unit in 0..UNITS {
            assert!(reserve.give_up_one(), "{unit} units were set aside");
        }
    }
}
