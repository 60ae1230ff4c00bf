//! The mapped file: found by its name or among the program's descriptors, and asked for its size and its file system's space.

use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;

use super::region::{NAME, Region};
use super::sys::{Descriptor, call};

/// What a file answered.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub size: u64,
    /// `f_type`.
    pub kind: u64,
    /// The size of the file system in bytes, and what is free of it for this user.
    pub total: u64,
    pub free: u64,
    /// The bytes of a page: of hugetlbfs, of a huge one.
    pub page: u64,
}

impl Facts {
    pub(super) fn has_huge_pages(&self) -> bool {
        self.kind == libc::HUGETLBFS_MAGIC as u64
    }

    /// Returns whether its pages are memory, which has to be allocated for loads as well.
    pub(super) fn is_memory(&self) -> bool {
        self.kind == libc::TMPFS_MAGIC as u64
    }
}

/// The largest descriptor that is looked at.
const DESCRIPTORS: c_int = 4096;

/// Asks the file of a mapping; `None` if it is not found.
pub(super) fn ask(region: &Region, path: &mut [u8; NAME + 1]) -> Option<Facts> {
    let file = by_name(region, path).or_else(|| by_descriptor(region))?;
    let size = stat(&file)?.st_size;
    let mut space = MaybeUninit::<libc::statfs>::zeroed();
    let arguments = [file.number() as usize, space.as_mut_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: the kernel writes one `statfs`.
    unsafe { call(libc::SYS_fstatfs, arguments) }.ok()?;
    // SAFETY: written by the kernel.
    let space = unsafe { space.assume_init() };
    let block = space.f_bsize as u64;
    let kind = space.f_type as u64;
    let page = if kind == libc::HUGETLBFS_MAGIC as u64 { block } else { faultin::page_size() as u64 };
    Some(Facts {
        size: size.cast_unsigned(),
        kind,
        total: space.f_blocks.saturating_mul(block),
        free: space.f_bavail.saturating_mul(block),
        page,
    })
}

/// Opens it by its name, if that still leads to its inode, on whatever device: on btrfs and overlayfs, the list of mappings has
/// another one than the file. `O_PATH` neither waits nor changes anything.
fn by_name(region: &Region, path: &mut [u8; NAME + 1]) -> Option<Descriptor> {
    let name = region.name();
    if region.is_deleted || !name.starts_with(b"/") || name.len() >= NAME {
        return None;
    }
    path[..name.len()].copy_from_slice(name);
    path[name.len()] = 0;
    let path = CStr::from_bytes_until_nul(&path[..]).ok()?;
    Descriptor::open(path, libc::O_PATH)
        .filter(|file| stat(file).is_some_and(|stat| stat.st_ino == region.inode && is_regular(&stat)))
}

/// Finds it among the program's descriptors: a file that has no name any more (memfd) is often still open. Without a name, the
/// device has to be the same: other file systems have the same numbers of inodes.
fn by_descriptor(region: &Region) -> Option<Descriptor> {
    (0..DESCRIPTORS).map(Descriptor::of_program).find(|file| is_of(region, file))
}

fn is_of(region: &Region, file: &Descriptor) -> bool {
    stat(file).is_some_and(|stat| {
        let device = (libc::major(stat.st_dev), libc::minor(stat.st_dev));
        // (Memory file systems of the kernel's own have a device without a number of its own in the list of mappings.)
        stat.st_ino == region.inode && device == region.device
    })
}

fn is_regular(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn stat(file: &Descriptor) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let arguments = [file.number() as usize, stat.as_mut_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: the kernel writes one `stat`, which on these architectures is the C library's.
    unsafe { call(libc::SYS_fstat, arguments) }.ok()?;
    // SAFETY: written by the kernel.
    Some(unsafe { stat.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// As on btrfs and overlayfs.
    #[test]
    fn a_name_leads_to_the_file_whatever_the_device_in_the_list_of_mappings() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(5000).unwrap();
        // SAFETY: a new mapping.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ, libc::MAP_SHARED, file.as_file().as_raw_fd(), 0)
        };
        assert_ne!(base, libc::MAP_FAILED);
        let (mut region, mut path) = (Region::new(), [0; NAME + 1]);
        assert!(region.find(base as u64, &mut path) && region.inode != 0);
        let size = |region: &Region, path: &mut _| ask(region, path).map(|facts| facts.size);
        assert_eq!(size(&region, &mut path), Some(5000));

        region.device = (0xffe, 0xffe);
        assert_eq!(size(&region, &mut path), Some(5000));
        // Another file has the name by now, and the device says that the open descriptor is not the file.
        region.inode += 1;
        assert_eq!(size(&region, &mut path), None);
        region.inode -= 1;
        region.is_deleted = true;
        assert_eq!(size(&region, &mut path), None);
        // SAFETY: the mapping from above.
        unsafe { libc::munmap(base, 8192) };
    }
}
