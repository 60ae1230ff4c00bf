//! The mapping at an address.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags, openat};

use super::lines;

/// A mapping of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Region {
    pub start: u64,
    pub end: u64,
    pub can_write: bool,
    pub can_execute: bool,
    pub is_shared: bool,
    /// Where its start is in the file, in bytes.
    pub offset: u64,
    pub device: (u32, u32),
    /// 0 without a file.
    pub inode: u64,
    /// The file's path as the kernel shows it, or a name such as `[heap]`; empty if there is none.
    pub name: OsString,
    /// Bytes of a page, if the kernel says them.
    pub page: Option<u64>,
}

/// Finds the mapping that holds the address; no value if none does.
///
/// # Errors
/// If the process does not let itself be inspected.
pub(crate) fn find(process: &OwnedFd, address: u64) -> io::Result<Option<Region>> {
    let maps = openat(process.as_fd(), "maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match query(&maps, address) {
        Ok(region) => Ok(region),
        Err(_) => {
            let holds = |text: &[u8]| line(text).filter(|region| (region.start..region.end).contains(&address));
            match lines::find_in(File::from(maps), holds)? {
                // A process whose memory may not be seen has an empty file, or an error.
                (None, false) => Err(io::Error::from_raw_os_error(libc::EACCES)),
                (found, _) => Ok(found),
            }
        }
    }
}

/// `struct procmap_query` of Linux 6.11.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// `PROCMAP_QUERY`
const QUERY: libc::c_ulong = 0xc068_6611;

const _: () = assert!(size_of::<Query>() == 0x68, "the size is a part of the number");

fn query(maps: &OwnedFd, address: u64) -> io::Result<Option<Region>> {
    let mut name = [0_u8; libc::PATH_MAX as usize];
    let mut query = Query {
        size: size_of::<Query>() as u64,
        query_addr: address,
        vma_name_addr: name.as_mut_ptr() as u64,
        vma_name_size: name.len() as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes to `query`, whose size it is told and whose layout is the kernel's, and at most `vma_name_size`
    // bytes to `name`. Both outlive the call.
    let result = unsafe { libc::ioctl(maps.as_raw_fd(), QUERY, &raw mut query) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENOENT) { Ok(None) } else { Err(error) };
    }
    let len = (query.vma_name_size as usize).saturating_sub(1).min(name.len());
    Ok(Some(Region {
        start: query.vma_start,
        end: query.vma_end,
        can_write: query.vma_flags & 2 != 0,
        can_execute: query.vma_flags & 4 != 0,
        is_shared: query.vma_flags & 8 != 0,
        offset: query.vma_offset,
        device: (query.dev_major, query.dev_minor),
        inode: query.inode,
        name: OsString::from_vec(name[..len].to_vec()),
        page: Some(query.vma_page_size),
    }))
}

fn line(line: &[u8]) -> Option<Region> {
    // Five words, blanks, and a name that may contain blanks.
    let mut rest = line;
    let mut word = || {
        let begin = rest.iter().position(|&byte| byte != b' ')?;
        let len = rest[begin..].iter().position(|&byte| byte == b' ').unwrap_or(rest.len() - begin);
        let word = std::str::from_utf8(&rest[begin..begin + len]).ok()?;
        rest = &rest[begin + len..];
        Some(word)
    };
    let (range, permissions, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let begin = rest.iter().position(|&byte| byte != b' ').unwrap_or(rest.len());
    let permissions = permissions.as_bytes();
    Some(Region {
        start: hex(start)?,
        end: hex(end)?,
        can_write: permissions.get(1) == Some(&b'w'),
        can_execute: permissions.get(2) == Some(&b'x'),
        is_shared: permissions.get(3) == Some(&b's'),
        offset: hex(offset)?,
        device: (hex(major)? as u32, hex(minor)? as u32),
        inode: inode.parse().ok()?,
        name: OsString::from_vec(unescape(&rest[begin..])),
        page: None,
    })
}

/// The kernel writes a newline in a name as `\012`. A name that contains these four characters itself reads the same.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the address in the text of `maps`.
    fn search(text: &[u8], address: u64) -> Option<Region> {
        text.split(|&byte| byte == b'\n').filter_map(line).find(|region| (region.start..region.end).contains(&address))
    }

    fn this_process() -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self", flags, Mode::empty()).expect("/proc")
    }

    #[test]
    fn a_line_of_maps_is_parsed() {
        let text = b"1000-3000 rw-s 00002000 fe:01 77                         /tmp/a b\\012c (deleted)\n\
            5000-6000 r-xp 00000000 00:00 0\n";
        let region = search(text, 0x2fff).expect("the first line");
        let expected = Region {
            start: 0x1000,
            end: 0x3000,
            can_write: true,
            is_shared: true,
            offset: 0x2000,
            device: (0xfe, 1),
            inode: 77,
            name: "/tmp/a b\nc (deleted)".into(),
            ..Region::default()
        };
        assert_eq!(region, expected);
        assert_eq!(search(text, 0x3000), None);
        assert!(search(text, 0x5000).is_some_and(|region| region.can_execute && region.name.is_empty()));
    }

    #[test]
    fn the_query_and_the_text_say_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a name\nwith a newline");
        std::fs::write(&path, [1; 8192]).expect("write");
        let file = File::open(&path).expect("open");
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let address = start as u64 + 5000;
        let text = std::fs::read("/proc/self/maps").expect("maps");
        let region = search(&text, address).expect("it is mapped");
        assert_eq!((region.start, &region.name), (start as u64, &path.into_os_string()));
        let found = find(&this_process(), address).expect("maps").expect("it is mapped");
        assert_eq!(Region { page: None, ..found }, region);
        assert_eq!(find(&this_process(), 1).expect("maps"), None);
    }
}
