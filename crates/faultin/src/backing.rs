//! What stood behind a [`Cause::Backing`](crate::Cause::Backing) fault: one signal code serves a file's end, an I/O
//! error, a full file system and exhausted huge pages. Where the file is known, asking it tells them apart.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::fault::{Cause, Fault};
use crate::map::{file_system, is_full};
use crate::stat::fstat;

/// Why the memory behind a file mapping did not deliver, found out *after* the fault: the file may have changed again in
/// between.
#[derive(Debug)]
#[non_exhaustive]
pub enum Backing {
    /// The page lies beyond the file's end, which is at this size now.
    PastEnd {
        /// Bytes in the file now.
        size: u64,
    },
    /// Reading the same bytes from the file fails, too, and this is how.
    Io(io::Error),
    /// Nothing is allocated there, and nothing could be: the file system is full, or the huge pages are used up. (On
    /// tmpfs a load needs room, too, although reading the file gives zeros.)
    NoSpace,
    /// The file delivers now: it healed or grew again, or the fault was not the file's (a userfaultfd, an exhausted
    /// cgroup).
    Healthy,
}

impl Fault {
    /// Asks `file`, whose byte `offset` was behind the address that faulted. `None` if the cause was not its backing.
    ///
    /// # Errors
    /// If the file itself cannot be asked.
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

/// Whether the file has nothing allocated in the page of `offset`: where an access would have to allocate.
///
/// `SEEK_DATA` would move the position of the caller's description. Another description would have to be closed, and with
/// it go the record locks that the process has on the file (`fcntl(2)`). So what is asked moves nothing and opens nothing.
fn is_hole(file: &File, offset: u64) -> bool {
    let page = crate::page_size() as u64;
    let start = offset / page * page;
    let known = match file_system(file) {
        Some((kind, _)) if kind == libc::TMPFS_MAGIC as u32 => is_in_memory(file, start, page).map(|is| !is),
        _ => is_allocated(file, start, page).map(|is| !is),
    };
    known.unwrap_or_else(|| {
        // Somewhere in the file is a hole, and there is no space to fill one.
        let has_holes = fstat(file).is_ok_and(|about| about.st_blocks.saturating_mul(512) < about.st_size);
        has_holes && is_full(file)
    })
}

/// Whether the page cache or the swap has a byte of a range: on tmpfs nothing else does. `None` before Linux 6.5, and where
/// it may not be asked.
fn is_in_memory(file: &File, start: u64, len: u64) -> Option<bool> {
    /// The number of `cachestat(2)` on every architecture that this crate has code for.
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = [start, len];
    // Pages in the cache, dirty, under writeback, evicted, evicted lately.
    let mut counts = [0_u64; 5];
    // SAFETY: reads two numbers and writes five.
    let failed = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0) } != 0;
    let [cached, _, _, evicted, _] = counts;
    (!failed).then_some(cached + evicted > 0)
}

/// Whether the file system has space allocated for a byte of a range, or promised to one. `None` where it cannot tell.
fn is_allocated(file: &File, start: u64, len: u64) -> Option<bool> {
    /// `struct fiemap`, without room for extents: they are counted.
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
