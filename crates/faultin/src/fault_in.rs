//! Making the next attempt progress: see [`raw`](crate::raw#fault-in).

use core::num::NonZeroUsize;

use crate::fault::Fault;
use crate::walk::{self, Touch};

/// Faults in `len` bytes for reading; returns the accessible prefix in bytes.
///
/// The kernel's function returns the number of bytes *not* faulted in, which is `len` minus this result.
///
/// # Errors
/// The [`Fault`] of the first byte if that is not accessible.
///
/// # Safety
/// The range is foreign memory that we may read.
#[doc(alias = "fault_in_pages_readable")]
pub unsafe fn fault_in_readable(ptr: *const u8, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
    // SAFETY: forwarded.
    prefix(len, unsafe { walk::pages(Touch::Read, ptr.cast_mut(), len.get()) })
}

/// Faults in `len` bytes for writing, without changing any; returns the accessible prefix in bytes.
///
/// The kernel's function returns the number of bytes *not* faulted in, which is `len` minus this result. Its
/// `fault_in_writeable` stores zeros; this function keeps the promise of `fault_in_safe_writeable`, with a real access
/// where that one only walks page tables.
///
/// # Errors
/// The [`Fault`] of the first byte if that is not accessible.
///
/// # Safety
/// The range is foreign memory that its owner lets us write.
#[doc(alias = "fault_in_safe_writeable")]
#[doc(alias = "fault_in_pages_writeable")]
pub unsafe fn fault_in_writeable(ptr: *mut u8, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
    // SAFETY: forwarded.
    prefix(len, unsafe { walk::pages(Touch::Write, ptr, len.get()) })
}

pub(crate) fn prefix(len: NonZeroUsize, walked: Result<(), (usize, Fault)>) -> Result<NonZeroUsize, Fault> {
    match walked {
        Ok(()) => Ok(len),
        Err((done, fault)) => NonZeroUsize::new(done).ok_or(fault),
    }
}
