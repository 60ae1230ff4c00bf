//! Memory shared with a peer that is not trusted.

use core::ffi::{CStr, c_char, c_int, c_void};

use faultin::map::Rights;
use faultin::shared::SharedOptions;

use crate::fault::{Cause, Fault, failed};
use crate::map::{Kind, Map, MapBackend, backend, duplicate};

fn rights(is_writable: c_int) -> Rights {
    if is_writable == 0 { Rights::Read } else { Rights::ReadWrite }
}

/// Returns the options of every shared map of this library: a mapping where faults are recovered, the file elsewhere.
fn options(offset: u64) -> Result<SharedOptions, Fault> {
    Ok(SharedOptions::new().offset(offset).backend(backend(MapBackend::Automatic as u32)?))
}

/// Makes shared memory: a memfd that is `len` bytes long, mapped for reading and writing. faultin_map_fd() is for the peer.
/// The handler is moved as by faultin_map_open().
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map    The map is written there, NULL after an error.
/// @param name   A name for /proc/self/maps.
/// @param len    The number of bytes, not 0.
/// @param fault  Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is valid for writes, `name` is a string in UTF-8, `fault` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_create(
    map: *mut *mut Map,
    name: *const c_char,
    len: usize,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        map.write(core::ptr::null_mut());
        match (options(0), CStr::from_ptr(name).to_str()) {
            (Ok(options), Ok(name)) => Map::give(options.create(name, len).map(Kind::Shared), map, fault),
            _ => failed(Fault::invalid(), fault),
        }
    }
}

/// Maps shared memory that a peer made, and may truncate at any time: what a server does with the descriptor and the length that
/// a client claims. No operation on the map ends the process or waits for the peer, and each has bounded work.
/// The handler is moved as by faultin_map_open().
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map       The map is written there, NULL after an error.
/// @param fd        The descriptor; the map has a copy of it.
/// @param offset    The byte of the file where the map begins. Positions in the map count from here.
/// @param len       The number of bytes of the map, not 0. The file has them.
/// @param writable  Not 0 if the map is also for writing: the descriptor must be open for that and not sealed against it.
/// @param fault     Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is valid for writes, `fault` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_from_fd(
    map: *mut *mut Map,
    fd: c_int,
    offset: u64,
    len: usize,
    writable: c_int,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        map.write(core::ptr::null_mut());
        match options(offset).and_then(|options| Ok((options, duplicate(fd)?))) {
            Ok((options, file)) => {
                Map::give(options.from_file(file, len, rights(writable)).map(Kind::Shared), map, fault)
            }
            Err(wrong) => failed(wrong, fault),
        }
    }
}

/// Makes a map over a mapping that the caller made, for faultin_guard_begin() and everything else that shared memory has. The
/// mapping stays the caller's: closing the map leaves it mapped, and the map cannot be resized.
///
/// Until the map is closed, the caller maps nothing else there, unmaps nothing of it, and makes no other map over it. While a
/// guard replaces missing pages by zeros, the caller's own stores to those pages fault.
///
/// A guard of such a map never has a copy, because the caller's pointers lead to the mapping: where the mapping itself cannot be
/// guarded, faultin_guard_begin() fails. That is so for a map that is made without a handler (before faultin_install() or
/// faultin_host_owns_handler()). To read a copy, use faultin_shared_from_fd(). The handler is moved as by faultin_map_open().
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map       The map is written there, NULL after an error.
/// @param address   The start of a mapping with MAP_SHARED. (One with MAP_PRIVATE may be given if no code stores to it.)
/// @param len       The number of bytes of the map, not 0. The file has them.
/// @param fd        The descriptor of the mapped file, open for reading; the map has a copy of it.
/// @param offset    The offset in the file at which the mapping was made, a multiple of the page size.
/// @param writable  Not 0 if the mapping has PROT_READ and PROT_WRITE, 0 if it has PROT_READ alone.
/// @param fault     Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// As the text says; `map` is valid for writes, `fault` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_over(
    map: *mut *mut Map,
    address: *mut c_void,
    len: usize,
    fd: c_int,
    offset: u64,
    writable: c_int,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        map.write(core::ptr::null_mut());
        match options(offset).and_then(|options| Ok((options, duplicate(fd)?))) {
            Ok((options, file)) => {
                let made = options.over(address.cast(), file, len, rights(writable));
                let given = Map::give(made.map(Kind::Shared), map, fault);
                if given == 0 {
                    (**map).is_over = true;
                }
                given
            }
            Err(wrong) => failed(wrong, fault),
        }
    }
}

/// Changes the length of a shared map, as both sides have agreed on (wl_shm_pool.resize). The file has the new length already. No
/// other thread uses the map, and no guard of it is open.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map    The map.
/// @param len    The new number of bytes, not 0.
/// @param fault  Written after an error; may be NULL. The map is as it was then.
/// @return 0, or an error number; EBUSY if a guard is open.
///
/// # Safety
/// `map` is a map that no other thread uses, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_resize(map: *mut Map, len: usize, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        let map = &mut *map;
        let is_guarded = map.has_guards();
        match &mut map.kind {
            _ if is_guarded => failed(Fault::new(Cause::Busy, libc::EBUSY), fault),
            Kind::Shared(map) => map.resize(len).map_or_else(|error| failed(&error, fault), |()| 0),
            _ => failed(Fault::new(Cause::Unsupported, libc::EOPNOTSUPP), fault),
        }
    }
}

/// Returns whether shared memory cannot be truncated by any process, ever again (F_SEAL_SHRINK).
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param map  The map.
/// @return 1 if it is sealed, otherwise 0.
///
/// # Safety
/// `map` is a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_is_sealed(map: *const Map) -> c_int {
    // SAFETY: forwarded.
    match unsafe { &(*map).kind } {
        Kind::Shared(map) => c_int::from(map.is_sealed()),
        _ => 0,
    }
}

/// Returns the first address of a shared map, for the accesses that take addresses (the atomic operations above all). The
/// memory there may fault at any time: plain C code must not access it.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param map  The map.
/// @return The address; NULL if nothing is mapped (without a handler), or the map is not of shared memory.
///
/// # Safety
/// `map` is a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_shared_address(map: *const Map) -> *mut c_void {
    // SAFETY: forwarded.
    match unsafe { &(*map).kind } {
        Kind::Shared(map) => map.address().map_or(core::ptr::null_mut(), <*mut u8>::cast),
        _ => core::ptr::null_mut(),
    }
}
