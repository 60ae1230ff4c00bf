//! The mapping at an address: by a query of the kernel (Linux 6.11), otherwise from the text of `/proc/self/maps`.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::file::Shown;

/// A mapping of this process.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub start: usize,
    pub end: usize,
    /// Position in the file of `start`.
    pub offset: u64,
    pub is_readable: bool,
    pub is_writable: bool,
    pub is_shared: bool,
    /// The device of the file system, as `stat` has it.
    pub device: u64,
    /// The inode; 0 without a file.
    pub inode: u64,
    /// Bytes of a page.
    pub page: usize,
    /// The path, perhaps with ` (deleted)` after it.
    pub name: OsString,
}

impl Mapping {
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { device: self.device, inode: self.inode, name: self.name.as_bytes() }
    }
}

/// `struct procmap_query` of `linux/fs.h`.
#[repr(C)]
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Query {
    size: u64,
    flags: u64,
    address: u64,
    pub start: u64,
    pub end: u64,
    pub vma_flags: u64,
    pub page: u64,
    pub offset: u64,
    pub inode: u64,
    pub device_major: u32,
    pub device_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

const _: () = assert!(size_of::<Query>() == 104);

impl Query {
    /// Makes the answer from another source.
    pub(crate) fn of(start: u64, end: u64, rights: u64, offset: u64, device: (u32, u32), inode: u64) -> Self {
        let (page, (device_major, device_minor)) = (faultin::page_size() as u64, device);
        Query { start, end, vma_flags: rights, offset, inode, page, device_major, device_minor, ..Query::default() }
    }

    /// Returns the device of the file system, as `stat` has it.
    pub(crate) fn device(&self) -> u64 {
        libc::makedev(self.device_major, self.device_minor)
    }
}

/// `PROCMAP_QUERY`: `_IOWR('f', 17, struct procmap_query)`.
const QUERY: u64 = 3 << 30 | (size_of::<Query>() as u64) << 16 | 0x66 << 8 | 17;
pub(crate) const READABLE: u64 = 1;
pub(crate) const WRITABLE: u64 = 2;
pub(crate) const SHARED: u64 = 8;

/// The descriptor of `/proc/self/maps` of this process; -1 if there is none.
static MAPS: AtomicI32 = AtomicI32::new(-1);

/// Whether the kernel has no such query: a descriptor that was opened for it has refused it.
static HAS_NO_QUERY: AtomicBool = AtomicBool::new(false);

/// Opens `/proc/self/maps`. Async-signal-safe.
pub(crate) fn open_maps() -> i32 {
    // SAFETY: a path that ends with a zero.
    unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
}

/// Queries the mapping at `address`; `None` if there is none, or the kernel has no such query. Writes its path to `name`, with a
/// zero at its end. Async-signal-safe.
pub(crate) fn query(maps: i32, address: usize, name: &mut [u8]) -> Option<Query> {
    // SAFETY: the slice's bytes.
    unsafe { query_into(maps, address, name.as_mut_ptr(), name.len()) }
}

/// As [`query`], to memory that need not be initialised: `name_size` of the answer is the number of bytes written.
///
/// # Safety
/// `name` is valid for writes of `size` bytes.
unsafe fn query_into(maps: i32, address: usize, name: *mut u8, size: usize) -> Option<Query> {
    let mut query = Query {
        size: size_of::<Query>() as u64,
        address: address as u64,
        name_size: size as u32,
        name: name.expose_provenance() as u64,
        ..Query::default()
    };
    // SAFETY: the kernel writes to the structure and at most `name_size` bytes to the name. On another descriptor the call
    // fails.
    (unsafe { libc::ioctl(maps, QUERY as _, &raw mut query) } == 0).then_some(query)
}

/// Forgets the parent's descriptor, in a child of `fork`: it shows the parent's mappings.
pub(super) fn after_fork() {
    let inherited = MAPS.swap(-1, Ordering::Relaxed);
    if inherited >= 0 {
        // SAFETY: it is this process's copy of a descriptor that only this file uses.
        unsafe { libc::close(inherited) };
    }
}

/// Returns the mapping at `address`, if there is one.
///
/// # Errors
/// If `/proc/self/maps` cannot be read.
pub(super) fn find(address: usize) -> io::Result<Option<Mapping>> {
    const LONGEST: usize = libc::PATH_MAX as usize;
    // Zeroing it would take as long as a system call.
    let mut name = [const { MaybeUninit::<u8>::uninit() }; LONGEST];
    if !HAS_NO_QUERY.load(Ordering::Relaxed) {
        let known = MAPS.load(Ordering::Relaxed);
        // SAFETY: as many bytes as the array has.
        let mut answer = unsafe { Answer::at(known, address, name.as_mut_ptr().cast(), LONGEST) };
        if answer == Answer::Refused {
            // There is none yet; or the program has closed the descriptor, and may have another file with its number.
            let maps = open_maps();
            if maps < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: as above.
            answer = unsafe { Answer::at(maps, address, name.as_mut_ptr().cast(), LONGEST) };
            let is_refused = answer == Answer::Refused;
            HAS_NO_QUERY.store(is_refused, Ordering::Relaxed);
            // Another thread may have been faster.
            let keeps = !is_refused && MAPS.compare_exchange(known, maps, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if !keeps {
                // SAFETY: opened here, and used by nothing else.
                unsafe { libc::close(maps) };
            }
        }
        match answer {
            Answer::Found(found) => {
                // Without the zero at its end; 0 bytes if the mapping has no name.
                let len = (found.name_size as usize).saturating_sub(1).min(LONGEST);
                // SAFETY: the kernel has written these bytes.
                let name = unsafe { core::slice::from_raw_parts(name.as_ptr().cast::<u8>(), len) };
                return Ok(Some(Mapping {
                    start: found.start as usize,
                    end: found.end as usize,
                    offset: found.offset,
                    is_readable: found.vma_flags & READABLE != 0,
                    is_writable: found.vma_flags & WRITABLE != 0,
                    is_shared: found.vma_flags & SHARED != 0,
                    device: found.device(),
                    inode: found.inode,
                    page: found.page as usize,
                    name: OsString::from_vec(name.to_vec()),
                }));
            }
            Answer::Nothing => return Ok(None),
            Answer::Refused => {}
        }
    }
    let text = std::fs::read("/proc/self/maps")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).find(|map| (map.start..map.end).contains(&address)))
}

