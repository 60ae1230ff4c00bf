//! Maps of files: [`Map`], and what reads and writes them.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;

use faultin::map::{Backend, Watch};
use faultin::shared::SharedMap;
use faultin::{FileMap, FileMapMut, MapError, MapOptions};

use crate::fault::{Cause, Fault, failed, of_change};
use crate::handler::has_handler;
use crate::search::bytes;

/// What counts as a change of a mapped file: `watch` in struct faultin_map_options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum MapWatch {
    /// The errors of read(2): a file that ends before the bytes that were asked for do. The default.
    Reader = 0,
    /// For logs, whose bytes never change: a file that is shorter than it was, or rewritten.
    Appending = 1,
    /// For hashes and backups: any change.
    Contents = 2,
    /// For files that do not change: only a page that no longer exists.
    Nothing = 3,
}

/// How a map reads: `backend` in struct faultin_map_options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum MapBackend {
    /// From a mapping if faultin_install() or faultin_host_owns_handler() was called before, otherwise from the file. The default.
    Automatic = 0,
    /// From a mapping, or the map is not opened.
    Mapped = 1,
    /// From the file, with pread(2) and pwrite(2).
    File = 2,
}

/// The map is also for writing: `flags` in struct faultin_map_options.
pub const FAULTIN_MAP_WRITE: u32 = 1;

/// How a file is mapped. Zeros are the defaults; the caller sets `size`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MapChoices {
    /// The size of this structure in bytes, as the caller knows it. A larger one is accepted if the bytes that this version does
    /// not know are 0.
    pub size: u32,
    /// FAULTIN_MAP_WRITE, or 0.
    pub flags: u32,
    /// What counts as a change: enum faultin_map_watch.
    pub watch: u32,
    /// How it reads: enum faultin_map_backend.
    pub backend: u32,
    /// The byte of the file where the map begins. Positions in the map count from here.
    pub offset: u64,
    /// The largest number of bytes of the map, 0 for no limit.
    pub length: u64,
    /// 0. Later versions may use it.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<MapChoices>() == 64);

/// A mapped file, or shared memory. Its functions may be called by any number of threads at the same time, except
/// faultin_map_close() and faultin_shared_resize().
pub struct Map {
    pub(crate) kind: Kind,
    /// Whether it is over a mapping of the caller, which reads that one and not the bytes of a guard.
    pub(crate) is_over: bool,
    /// The number of open guards whose bytes are a copy. (The mapping has the number of the others.)
    pub(crate) copies: AtomicUsize,
}

pub(crate) enum Kind {
    Read(FileMap),
    Write(FileMapMut),
    Shared(SharedMap),
}

impl Map {
    /// Returns whether a guard of this map is open.
    pub(crate) fn has_guards(&self) -> bool {
        let is_entered = match &self.kind {
            Kind::Read(map) => map.is_entered(),
            Kind::Write(map) => map.is_entered(),
            Kind::Shared(map) => map.is_entered(),
        };
        is_entered || self.copies.load(Ordering::Acquire) > 0
    }

    /// Gives a new map to the caller.
    ///
    /// # Safety
    /// `to` is valid for writes, `fault` is null or valid for writes.
    pub(crate) unsafe fn give(made: Result<Kind, MapError>, to: *mut *mut Map, fault: *mut Fault) -> c_int {
        // SAFETY: forwarded.
        unsafe {
            match made {
                Ok(kind) => {
                    to.write(Box::into_raw(Box::new(Map { kind, is_over: false, copies: AtomicUsize::new(0) })));
                    0
                }
                Err(error) => {
                    to.write(core::ptr::null_mut());
                    failed(&error, fault)
                }
            }
        }
    }

    /// Returns the map of a file.
    ///
    /// # Errors
    /// A fault if it is shared memory, which has no such operation.
    fn file(&self) -> Result<&FileMap, Fault> {
        match &self.kind {
            Kind::Read(map) => Ok(map),
            Kind::Write(map) => Ok(map),
            Kind::Shared(_) => Err(unsupported()),
        }
    }

    /// Returns the writable map of a file.
    ///
    /// # Errors
    /// A fault if it is not writable or shared memory.
    fn writable(&self) -> Result<&FileMapMut, Fault> {
        match &self.kind {
            Kind::Read(_) => Err(read_only()),
            Kind::Write(map) => Ok(map),
            Kind::Shared(_) => Err(unsupported()),
        }
    }
}

fn unsupported() -> Fault {
    Fault::new(Cause::Unsupported, libc::EOPNOTSUPP)
}

