//! **probe**, the *ALL* primitive: proves that every byte can be loaded, or stored, now.
//!
//! For callers that restart from an earlier point than the first uncopied byte: a record boundary, a register frame. One
//! access per [`Granularity`] unit proves the unit. Bytes are not changed, but a store probe performs an atomic
//! read-modify-write in each page: the pages become dirty, copy-on-write is broken, the modification time of a mapped
//! file changes, write-protect faults are raised as by any store.
//!
//! Protection is the page's, so a store probe stores once per page and only reads in between: tags and poison are found
//! by reading.
//!
//! In large ranges at `Page` granularity, where the kernel populates pages faster than they can be touched (huge
//! pages), its answer is taken for all but the first page; see [`fault_in`](crate::fault_in).
//!
//! # Preconditions
//!
//! Those of [`copy`](mod@crate::copy).

use crate::arch;
use crate::copy::TAG_GRANULE;
use crate::fault::Short;
use crate::walk::{self, Touch, page_size};

/// How finely a range is probed: what may differ below it goes unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Granularity {
    /// One access per page: mapping, protection, backing.
    Page,
    /// One load per 64 bytes as well: poison, as the memory controller keeps it.
    Line,
    /// One load per 16 bytes as well: memory tags.
    Tag,
}

impl Granularity {
    fn bytes(self) -> Option<usize> {
        match self {
            Granularity::Page => None,
            Granularity::Line => Some(64),
            Granularity::Tag => Some(TAG_GRANULE),
        }
    }
}

/// Proves that every byte can be loaded.
///
/// # Errors
/// [`Short`]: the bytes proven, up to the unit that failed.
///
/// # Safety
/// The module's preconditions; the range is foreign memory (or anything) that we may read.
#[doc(alias = "probe_user_read")]
pub unsafe fn probe_read(ptr: *const u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    match granularity.bytes() {
        // SAFETY: forwarded.
        None => unsafe { whole_pages(Touch::Read, ptr.cast_mut(), len) },
        // SAFETY: forwarded.
        Some(unit) => unsafe { units(ptr, 0, len, unit) },
    }
}

/// Proves that every byte can be stored, without changing any.
///
/// Differs from the kernel's `fault_in_subpage_writeable`, which stores zeros: this changes no byte.
///
/// # Errors
/// [`Short`]: the bytes proven, up to the unit that failed.
///
/// # Safety
/// The module's preconditions; the range is foreign memory (or anything) that its owner lets us write.
#[doc(alias = "probe_user_write")]
#[doc(alias = "probe_subpage_writeable")]
#[doc(alias = "fault_in_subpage_writeable")]
pub unsafe fn probe_write(ptr: *mut u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    let Some(unit) = granularity.bytes() else {
        // SAFETY: forwarded.
        return unsafe { whole_pages(Touch::Write, ptr, len) };
    };
    let page = page_size();
    let mut at = 0;
    while at < len {
        let here = (page - (ptr.wrapping_add(at).addr() & (page - 1))).min(len - at);
        // SAFETY: forwarded.
        unsafe {
            arch::touch_write(ptr.wrapping_add(at)).map_err(|fault| Short { done: at, fault })?;
            units(ptr, at, at + here, unit)?;
        }
        at += here;
    }
    Ok(())
}

unsafe fn whole_pages(touch: Touch, ptr: *mut u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { walk::pages(touch, ptr, len) }.map_err(|(done, fault)| Short { done, fault })
}

/// Loads one byte of every unit that `from..to` touches.
unsafe fn units(ptr: *const u8, from: usize, to: usize, unit: usize) -> Result<(), Short> {
    let mut at = from;
    while at < to {
        // SAFETY: forwarded.
        unsafe { arch::touch_read(ptr.wrapping_add(at)) }.map_err(|fault| Short { done: at, fault })?;
        at += unit - (ptr.wrapping_add(at).addr() & (unit - 1));
    }
    Ok(())
}
