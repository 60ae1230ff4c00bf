//! Faulting in and probing.

use core::ffi::{c_int, c_void};
use core::num::NonZeroUsize;

use faultin::{Access, Granularity, raw, signal_free};

use crate::fault::{Fault, Side, count, failed};
use crate::handler::has_handler;

/// What a probe proves one by one: an argument of faultin_probe().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Unit {
    /// One access per page: mapping, protection, backing.
    Page = 0,
    /// One load per 64 bytes as well: poison.
    Line = 1,
    /// One load per 16 bytes as well: memory tags.
    Granule = 2,
}

fn access(number: c_int) -> Option<Access> {
    const READ: c_int = Side::Read as c_int;
    const WRITE: c_int = Side::Write as c_int;
    match number {
        READ => Some(Access::Read),
        WRITE => Some(Access::Write),
        _ => None,
    }
}

fn granularity(number: c_int) -> Option<Granularity> {
    const PAGE: c_int = Unit::Page as c_int;
    const LINE: c_int = Unit::Line as c_int;
    const GRANULE: c_int = Unit::Granule as c_int;
    match number {
        PAGE => Some(Granularity::Page),
        LINE => Some(Granularity::Line),
        GRANULE => Some(Granularity::Tag),
        _ => None,
    }
}

/// Makes the next attempt progress: faults in memory, and returns the length of the accessible prefix.
///
/// Call it only after a copy that moved nothing, and give up only when it returns 0. It changes no byte; for
/// FAULTIN_ACCESS_WRITE it stores what it reads, atomically.
///
/// Async-signal-safe, except where a pager of the Rust crate faultin-cache resolves the faults: does not allocate or lock, and
/// leaves errno alone.
///
/// @param ptr     Memory that may fault.
/// @param len     The number of bytes that the consumer wants.
/// @param access  FAULTIN_ACCESS_READ or FAULTIN_ACCESS_WRITE.
/// @param fault   Written if 0 is returned and `len` is not 0; may be NULL.
/// @return The number of accessible bytes from the start: at least 1, unless the first byte is not accessible.
///
/// # Safety
/// `ptr` is memory that may fault or be accessed this way. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_fault_in(ptr: *mut c_void, len: usize, access: c_int, fault: *mut Fault) -> usize {
    let Some(len) = NonZeroUsize::new(len) else { return 0 };
    // SAFETY: forwarded; with a handler, faults are recovered.
    let prefix = unsafe {
        match (self::access(access), has_handler()) {
            (Some(Access::Read), true) => raw::fault_in_readable(ptr.cast(), len),
            (Some(Access::Read), false) => signal_free::fault_in_readable(ptr.cast(), len),
            (Some(Access::Write), true) => raw::fault_in_writeable(ptr.cast(), len),
            (Some(Access::Write), false) => signal_free::fault_in_writeable(ptr.cast(), len),
            (None, _) => {
                failed(Fault::invalid(), fault);
                return 0;
            }
        }
    };
    match prefix {
        Ok(len) => len.get(),
        Err(stop) => {
            // SAFETY: forwarded.
            unsafe { failed(&stop, fault) };
            0
        }
    }
}

/// Proves that every byte can be loaded, or stored, now. It changes no byte; for FAULTIN_ACCESS_WRITE it stores what it reads,
/// atomically, in each page: that dirties pages and breaks copy-on-write.
///
/// Async-signal-safe, except where a pager of the Rust crate faultin-cache resolves the faults: does not allocate or lock, and
/// leaves errno alone.
///
/// @param ptr     Memory that may fault.
/// @param len     The number of bytes.
/// @param access  FAULTIN_ACCESS_READ or FAULTIN_ACCESS_WRITE.
/// @param unit    FAULTIN_UNIT_PAGE, FAULTIN_UNIT_LINE or FAULTIN_UNIT_GRANULE: differences within one unit go unnoticed.
/// @param fault   Written if fewer bytes were proven; may be NULL.
/// @return The number of bytes that were proven, from the start.
///
/// # Safety
/// `ptr` is memory that may fault or be accessed this way. `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_probe(
    ptr: *mut c_void,
    len: usize,
    access: c_int,
    unit: c_int,
    fault: *mut Fault,
) -> usize {
    if len == 0 {
        return 0;
    }
    let (Some(access), Some(unit)) = (self::access(access), granularity(unit)) else {
        // SAFETY: forwarded.
        unsafe { failed(Fault::invalid(), fault) };
        return 0;
    };
    // SAFETY: forwarded; with a handler, faults are recovered.
    unsafe {
        let proven = match (access, has_handler()) {
            (Access::Read, true) => raw::probe_read(ptr.cast(), len, unit),
            (Access::Read, false) => signal_free::probe_read(ptr.cast(), len, unit),
            (Access::Write, true) => raw::probe_write(ptr.cast(), len, unit),
            (Access::Write, false) => signal_free::probe_write(ptr.cast(), len, unit),
        };
        count(proven, len, fault)
    }
}
