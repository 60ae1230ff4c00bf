//! **probe**, the *ALL* primitive: proves that every byte can be loaded, or stored, now.
//!
//! For callers that restart from an earlier point than the first uncopied byte: a record boundary, a register frame. One
//! access per [`Granularity`] unit proves the unit. Bytes are not changed, but a store probe performs an atomic
//! read-modify-write in each page: the pages become dirty, copy-on-write is broken, the modification time of a mapped
//! file changes, write-protect faults are raised as by any store.
//!
//! Where a [pager](crate::pager) serves the range and does not keep all of it at once, the probe is short, with
//! [`Cause::NotResident`](crate::Cause::NotResident): what it has proven can be accessed when it returns, unless another thread
//! evicts it.
//!
//! A failed probe takes one signal at `Page` granularity, two at the finer ones.
//!
//! Protection is the page's, so a store probe stores once per page and only reads in between: tags and poison are found
//! by reading.
//!
//! In large ranges at `Page` granularity, where the kernel populates pages faster than they can be touched (huge
//! pages), its answer is taken for all but the first page; see [`fault_in`](crate::fault_in).
//!
//! # Aborts
//!
//! As [`copy`](mod@crate::copy#aborts).

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

const LINE: usize = 64;

/// Proves that every byte can be loaded.
///
/// # Errors
/// [`Short`]: the bytes proven, up to the unit that failed.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "probe_user_read")]
pub unsafe fn probe_read(ptr: *const u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe {
        match granularity {
            Granularity::Page => whole_pages(Touch::Read, ptr.cast_mut(), len),
            Granularity::Line => still(Touch::Read, ptr.cast_mut(), len, units::<LINE>(ptr, 0, len)),
            Granularity::Tag => still(Touch::Read, ptr.cast_mut(), len, units::<TAG_GRANULE>(ptr, 0, len)),
        }
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
/// The range is foreign memory that its owner lets us write.
#[doc(alias = "probe_user_write")]
#[doc(alias = "probe_subpage_writeable")]
#[doc(alias = "fault_in_subpage_writeable")]
pub unsafe fn probe_write(ptr: *mut u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    if granularity == Granularity::Page {
        // SAFETY: forwarded.
        return unsafe { whole_pages(Touch::Write, ptr, len) };
    }
    let page = page_size();
    let mut at = 0;
    let mut each_page = || {
        while at < len {
            let here = (page - (ptr.wrapping_add(at).addr() & (page - 1))).min(len - at);
            // SAFETY: forwarded.
            unsafe {
                Touch::Write.page(ptr.wrapping_add(at), len - at).map_err(|fault| Short { done: at, fault })?;
                if granularity == Granularity::Line {
                    units::<LINE>(ptr, at, at + here)?;
                } else {
                    units::<TAG_GRANULE>(ptr, at, at + here)?;
                }
            }
            at += here;
        }
        Ok(())
    };
    let proven = each_page();
    // SAFETY: forwarded.
    unsafe { still(Touch::Write, ptr, len, proven) }
}

/// What has been proven and is still there: see [`walk::still`].
///
/// # Safety
/// As [`probe_read`], or [`probe_write`].
unsafe fn still(touch: Touch, ptr: *mut u8, len: usize, proven: Result<(), Short>) -> Result<(), Short> {
    let walked = proven.map_err(|short| (short.done, short.fault));
    // SAFETY: forwarded.
    unsafe { walk::still(touch, ptr, len, walked) }.map_err(|(done, fault)| Short { done, fault })
}

unsafe fn whole_pages(touch: Touch, ptr: *mut u8, len: usize) -> Result<(), Short> {
    // SAFETY: forwarded.
    unsafe { walk::pages(touch, ptr, len) }.map_err(|(done, fault)| Short { done, fault })
}

/// Loads one byte of every unit of `UNIT` bytes that `from..to` touches.
unsafe fn units<const UNIT: usize>(ptr: *const u8, from: usize, to: usize) -> Result<(), Short> {
    let many = arch::MANY * UNIT;
    let mut at = from;
    // Many at once where they begin with a whole unit; one by one before that, and to find the one that failed.
    let mut alone_until = from;
    while at < to {
        let aligned = ptr.wrapping_add(at).addr() & (UNIT - 1) == 0;
        if aligned && at >= alone_until && to - at >= many {
            // SAFETY: forwarded.
            match unsafe { arch::touch_read_many::<UNIT>(ptr.wrapping_add(at)) } {
                Ok(()) => {
                    at += many;
                    continue;
                }
                Err(_) => alone_until = at + many,
            }
        }
        // SAFETY: forwarded.
        unsafe { Touch::Read.page(ptr.wrapping_add(at).cast_mut(), 1) }.map_err(|fault| Short { done: at, fault })?;
        at += UNIT - (ptr.wrapping_add(at).addr() & (UNIT - 1));
    }
    Ok(())
}