fn read_only() -> Fault {
    Fault::new(Cause::Protection, libc::EACCES).side(faultin::Access::Write)
}

/// Returns the backend that a caller wants. Without a handler nothing is mapped, and nothing installed.
///
/// # Errors
/// A fault if it wants a mapping and there is no handler, or the number is unknown.
pub(crate) fn backend(number: u32) -> Result<Backend, Fault> {
    const AUTOMATIC: u32 = MapBackend::Automatic as u32;
    const MAPPED: u32 = MapBackend::Mapped as u32;
    const FILE: u32 = MapBackend::File as u32;
    match number {
        AUTOMATIC if has_handler() => Ok(Backend::Automatic),
        MAPPED if has_handler() => Ok(Backend::Mapped),
        AUTOMATIC | FILE => Ok(Backend::Pread),
        MAPPED => Err(Fault::new(Cause::Handler, libc::ENOSYS)),
        _ => Err(Fault::invalid()),
    }
}

/// What the caller has chosen.
struct Choice {
    options: MapOptions,
    is_writable: bool,
}

/// Reads the caller's options; null means the defaults.
///
/// # Safety
/// `choices` is null or valid for reads of as many bytes as its `size` says.
unsafe fn choice(choices: *const MapChoices) -> Result<Choice, Fault> {
    let mut all = MapChoices { size: 0, flags: 0, watch: 0, backend: 0, offset: 0, length: 0, reserved: [0; 4] };
    if !choices.is_null() {
        let known = size_of::<MapChoices>();
        // SAFETY: the size is the first field; as many bytes as both have.
        let size = unsafe {
            let size = (*choices).size as usize;
            (&raw mut all).cast::<u8>().copy_from_nonoverlapping(choices.cast(), known.min(size));
            size
        };
        // SAFETY: as many bytes as the caller says.
        let unknown = unsafe { bytes(choices.wrapping_add(1).cast(), size.saturating_sub(known)) };
        // A size that was forgotten, or choices that this version does not have.
        if size == 0 || unknown.iter().any(|&byte| byte != 0) {
            return Err(Fault::invalid());
        }
    }
    if all.flags & !FAULTIN_MAP_WRITE != 0 || all.reserved != [0; 4] {
        return Err(Fault::invalid());
    }
    let watch = match all.watch {
        0 => Watch::Reader,
        1 => Watch::Appending,
        2 => Watch::Contents,
        3 => Watch::Nothing,
        _ => return Err(Fault::invalid()),
    };
    let mut options = MapOptions::new().watch(watch).offset(all.offset).backend(backend(all.backend)?);
    if all.length > 0 {
        options = options.length(all.length);
    }
    Ok(Choice { options, is_writable: all.flags & FAULTIN_MAP_WRITE != 0 })
}

/// Maps a file by its path.
///
/// After faultin_install(), a map that is opened or refreshed moves the handler as faultin_raise_to_top() does if another one is above it.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map      The map is written there, NULL after an error.
/// @param path     The path.
/// @param options  How it is mapped; NULL for the defaults.
/// @param fault    Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is valid for writes, `path` is a string, `options` is null or valid for reads of its size, `fault` is null or valid for
/// writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_open(
    map: *mut *mut Map,
    path: *const c_char,
    options: *const MapChoices,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        map.write(core::ptr::null_mut());
        let path = OsStr::from_bytes(CStr::from_ptr(path).to_bytes());
        match choice(options) {
            Ok(Choice { options, is_writable: true }) => Map::give(options.open_mut(path).map(Kind::Write), map, fault),
            Ok(Choice { options, is_writable: false }) => Map::give(options.open(path).map(Kind::Read), map, fault),
            Err(wrong) => failed(wrong, fault),
        }
    }
}

/// Returns a copy of the caller's descriptor.
///
/// # Errors
/// A fault if it cannot be copied.
///
/// # Safety
/// The descriptor stays open during the call.
pub(crate) unsafe fn duplicate(fd: c_int) -> Result<File, Fault> {
    if fd < 0 {
        return Err(Fault::new(Cause::Io, libc::EBADF));
    }
    // SAFETY: a new descriptor, or an error.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        let error = std::io::Error::last_os_error().raw_os_error();
        return Err(Fault::new(Cause::Io, error.unwrap_or(libc::EBADF)));
    }
    // SAFETY: owned by nothing else.
    Ok(unsafe { File::from_raw_fd(copy) })
}

