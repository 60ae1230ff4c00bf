//! Proving that memory can be accessed: see [`raw`](crate::raw#probe).

use crate::arch;
use crate::fault::outcome::TAG_GRANULE;
use crate::fault::{Granularity, Short};
use crate::walk::{self, Touch, page_size};

const LINE: usize = 64;

/// Proves that every byte can be loaded.
///
/// # Errors
/// [`Short`] if a byte cannot be loaded: the bytes before the unit that failed are proven.
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
/// Differs from the kernel's `fault_in_subpage_writeable`, which stores zeros: this function changes no byte.
///
/// # Errors
/// [`Short`] if a byte cannot be stored: the bytes before the unit that failed are proven.
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

/// Returns the part of `proven` that is still accessible: see [`walk::still`].
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
    // In batches from the first whole unit on; one by one before that, and to find the unit that failed.
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
