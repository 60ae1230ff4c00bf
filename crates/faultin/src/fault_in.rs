//! **fault_in**, the *ANY* primitive: makes the next attempt progress.
//!
//! Call it only after an attempt that moved nothing, with the length the *consumer* wants (never one the data claim),
//! and give up only when it fails. It says how long the accessible prefix is; it fails only if that is nothing. It
//! performs a real access at its first byte, because page tables see neither memory tags nor every other reason why an
//! access may fail; each further page is accessed at its first byte, or brought in by the kernel
//! (`MADV_POPULATE_READ`/`_WRITE`), whichever is cheaper.
//!
//! Where a [pager](crate::pager) serves the range, a page that was brought in may have been evicted for a later one. So the pager is
//! asked once more at the end, and the prefix ends before the first page that would fault by then; the first page is brought in
//! again if need be. Another thread may evict what was brought in before the function returns: loops need a bound of their own.
//!
//! It never changes a byte. For writing it performs an atomic read-modify-write that stores what it read, which dirties
//! pages and breaks copy-on-write as a store would.
//!
//! A caller that restarts from an earlier point than the first uncopied byte needs [`probe`](crate::probe), not this.
//!
//! # Aborts
//!
//! As [`copy`](mod@crate::copy#aborts).

use core::num::NonZeroUsize;

use crate::fault::Fault;
use crate::walk::{self, Touch};

/// Faults in `len` bytes for reading; returns the accessible prefix in bytes.
///
/// The kernel counts the other way round: it returns the bytes *not* faulted in, which is `len` minus this.
///
/// # Errors
/// The [`Fault`] at the very first byte; nothing is accessible.
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
/// The kernel counts the other way round: it returns the bytes *not* faulted in, which is `len` minus this. And its
/// `fault_in_writeable` stores zeros; this is what `fault_in_safe_writeable` promises, with a real access where that
/// one only walks page tables.
///
/// # Errors
/// The [`Fault`] at the very first byte; nothing is accessible.
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