/// Maps the file of a descriptor. The map has a copy of the descriptor (with the same open file description), and never moves its
/// offset. When the map is closed, so is the copy: that releases the process's record locks (fcntl()) on the file, as closing any
/// descriptor of it does. The handler is moved as by faultin_map_open().
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map      The map is written there, NULL after an error.
/// @param fd       The descriptor, open for reading, or with FAULTIN_MAP_WRITE for reading and writing.
/// @param options  How it is mapped; NULL for the defaults.
/// @param fault    Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is valid for writes, `options` is null or valid for reads of its size, `fault` is null or valid for writes.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_from_fd(
    map: *mut *mut Map,
    fd: c_int,
    options: *const MapChoices,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        map.write(core::ptr::null_mut());
        match choice(options).and_then(|choice| Ok((choice, duplicate(fd)?))) {
            Ok((Choice { options, is_writable: true }, file)) => {
                Map::give(options.from_file_mut(file).map(Kind::Write), map, fault)
            }
            Ok((Choice { options, is_writable: false }, file)) => {
                Map::give(options.from_file(file).map(Kind::Read), map, fault)
            }
            Err(wrong) => failed(wrong, fault),
        }
    }
}

/// Closes a map. No other thread uses it, and no guard of it is open.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map  The map; NULL does nothing.
/// @return 0; EBUSY if a guard is open, and the map stays open then.
///
/// # Safety
/// `map` is null or a map that is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_close(map: *mut Map) -> c_int {
    if map.is_null() {
        return 0;
    }
    // SAFETY: forwarded.
    let open = unsafe { &*map };
    if open.has_guards() {
        return libc::EBUSY;
    }
    if let Kind::Shared(shared) = &open.kind {
        // A mapping of the caller stays, and must show the file; that failed when the last guard ended if memory was short.
        let _ = shared.repair();
    }
    // SAFETY: made by `Map::give`, and used by nothing else.
    drop(unsafe { Box::from_raw(map) });
    0
}

/// Returns the length of a map in bytes: of a file, as of its last refresh; of shared memory, as agreed on.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map  The map.
/// @return The length in bytes.
///
/// # Safety
/// `map` is a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_size(map: *const Map) -> u64 {
    // SAFETY: forwarded.
    match unsafe { &(*map).kind } {
        Kind::Read(map) => map.len(),
        Kind::Write(map) => map.len(),
        Kind::Shared(map) => map.len() as u64,
    }
}

/// Returns the descriptor of a map, which belongs to the map: to pass it on, or to query the file. It must not be closed.
///
/// Async-signal-safe: does not allocate or lock, and leaves errno alone.
///
/// @param map  The map.
/// @return The descriptor.
///
/// # Safety
/// `map` is a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_fd(map: *const Map) -> c_int {
    // SAFETY: forwarded.
    let fd: BorrowedFd<'_> = match unsafe { &(*map).kind } {
        Kind::Read(map) => map.as_fd(),
        Kind::Write(map) => map.as_fd(),
        Kind::Shared(map) => map.as_fd(),
    };
    fd.as_raw_fd()
}

/// Returns whether a map reads from a mapping.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map  The map.
/// @return 1 if it reads from a mapping, 0 if it reads from the file.
///
/// # Safety
/// `map` is a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_is_mapped(map: *const Map) -> c_int {
    // SAFETY: forwarded.
    let backend = match unsafe { &(*map).kind } {
        Kind::Read(map) => map.backend(),
        Kind::Write(map) => map.backend(),
        Kind::Shared(map) => map.backend(),
    };
    c_int::from(backend == Backend::Mapped)
}

/// Returns the caller's memory for `len` bytes.
///
/// # Safety
/// `ptr` is valid for writes of `len` bytes while the result lives, or `len` is 0.
unsafe fn bytes_mut<'a>(ptr: *mut c_void, len: usize) -> &'a mut [u8] {
    match len {
        0 => &mut [],
        // SAFETY: forwarded.
        _ => unsafe { core::slice::from_raw_parts_mut(ptr.cast(), len) },
    }
}

