//! Mappings that are kept so that the handler can unmap them: the room that it needs exists beforehand.
//!
//! A process may have about `vm.max_map_count` mappings. Substituting a part of one splits it, which adds up to two; and
//! once a process has reached the limit, the kernel rejects every `mmap`, even one that adds none. So each scan sets aside
//! two *units* before it begins, ranges of three mappings that nothing else uses. The handler unmaps one when the
//! kernel reports too many mappings, and tries again. A scan for which no unit can be set aside does not begin: its caller
//! reads a copy.
//!
//! Units do not belong to a scan: a handler takes any of them. They are kept for the next scan, and units that handlers
//! have unmapped are replaced when the next scan begins. Setting them aside is [outside](crate::signal::outside::reserve).

use core::sync::atomic::{AtomicUsize, Ordering};

use super::slots::{Blank, Slot, Slots};
use crate::arch::context::syscall6;

/// The units of a process, and the number of scans they are for.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Reserve {
    pub(in crate::signal) scans: AtomicUsize,
    /// Number of mapped units.
    pub(in crate::signal) mapped: AtomicUsize,
    pub(in crate::signal) places: Slots<Place>,
}

/// A place for a unit.
#[derive(Debug)]
#[repr(C)]
pub(in crate::signal) struct Place {
    /// Address of the unit; 0 for none. A thread that swaps it out owns the unit.
    pub(in crate::signal) unit: AtomicUsize,
    pub(in crate::signal) len: AtomicUsize,
}

// SAFETY: atomic variables, for which all zeros is a value: no unit.
unsafe impl Blank for Place {}

impl Reserve {
    pub(crate) const fn new() -> Self {
        Reserve { scans: AtomicUsize::new(0), mapped: AtomicUsize::new(0), places: Slots::new() }
    }

    /// Unmaps a unit, so that there is room for other mappings. Returns whether there was one. Async-signal-safe.
    pub(crate) fn give_up_one(&self) -> bool {
        let Some((unit, len)) = self.take() else { return false };
        // SAFETY: a unit that `take` has given this thread.
        unsafe { syscall6(libc::SYS_munmap, [unit, len, 0, 0, 0, 0]) };
        true
    }

    pub(in crate::signal) fn take(&self) -> Option<(usize, usize)> {
        let taken = |place: &'static Slot<Place>| match place.unit.swap(0, Ordering::Acquire) {
            0 => None,
            unit => Some((unit, place.len.load(Ordering::Relaxed))),
        };
        let taken = self.places.all().find_map(taken)?;
        self.mapped.fetch_sub(1, Ordering::Relaxed);
        Some(taken)
    }
}

/// Maps read-only zeros in place of the current mapping. Async-signal-safe.
///
/// # Errors
/// The kernel's error number.
///
/// # Safety
/// The range is a part of a mapping of the caller.
pub(in crate::signal) unsafe fn put_zeros(start: usize, len: usize) -> Result<(), i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let arguments = [start, len, libc::PROT_READ as usize, flags as usize, usize::MAX, 0];
    // SAFETY: the caller's contract.
    match unsafe { syscall6(libc::SYS_mmap, arguments) } {
        result if result == start as isize => Ok(()),
        error => Err(i32::try_from(-error).unwrap_or(libc::EINVAL)),
    }
}
