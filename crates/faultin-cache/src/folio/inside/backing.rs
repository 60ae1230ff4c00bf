//! The memory of a file that is mapped: its own memfd, in which each folio is at its offset in the file, so that a mapping
//! of the file is a mapping of the memfd, and shares the folios.
//!
//! Its bytes change through mappings at any time, so no code here has a slice of them: they are read and written by system
//! calls, through buffers. (This also avoids zeroing new pages first.) The range of a dropped folio is freed (a hole is
//! punched), because no other file can use it.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::bounce::Bounce;
use crate::folio::arena::{Account, Elsewhere};
use crate::pager::step::{Step, step};
use crate::sys;

/// Maximum number of bytes copied to or from a mapped file at once, through a buffer that stays in the CPU's cache.
const AT_ONCE: usize = 32 << 10;

/// A memfd, as long as a file can be.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(in crate::folio) file: OwnedFd,
    pub(in crate::folio) block: usize,
    /// The process that has the folios. A child of `fork` has the descriptor, too.
    pub(in crate::folio) process: u32,
    /// Buffers of [`at_once`](Self::at_once) bytes each.
    pub(in crate::folio) buffers: Mutex<Vec<Bounce>>,
}

impl Backing {
    /// Returns the maximum number of bytes to copy at once.
    #[inline]
    pub(crate) fn at_once(&self) -> usize {
        AT_ONCE.max(self.block)
    }

    /// Writes bytes of a folio. System calls, and nothing else. Async-signal-safe.
    ///
    /// # Errors
    /// The number of bytes that were written, and the reason why the kernel has no memory for more.
    pub(crate) fn write(&self, buf: &[u8], pos: u64) -> Result<(), (usize, Errno)> {
        let mut done = 0;
        while done < buf.len() {
            match sys::pwrite(self.as_fd(), &buf[done..], pos + done as u64) {
                Ok(0) => return Err((done, Errno::NOMEM)),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(error) => return Err((done, error)),
            }
        }
        step(Step::Wrote { pos, len: buf.len() });
        Ok(())
    }

    /// Frees the memory of a range. A system call, and nothing else. Async-signal-safe.
    pub(crate) fn punch(&self, pos: u64, len: usize) {
        // Memory that cannot be freed belongs to no folio, and is never read.
        let _ = sys::punch_hole(self.as_fd(), pos, len);
        step(Step::Punched { pos, len });
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A part of a mapped file's memory, owned by one folio.
pub(crate) struct Extent {
    pub(crate) backing: Arc<Backing>,
    pub(crate) pos: u64,
    taken: Elsewhere,
}

impl Extent {
    pub(crate) fn new(backing: Arc<Backing>, pos: u64, taken: Elsewhere) -> Extent {
        Extent { backing, pos, taken }
    }

    #[inline]
    pub(crate) fn at_once(&self) -> usize {
        self.backing.at_once()
    }

    pub(crate) fn account(&self) -> &Account {
        self.taken.account()
    }

    pub(crate) fn len(&self) -> usize {
        self.account().len()
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // A child's copy is not the folio.
        if self.backing.process == faultin::process() {
            self.backing.punch(self.pos, self.len());
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent").field("pos", &self.pos).field("len", &self.len()).finish_non_exhaustive()
    }
}
