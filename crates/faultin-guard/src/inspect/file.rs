//! The file behind a mapping, opened.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat};

use super::region::Region;

/// What a mapping is of.
pub(super) enum Opened {
    /// A file.
    File { file: OwnedFd, stat: Stat },
    /// A device: it is not opened, because that alone may have an effect.
    Device,
}

/// Opens the file of a mapping, for writing if `writes` and that is allowed.
///
/// # Errors
/// If no name of the file leads to it.
pub(super) fn open(process: &OwnedFd, thread: i32, region: &Region, writes: bool) -> io::Result<Opened> {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for way in [by_range, by_descriptor, by_path] {
        match way(process, region)
            .and_then(|found| found.map(|found| found.open(process, thread, region, writes)).transpose())
        {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A name below `/proc/PID` that leads to the file.
struct Found {
    place: PathBuf,
    /// The descriptor's number, if it is one.
    number: Option<i32>,
}

impl Found {
    /// Opens what it leads to, if that is a regular file. What a name leads to may change from one moment to the next, so it is taken
    /// hold of first.
    fn open(self, process: &OwnedFd, thread: i32, region: &Region, writes: bool) -> io::Result<Opened> {
        let file = openat(process.as_fd(), &self.place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Opened::Device);
        }
        // Another thread may have mapped another file there meanwhile, one that it may only read. (On overlayfs numbers may differ all
        // the same.)
        let writes = writes && stat.st_ino == region.inode;
        let file = open_again(&file, writes).or_else(|error| match self.number {
            Some(number) => duplicate(thread, number).map_err(|_| error),
            None => Err(error),
        })?;
        Ok(Opened::File { stat: fstat(&file)?, file })
    }
}

/// By the mapping itself: for files without a name, in any namespace. Needs a privilege.
fn by_range(process: &OwnedFd, region: &Region) -> io::Result<Option<Found>> {
    let place = PathBuf::from(format!("map_files/{:x}-{:x}", region.start, region.end));
    statat(process.as_fd(), &place, AtFlags::empty())?;
    Ok(Some(Found { place, number: None }))
}

/// By a descriptor that the process has open.
fn by_descriptor(process: &OwnedFd, region: &Region) -> io::Result<Option<Found>> {
    let folder = openat(process.as_fd(), "fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let place = PathBuf::from("fd").join(OsStr::from_bytes(entry.file_name().to_bytes()));
        let Some(number) = place.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = statat(process.as_fd(), &place, AtFlags::empty()) else { continue };
        let is_it = || is_on(&stat, region) || is_elsewhere(process, &place) && leads_to(process, &place, &region.name);
        if stat.st_ino == region.inode && is_it() {
            return Ok(Some(Found { place, number: Some(number) }));
        }
    }
    Ok(None)
}

/// By the path that the mapping shows, from the root of the process.
fn by_path(process: &OwnedFd, region: &Region) -> io::Result<Option<Found>> {
    let Some(below) = region.name.as_bytes().strip_prefix(b"/") else { return Ok(None) };
    let place = PathBuf::from("root").join(OsStr::from_bytes(below));
    let stat = statat(process.as_fd(), &place, AtFlags::empty())?;
    // Another file system may have been mounted there since, and file systems number their files alike.
    let is_it = stat.st_ino == region.inode && (is_on(&stat, region) || is_elsewhere(process, &place));
    Ok(is_it.then_some(Found { place, number: None }))
}

/// Whether the file is on the mapping's device.
fn is_on(stat: &Stat, region: &Region) -> bool {
    (libc::major(stat.st_dev), libc::minor(stat.st_dev)) == region.device
}

/// Whether mappings of the file's file system show another device than its status: those of btrfs and overlayfs do.
fn is_elsewhere(process: &OwnedFd, place: &PathBuf) -> bool {
    let file = openat(process.as_fd(), place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    file.and_then(fstatfs).is_ok_and(|system| {
        let kind = system.f_type as u64;
        kind == libc::BTRFS_SUPER_MAGIC as u64 || kind == libc::OVERLAYFS_SUPER_MAGIC as u64
    })
}

fn leads_to(process: &OwnedFd, place: &PathBuf, name: &OsString) -> bool {
    readlinkat(process.as_fd(), place, Vec::new()).is_ok_and(|target| target.as_bytes() == name.as_bytes())
}

/// Opens what was opened as a place only.
fn open_again(place: &OwnedFd, writes: bool) -> io::Result<OwnedFd> {
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags| rustix::fs::open(&place, flags, Mode::empty());
    if writes && let Ok(file) = open(flags | OFlags::RDWR) {
        return Ok(file);
    }
    // Reading it is to leave no trace.
    Ok(open(flags | OFlags::RDONLY | OFlags::NOATIME).or_else(|_| open(flags | OFlags::RDONLY))?)
}

/// Another descriptor for the open file description of the process: for a file that it was given, but that its user may not
/// open.
fn duplicate(thread: i32, number: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(thread).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    Ok(rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty())?)
}

/// The path of a mapping without what the kernel appends to it, and whether the file has been removed. `is_unlinked` says
/// whether the opened file has no name left; `has_name`, whether the text is a name of it as it stands.
pub(super) fn path(name: &OsString, is_unlinked: bool, has_name: impl FnOnce() -> bool) -> (OsString, bool) {
    match name.as_bytes().strip_suffix(b" (deleted)") {
        // The kernel appends this to a removed name. A name may end so itself.
        Some(path) if is_unlinked || !has_name() => (OsString::from_vec(path.to_vec()), true),
        _ => (name.clone(), false),
    }
}

/// Whether the text of the mapping is the file's name, from the root of the process.
pub(super) fn has_name(process: &OwnedFd, region: &Region) -> bool {
    by_path(process, region).is_ok_and(|found| found.is_some())
}

/// Another description of the same file, opened for writing.
pub(super) fn for_writing(file: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::inspect::region;

    #[test]
    fn a_name_may_end_as_a_removed_one() {
        let table = [
            ("/a", false, true, "/a", false),
            ("/a (deleted)", true, false, "/a", true),
            ("/a (deleted)", false, true, "/a (deleted)", false),
            ("/a (deleted) (deleted)", true, false, "/a (deleted)", true),
            // Another name of it is left.
            ("/a (deleted)", false, false, "/a", true),
            // It has been removed, and another file has the name: the inode was given to that one.
            ("/a (deleted)", true, true, "/a", true),
        ];
        for (name, is_unlinked, has_name, expected, is_deleted) in table {
            let found = path(&name.into(), is_unlinked, || has_name);
            assert_eq!(found, (expected.into(), is_deleted), "{name}, {is_unlinked}, {has_name}");
        }
    }

    #[test]
    fn a_file_of_another_file_system_with_the_same_number_is_another_file() {
        // (A file system whose mappings have its device.)
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let name = folder.path().join("file");
        let file = File::create_new(&name).expect("a file");
        let own = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("/proc");
        let stat = fstat(&file).expect("a status");
        let device = (libc::major(stat.st_dev), libc::minor(stat.st_dev));
        let mut region = Region { device, inode: stat.st_ino, name: name.into_os_string(), ..Region::default() };
        let found =
            |region: &Region| [by_path, by_descriptor].map(|way| way(&own, region).expect("a status").is_some());
        assert_eq!(found(&region), [true, true]);
        region.device.1 += 1;
        assert_eq!(found(&region), [false, false]);
    }

    #[test]
    fn the_kernel_is_asked_whether_a_name_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().join("a (deleted)");
        let file = File::create_new(&name).expect("a file");
        file.set_len(1).expect("a byte");
        let own = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("/proc");
        // SAFETY: a new mapping, which is not accessed and stays until the process ends.
        let start = unsafe {
            let (flags, fd) = (libc::MAP_SHARED, file.as_raw_fd());
            libc::mmap(std::ptr::null_mut(), 1, libc::PROT_READ, flags, fd, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let found = || {
            let region = region::find(&own, start as u64).expect("maps").expect("the mapping");
            let stat = fstat(&file).expect("a status");
            path(&region.name, stat.st_nlink == 0, || has_name(&own, &region))
        };
        assert_eq!(found(), (name.clone().into_os_string(), false));
        let other = folder.path().join("other");
        std::fs::hard_link(&name, &other).expect("a second name");
        std::fs::remove_file(&name).expect("it is removed");
        assert_eq!(found(), (name.clone().into_os_string(), true));
        std::fs::remove_file(&other).expect("it is removed");
        assert_eq!(found(), (name.into_os_string(), true));
    }
}
