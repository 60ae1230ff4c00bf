//! The reason of a [`Cause::Backing`](crate::Cause::Backing) fault: the end of the file, an I/O error, a full file system
//! and exhausted huge pages share one signal code. Where the file is known, querying it tells them apart.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::fault::{Cause, Fault};
use crate::map::hints::cached_pages;
use crate::map::{file_system, is_full};
use crate::stat::fstat;

/// Why the memory behind a file mapping was not delivered, determined *after* the fault: the file may have changed again in
/// between.
#[derive(Debug)]
#[non_exhaustive]
pub enum Backing {
    /// The page is past the end of the file.
    PastEnd {
        /// Size of the file now, in bytes.
        size: u64,
    },
    /// Reading the same bytes from the file fails, too, with this error.
    Io(io::Error),
    /// Nothing is allocated there, and nothing could be: the file system is full, or the pool of huge pages is empty. (On
    /// tmpfs a load needs space, too, although reading the file returns zeros.)
    NoSpace,
    /// Reading the file succeeds now: it recovered or grew again, or the file did not cause the fault (a userfaultfd, an
    /// exhausted cgroup).
    Healthy,
}

impl Fault {
    /// Queries `file`, whose byte `offset` was behind the address that faulted. `None` if the cause is not
    /// [`Cause::Backing`](crate::Cause::Backing).
    ///
    /// # Errors
    /// If the file itself cannot be queried.
    pub fn diagnose(&self, file: &File, offset: u64) -> io::Result<Option<Backing>> {
        if self.cause() != Cause::Backing {
            return Ok(None);
        }
        let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        let page = crate::page_size() as u64;
        // The page that holds the last byte is accessible to its end.
        if offset / page * page >= size {
            return Ok(Some(Backing::PastEnd { size }));
        }
        if let Err(error) = file.read_at(&mut [0], offset.min(size - 1)) {
            return Ok(Some(Backing::Io(error)));
        }
        if is_hole(file, offset) {
            return Ok(Some(Backing::NoSpace));
        }
        Ok(Some(Backing::Healthy))
    }
}

/// Returns whether the file has nothing allocated in the page of `offset`, so that an access would have to allocate.
///
/// `SEEK_DATA` would move the position of the caller's description. Another description would have to be closed, which
/// drops the process's record locks on the file (`fcntl(2)`). So the queries here move nothing and open nothing.
fn is_hole(file: &File, offset: u64) -> bool {
    let page = crate::page_size() as u64;
    let start = offset / page * page;
    let known = match file_system(file) {
        Some((kind, _)) if kind == libc::TMPFS_MAGIC as u32 => is_in_memory(file, start, page).map(|is| !is),
        _ => is_allocated(file, start, page).map(|is| !is),
    };
    known.unwrap_or_else(|| {
        // The file has a hole somewhere, and there is no space to fill one.
        let has_holes = fstat(file).is_ok_and(|about| about.st_blocks.saturating_mul(512) < about.st_size);
        has_holes && is_full(file)
    })
}

/// Returns whether the page cache or the swap has a byte of a range: on tmpfs nothing else does. `None` before Linux 6.5,
/// and where the call is forbidden.
fn is_in_memory(file: &File, start: u64, len: u64) -> Option<bool> {
    cached_pages(file, start, len).map(|(cached, evicted)| cached + evicted > 0)
}

/// Returns whether the file system has space allocated or reserved for a byte of a range. `None` where it cannot tell.
fn is_allocated(file: &File, start: u64, len: u64) -> Option<bool> {
    /// `struct fiemap`, without room for extents: they are only counted.
    #[repr(C)]
    struct Fiemap {
        start: u64,
        len: u64,
        flags: u32,
        mapped: u32,
        room: u32,
        reserved: u32,
    }
    /// `_IOWR('f', 11, struct fiemap)`.
    const FS_IOC_FIEMAP: u32 = 0xc020_660b;
    let mut map = Fiemap { start, len, flags: 0, mapped: 0, room: 0, reserved: 0 };
    // SAFETY: reads and writes the structure, and has no room for more.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut map) } != 0;
    (!failed).then_some(map.mapped > 0)
}
