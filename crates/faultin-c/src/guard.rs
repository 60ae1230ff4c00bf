//! Guards: any code over the mapping itself, between a begin and an end.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::Ordering;

use faultin::map::{Backend, Entered};

use crate::fault::{Cause, Fault, failed};
use crate::map::{Kind, Map, range};

/// The bytes of a guard are a copy: `flags` in struct faultin_guard.
pub const FAULTIN_GUARD_COPY: u32 = 1;

/// The number of words in struct faultin_guard that are the library's.
pub const FAULTIN_GUARD_WORDS: usize = 40;

/// The largest number of ranges in struct faultin_damage.
pub const FAULTIN_DAMAGE_RANGES: usize = 8;

/// A guard: memory of the caller that faultin_guard_begin() fills in. It may be moved, and ended by any thread.
#[derive(Debug)]
#[repr(C)]
pub struct Guard {
    /// The bytes: readable until the guard ends. They may change at any time.
    pub data: *const c_void,
    /// Their number.
    pub len: usize,
    /// FAULTIN_GUARD_COPY, or 0.
    pub flags: u32,
    /// 0. Later versions may use it.
    pub reserved: u32,
    /// The library's.
    pub state: [u64; FAULTIN_GUARD_WORDS],
}

/// Bytes `from` to `to`, without `to`, of a map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ByteRange {
    /// The position of the first byte.
    pub from: u64,
    /// The position after the last byte.
    pub to: u64,
}

/// Which bytes of a guard were not the file's, and why.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Damage {
    /// The reason.
    pub fault: Fault,
    /// The position in the map of the first byte that was not the file's; the bytes before it were. UINT64_MAX if the file has
    /// changed in a way that leaves no trace in memory: then the position is unknown.
    pub first_bad: u64,
    /// The number of ranges that may have been zeros instead of the file's bytes.
    pub ranges: u64,
    /// The first of them. The last one extends to the end of all if there are more.
    pub range: [ByteRange; FAULTIN_DAMAGE_RANGES],
    /// 0. Later versions may use it.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<Damage>() == 112 + 16 + 16 * FAULTIN_DAMAGE_RANGES + 32);

/// What is behind the words of a guard.
struct State {
    map: *const Map,
    entered: MaybeUninit<Entered<'static>>,
}

const _: () = assert!(size_of::<State>() <= 8 * FAULTIN_GUARD_WORDS && align_of::<State>() <= 8);

/// Begins a guard: until it ends, any code may read the bytes of a range in place. Pages that are missing (the file was truncated,
/// its disk fails) read as zeros meanwhile, which faultin_guard_end() reports.
///
/// The code must be right whatever it reads: no byte needs to be the same when it is read twice. Guards may be nested, overlap, and
/// be open in any number of threads. A thread that reads must not block SIGBUS. System calls that are given the bytes
/// fail with EFAULT where a page is missing.
///
/// The bytes are a copy (FAULTIN_GUARD_COPY), which takes memory and time for the whole range: without a handler, in a thread that
/// blocks SIGBUS, where the kernel forbids to replace pages, and while an earlier guard of the map has replaced some. A map of
/// faultin_shared_over() has no copies: there, begin fails with FAULTIN_CAUSE_HANDLER in the first two cases, with
/// FAULTIN_CAUSE_UNSUPPORTED in the third and FAULTIN_CAUSE_BUSY in the last one.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map of a file or of shared memory.
/// @param offset  The position in the map.
/// @param len     The number of bytes; UINT64_MAX for all. A range that ends past the map ends with it.
/// @param guard   Filled in.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or an error number; there is no guard then.
///
/// # Safety
/// `map` is a map that stays open until the guard has ended; `guard` is valid for writes, `fault` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_guard_begin(
    map: *const Map,
    offset: u64,
    len: u64,
    guard: *mut Guard,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded; `faultin_map_close` refuses to close the map while a guard is open. The entry is made in the guard itself,
    // whose words need not be initialised.
    unsafe {
        let range = range(offset, len);
        if is_unprotected(&*map) {
            return refused(guard, &no_handler(), fault);
        }
        let state = (&raw mut (*guard).state).cast::<State>();
        (&raw mut (*state).map).write(map);
        let place = &mut (*state).entered;
        let entered = match &(*map).kind {
            Kind::Read(map) => map.enter(range, place),
            Kind::Write(map) => map.enter(range, place),
            Kind::Shared(map) => map.enter(range, place),
        };
        match entered {
            Ok(()) => {
                let entered = place.assume_init_ref();
                let bytes = entered.bytes();
                if (*map).is_over && entered.is_copy() && !bytes.is_empty() {
                    // Nothing has read the copy.
                    let _ = Entered::leave(place);
                    return refused(guard, &why_copied(&*map), fault);
                }
                let mut flags = 0;
                if entered.is_copy() {
                    flags = FAULTIN_GUARD_COPY;
                    (*map).copies.fetch_add(1, Ordering::Relaxed);
                }
                (&raw mut (*guard).data).write(bytes.cast());
                (&raw mut (*guard).len).write(bytes.len());
                (&raw mut (*guard).flags).write(flags);
                (&raw mut (*guard).reserved).write(0);
                0
            }
            Err(damaged) => refused(guard, &Fault::from(&damaged.error), fault),
        }
    }
}