/// Reads from a map, as pread(2) does from the file.
///
/// If all bytes can be read, but the file has changed in a way that `watch` counts, the result is 0: it is not known which bytes
/// are those of the file as it was.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param dst     Plain memory for `len` bytes. Bytes past the count may have been overwritten.
/// @param len     The number of bytes.
/// @param offset  The position in the map.
/// @param fault   Written if fewer bytes were read; may be NULL. FAULTIN_CAUSE_NONE at the end of the map.
/// @return The number of bytes read.
///
/// # Safety
/// `map` is a map, `dst` is valid for writes of `len` bytes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_read_at(
    map: *const Map,
    dst: *mut c_void,
    len: usize,
    offset: u64,
    fault: *mut Fault,
) -> usize {
    // Nothing is asked for.
    if len == 0 {
        return 0;
    }
    // SAFETY: forwarded.
    unsafe {
        if isize::try_from(len).is_err() {
            failed(Fault::invalid(), fault);
            return 0;
        }
        let dst = bytes_mut(dst, len);
        let read = match &(*map).kind {
            Kind::Read(map) => map.read_at(dst, offset),
            Kind::Write(map) => map.read_at(dst, offset),
            Kind::Shared(map) => map.read_at(dst, offset),
        };
        match read {
            Ok(done) if done == len => len,
            Ok(done) => {
                let end = Fault { done: done as u64, ..Fault::new(Cause::None, 0).side(faultin::Access::Read) };
                failed(end, fault);
                done
            }
            Err(error) => stopped(&error, len, faultin::Access::Read, fault),
        }
    }
}

/// Reports an error of an operation on `len` bytes; returns how many it has done. Its side is known, also where a system call
/// failed and not an access.
///
/// An error after the last byte (the file is another one by now) is about all of them: none is done, because the result tells callers
/// whether there was an error.
///
/// # Safety
/// `fault` is null or valid for writes.
#[cold]
unsafe fn stopped(error: &MapError, len: usize, side: faultin::Access, fault: *mut Fault) -> usize {
    let mut report = Fault::from(error);
    if report.access == 0 {
        report = report.side(side);
    }
    if error.done() >= len {
        report.offset = report.offset.saturating_sub(report.done);
        report.done = 0;
    }
    // SAFETY: forwarded.
    unsafe { failed(report, fault) };
    report.done as usize
}

/// Returns how many bytes a writing operation has done.
///
/// # Safety
/// `fault` is null or valid for writes.
unsafe fn written(result: Result<(), MapError>, len: usize, fault: *mut Fault) -> usize {
    match result {
        Ok(()) => len,
        // SAFETY: forwarded.
        Err(error) => unsafe { stopped(&error, len, faultin::Access::Write, fault) },
    }
}

/// Writes to a map. A full disk is FAULTIN_CAUSE_NO_SPACE. The file does not become longer: faultin_map_allocate() makes it longer.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param src     Plain memory of `len` bytes.
/// @param len     The number of bytes.
/// @param offset  The position in the map.
/// @param fault   Written if fewer bytes were written; may be NULL.
/// @return The number of bytes written.
///
/// # Safety
/// `map` is a map, `src` is valid for reads of `len` bytes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_write_at(
    map: *const Map,
    src: *const c_void,
    len: usize,
    offset: u64,
    fault: *mut Fault,
) -> usize {
    // Nothing is asked for.
    if len == 0 {
        return 0;
    }
    // SAFETY: forwarded.
    unsafe {
        if isize::try_from(len).is_err() {
            failed(Fault::invalid(), fault);
            return 0;
        }
        match &(*map).kind {
            Kind::Shared(map) => written(map.write_at(bytes(src, len), offset), len, fault),
            Kind::Write(map) => written(map.write_at(bytes(src, len), offset), len, fault),
            Kind::Read(_) => {
                failed(read_only(), fault);
                0
            }
        }
    }
}

/// Fills a range of a map with a byte. A full disk is FAULTIN_CAUSE_NO_SPACE. The file does not become longer.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param byte    The byte, converted to unsigned char.
/// @param len     The number of bytes.
/// @param offset  The position in the map.
/// @param fault   Written if fewer bytes were written; may be NULL.
/// @return The number of bytes written.
///
/// # Safety
/// `map` is a map, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_fill(
    map: *const Map,
    byte: c_int,
    len: usize,
    offset: u64,
    fault: *mut Fault,
) -> usize {
    // Nothing is asked for.
    if len == 0 {
        return 0;
    }
    let range = range(offset, len as u64);
    // SAFETY: forwarded.
    unsafe {
        match &(*map).kind {
            Kind::Shared(map) => written(map.fill(range, byte as u8), len, fault),
            Kind::Write(map) => written(map.fill(range, byte as u8), len, fault),
            Kind::Read(_) => {
                failed(read_only(), fault);
                0
            }
        }
    }
}

pub(crate) fn range(offset: u64, len: u64) -> core::ops::Range<u64> {
    offset..offset.saturating_add(len)
}

/// Returns 0, or the error number of a failed operation.
///
/// # Safety
/// `fault` is null or valid for writes.
unsafe fn done(result: Result<Result<(), MapError>, Fault>, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        match result {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => failed(&error, fault),
            Err(wrong) => failed(wrong, fault),
        }
    }
}

