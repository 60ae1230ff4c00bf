//! The file behind a mapping, opened.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

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
        if stat.st_ino == region.inode && (is_on(&stat, region) || leads_to(process, &place, &region.name)) {
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
    Ok((stat.st_ino == region.inode).then_some(Found { place, number: None }))
}

/// Whether the file is on the mapping's device. On btrfs and overlayfs it is not, although it is the file.
fn is_on(stat: &Stat, region: &Region) -> bool {
    (libc::major(stat.st_dev), libc::minor(stat.st_dev)) == region.device
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

/// The path of a mapping without what the kernel appends to it, and whether the file has been removed.
pub(super) fn path(name: &OsString) -> (OsString, bool) {
    match name.as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => (OsString::from_vec(path.to_vec()), true),
        None => (name.clone(), false),
    }
}

/// Another description of the same file, opened for writing.
pub(super) fn for_writing(file: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).ok()
}