/// What the kernel answers to a query.
#[derive(PartialEq, Eq)]
enum Answer {
    Found(Query),
    /// Nothing is mapped there.
    Nothing,
    /// The descriptor is not of `/proc/self/maps`, or the kernel has no such query.
    Refused,
}

impl Answer {
    /// # Safety
    /// As [`query_into`].
    unsafe fn at(maps: i32, address: usize, name: *mut u8, size: usize) -> Answer {
        // SAFETY: forwarded.
        match unsafe { query_into(maps, address, name, size) } {
            Some(found) if (found.start..found.end).contains(&(address as u64)) => Answer::Found(found),
            // Another file might accept the call, and write nothing.
            Some(_) => Answer::Refused,
            None if io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) => Answer::Nothing,
            None => Answer::Refused,
        }
    }
}

/// Parses a line of `/proc/self/maps`.
fn parse(line: &[u8]) -> Option<Mapping> {
    // Five fields, spaces, the path.
    let mut rest = line;
    let mut field = || {
        let at = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (field, after) = rest.split_at(at);
        rest = after.get(1..).unwrap_or_default();
        core::str::from_utf8(field).ok()
    };
    let (range, rights, offset, device, inode) = (field()?, field()?, field()?, field()?, field()?);
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let rights = rights.as_bytes();
    Some(Mapping {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        is_readable: rights.first() == Some(&b'r'),
        is_writable: rights.get(1) == Some(&b'w'),
        is_shared: rights.get(3) == Some(&b's'),
        device: libc::makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        page: faultin::page_size(),
        name: OsString::from_vec(unescaped(rest.trim_ascii_start())),
    })
}

/// Returns a path as it is: the kernel writes a newline as `\012`.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                out.push(b'\n');
                rest = after;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}
