//! What stood behind a [`Cause::Backing`](crate::Cause::Backing) fault: one signal code serves a file's end, an I/O
//! error, a full file system and exhausted huge pages. Where the file is known, asking it tells them apart.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::fault::{Cause, Fault};

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
        let size = file.metadata()?.len();
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
fn is_hole(file: &File, offset: u64) -> bool {
    use std::os::fd::AsRawFd;
    let page = crate::page_size() as u64;
    let start = offset / page * page;
    let Ok(from) = libc::off_t::try_from(start) else { return false };
    // SEEK_DATA moves the file's position, which is the caller's: ask through a description of our own.
    let Ok(own) = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) else { return false };
    // SAFETY: seeks a descriptor we own.
    let data = unsafe { libc::lseek(own.as_raw_fd(), from, libc::SEEK_DATA) };
    if data < 0 {
        // Nothing but a hole up to the end, or a file system that cannot tell.
        return io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
    }
    data as u64 >= start + page
}