/// Reserves space for a range of a writable map of a file, so that later writes do not find the disk full. If the range ends past the
/// end of the file, the file becomes longer, by zeros, and the map with it: fallocate() with mode 0, and faultin_map_refresh(). A map
/// that was opened with a `length` does not become longer than that.
///
/// On file systems that copy on write or compress, a reservation promises little: writes report a full disk all the same.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param offset  The position in the map.
/// @param len     The number of bytes; 0 does nothing.
/// @param fault   Written after an error; may be NULL. FAULTIN_CAUSE_NO_SPACE if there is none, FAULTIN_CAUSE_PAST_END if the range ends
///                past the `length` that the map was opened with. A part of the range may be reserved then.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is a map, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_allocate(map: *const Map, offset: u64, len: u64, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe { done((*map).writable().map(|map| map.allocate(range(offset, len))), fault) }
}

/// Writes a range of a writable map of a file back to its disk, and waits for that: msync() with MS_SYNC.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param offset  The position in the map.
/// @param len     The number of bytes.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is a map, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_flush(map: *const Map, offset: u64, len: u64, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe { done((*map).writable().map(|map| map.flush_range(range(offset, len))), fault) }
}

/// Finds the first occurrence of a needle in a range of a map of a file, without copying it.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map         The map.
/// @param needle      Plain memory: the bytes to find.
/// @param needle_len  Their number. None are found at `offset`.
/// @param offset      The position in the map where the search begins.
/// @param len         The number of bytes to search; UINT64_MAX for all.
/// @param at          The position in the map of the first occurrence, UINT64_MAX if there is none; not written after an error.
/// @param fault       Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is a map, `needle` is valid for reads of `needle_len` bytes, `at` for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_find(
    map: *const Map,
    needle: *const c_void,
    needle_len: usize,
    offset: u64,
    len: u64,
    at: *mut u64,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        if isize::try_from(needle_len).is_err() {
            return failed(Fault::invalid(), fault);
        }
        let found = (*map).file().map(|map| map.find(bytes(needle, needle_len), range(offset, len)));
        done(found.map(|found| found.map(|found| at.write(found.unwrap_or(u64::MAX)))), fault)
    }
}

/// Counts the bytes of a value in a range of a map of a file, without copying it.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param byte    The byte, converted to unsigned char.
/// @param offset  The position in the map where the count begins.
/// @param len     The number of bytes to search; UINT64_MAX for all.
/// @param count   The number of occurrences; not written after an error.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is a map, `count` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_count_byte(
    map: *const Map,
    byte: c_int,
    offset: u64,
    len: u64,
    count: *mut u64,
    fault: *mut Fault,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        let counted = (*map).file().map(|map| map.count_byte(byte as u8, range(offset, len)));
        done(counted.map(|counted| counted.map(|number| count.write(number))), fault)
    }
}

/// Checks whether a file is as it was when it was mapped or last refreshed: size, times, and whether its path still leads to it.
/// For shared memory: whether the file still has the bytes of the map.
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map    The map.
/// @param fault  Written after an error; may be NULL. Its cause is the change.
/// @return 0 if nothing changed; ESTALE after a change, or another error number.
///
/// # Safety
/// `map` is a map, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_verify(map: *const Map, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        let verified = match &(*map).kind {
            Kind::Read(map) => map.verify(),
            Kind::Write(map) => map.verify(),
            Kind::Shared(map) => map.verify(),
        };
        done(Ok(verified), fault)
    }
}

/// Accepts the state of a file as it is now: later operations compare with it, and a map whose length is not limited has the
/// file's new length. Other threads may be reading meanwhile. The handler is moved as by faultin_map_open().
///
/// Not async-signal-safe: may allocate and lock.
///
/// @param map     The map.
/// @param change  What changed since it was mapped or last refreshed: enum faultin_cause, FAULTIN_CAUSE_NONE for nothing. May be
///                NULL.
/// @param fault   Written after an error; may be NULL.
/// @return 0, or an error number.
///
/// # Safety
/// `map` is a map; `change` and `fault` are null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_map_refresh(map: *const Map, change: *mut u32, fault: *mut Fault) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        let refreshed = (*map).file().map(|map| map.refresh());
        let give = |seen: Option<faultin::map::Change>| {
            if !change.is_null() {
                change.write(seen.map_or(Cause::None, |change| of_change(&change).0) as u32);
            }
        };
        done(refreshed.map(|refreshed| refreshed.map(give)), fault)
    }
}
