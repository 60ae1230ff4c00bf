//! The memory of a file that is mapped: its own memfd, in which each folio is at its offset in the file, so that a mapping
//! of the file is a mapping of the memfd, and shares the folios.
//!
//! Its bytes change through mappings at any time, so no code here has a slice of them: they are read and written by system
//! calls, through buffers. (This also avoids zeroing new pages first.) The range of a dropped folio is freed (a hole is
//! punched), because no other file can use it.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use faultin::{CallError, without_sigxfsz};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::arena::Account;
use crate::bounce::Bounce;
use crate::pager::step::{Step, step};
use crate::sys;

/// Maximum number of bytes copied to or from a mapped file at once, through a buffer that stays in the CPU's cache.
const AT_ONCE: usize = 32 << 10;

/// A memfd, as long as a file can be.
#[derive(Debug)]
pub(crate) struct Backing {
    file: OwnedFd,
    block: usize,
    /// The process that has the folios. A child of `fork` has the descriptor, too.
    process: u32,
    /// Buffers of [`at_once`](Self::at_once) bytes each.
    buffers: Mutex<Vec<Bounce>>,
}

impl Backing {
    /// Makes a memfd with room for any file, in blocks of `block` bytes. It takes no memory yet.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn new(block: usize) -> io::Result<Arc<Backing>> {
        let named = |call: &'static str| move |error: Errno| CallError::name(call, error.into());
        let file = rustix::fs::memfd_create("faultin-cache", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(named("memfd_create"))?;
        // Nothing can be longer than the limit.
        let most = sys::file_size_limit().min(i64::MAX as u64);
        let most = most - most % rustix::param::page_size() as u64;
        without_sigxfsz(|| rustix::fs::ftruncate(&file, most).map_err(named("ftruncate")))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).map_err(named("fcntl"))?;
        Ok(Arc::new(Backing { file, block, process: faultin::process(), buffers: Mutex::new(Vec::new()) }))
    }

    /// Returns the maximum number of bytes to copy at once.
    #[inline]
    pub(crate) fn at_once(&self) -> usize {
        AT_ONCE.max(self.block)
    }

    /// Reads bytes of a folio.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn read(&self, mut buf: &mut [u8], mut pos: u64) -> io::Result<()> {
        let read = Step::Read { pos, len: buf.len() };
        while !buf.is_empty() {
            match sys::pread(self.as_fd(), buf, pos) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => (buf, pos) = (&mut buf[read..], pos + read as u64),
                Err(Errno::INTR) => {}
                Err(error) => return Err(CallError::name("pread64", error.into())),
            }
        }
        step(read);
        Ok(())
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

    /// Returns a buffer of `len` bytes with unspecified contents.
    pub(crate) fn buffer(&self, len: usize) -> Buffer<'_> {
        let at_once = self.at_once();
        let is_new = len > at_once;
        let used_before = if is_new { None } else { self.buffers.lock().pop() };
        let bytes = used_before.unwrap_or_else(|| Bounce::new(len.max(at_once), self.block));
        Buffer { bytes, len, again: (!is_new).then_some(self) }
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

/// A buffer, aligned to a block.
pub(crate) struct Buffer<'a> {
    bytes: Bounce,
    len: usize,
    /// The backing that reuses it.
    again: Option<&'a Backing>,
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.bytes(self.len)
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.bytes_mut(self.len)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        if let Some(backing) = self.again {
            backing.buffers.lock().push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A part of a mapped file's memory, owned by one folio.
pub(crate) struct Extent {
    pub(crate) backing: Arc<Backing>,
    pub(crate) pos: u64,
    account: Account,
}

impl Extent {
    pub(crate) fn new(backing: &Arc<Backing>, pos: u64, account: Account) -> Extent {
        Extent { backing: Arc::clone(backing), pos, account }
    }

    #[inline]
    pub(crate) fn at_once(&self) -> usize {
        self.backing.at_once()
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn len(&self) -> usize {
        self.account.len()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folio::Arena;

    #[test]
    fn bytes_are_where_they_are_in_the_file_and_go_with_their_folio() {
        let (arena, backing) = (Arena::new(4096, 1 << 20), Backing::new(4096).unwrap());
        let pos = (1 << 40) + 8192;
        let extent = Extent::new(&backing, pos, arena.take(8192, 0).unwrap());
        backing.write(&[7; 3], pos + 4095).unwrap();
        let mut buffer = backing.buffer(8192);
        backing.read(&mut buffer, pos).unwrap();
        assert_eq!((&buffer[4094..4099], arena.used()), (&[0, 7, 7, 7, 0][..], 8192));
        drop(extent);
        backing.read(&mut buffer, pos).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0));
        assert_eq!(arena.used(), 0);
    }
}