/// Reports that there is no guard; returns the error number.
///
/// # Safety
/// `guard` is valid for writes, `fault` is null or valid for writes.
#[cold]
unsafe fn refused(guard: *mut Guard, why: &Fault, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        (&raw mut (*guard).data).write(core::ptr::null());
        (&raw mut (*guard).len).write(0);
        failed(*why, fault)
    }
}

/// Returns whether a map is over a mapping of the caller that was made without a handler: a copy helps nothing there, because the
/// caller reads by pointers of its own.
fn is_unprotected(map: &Map) -> bool {
    matches!(&map.kind, Kind::Shared(shared) if map.is_over && shared.backend() != Backend::Mapped)
}

fn no_handler() -> Fault {
    Fault::new(Cause::Handler, libc::ENOSYS)
}

/// Returns why a mapping of the caller cannot be read in place, although there is a handler.
fn why_copied(map: &Map) -> Fault {
    if faultin::signal::status().bus_blocked {
        no_handler()
    } else if map.has_guards() {
        Fault::new(Cause::Busy, libc::EBUSY)
    } else {
        Fault::new(Cause::Unsupported, libc::EOPNOTSUPP)
    }
}

/// Ends a guard. Its bytes must not be used any more.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param guard   The guard; its `data` is NULL afterwards.
/// @param damage  Written if not all bytes were the file's; may be NULL.
/// @return 0 if all bytes were the file's, of one time; otherwise the error number of the reason. EINVAL if the guard has ended.
///
/// # Safety
/// `guard` was filled in by `faultin_guard_begin`; `damage` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_guard_end(guard: *mut Guard, damage: *mut Damage) -> c_int {
    // SAFETY: forwarded; the entry is left once, because `data` is null afterwards.
    unsafe {
        let guard = &mut *guard;
        if guard.data.is_null() {
            return libc::EINVAL;
        }
        (guard.data, guard.len) = (core::ptr::null(), 0);
        let state = &mut *(&raw mut guard.state).cast::<State>();
        let is_copy = state.entered.assume_init_ref().is_copy();
        let left = Entered::leave(&mut state.entered);
        if is_copy {
            (*state.map).copies.fetch_sub(1, Ordering::Release);
        }
        let Err(damaged) = left else { return 0 };
        let fault = Fault::from(&damaged.error);
        if !damage.is_null() {
            damage.write(Damage {
                fault,
                first_bad: damaged.first_bad.unwrap_or(u64::MAX),
                ranges: damaged.ranges.len() as u64,
                range: first_ranges(&damaged.ranges),
                reserved: [0; 4],
            });
        }
        fault.error
    }
}

fn first_ranges(all: &[Range<u64>]) -> [ByteRange; FAULTIN_DAMAGE_RANGES] {
    let mut first = [ByteRange { from: 0, to: 0 }; FAULTIN_DAMAGE_RANGES];
    for (to, range) in first.iter_mut().zip(all) {
        *to = ByteRange { from: range.start, to: range.end };
    }
    if let (Some(last), Some(end)) = (first.last_mut(), all.get(FAULTIN_DAMAGE_RANGES..).and_then(<[_]>::last)) {
        last.to = end.end;
    }
    first
}
