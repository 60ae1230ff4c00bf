//! Making the memory of a mapped file, and reading it, through buffers.

#![forbid(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::Arc;

use faultin::{CallError, without_sigxfsz};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::Backing;
use crate::bounce::Bounce;
use crate::pager::step::{Step, step};
use crate::sys;

/// Maximum number of buffers of a file that are kept for later.
const MAX_BUFFERS: usize = 4;

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

    /// Returns a buffer of `len` bytes with unspecified contents.
    pub(crate) fn buffer(self: &Arc<Self>, len: usize) -> Buffer {
        let at_once = self.at_once();
        if len > at_once {
            return Buffer::new(len, self.block);
        }
        // Without waiting: a handler may have interrupted the thread that has the lock, and waits for this one.
        let used_before = self.buffers.try_lock().and_then(|mut buffers| buffers.pop());
        let bytes = used_before.unwrap_or_else(|| Bounce::new(at_once, self.block));
        Buffer { bytes, len, again: Some(Arc::clone(self)) }
    }
}

/// A buffer, aligned to a block.
pub(crate) struct Buffer {
    bytes: Bounce,
    len: usize,
    /// The backing that reuses it.
    again: Option<Arc<Backing>>,
}

impl Buffer {
    /// Makes a buffer that is not reused.
    pub(crate) fn new(len: usize, block: usize) -> Buffer {
        Buffer { bytes: Bounce::new(len, block), len, again: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.bytes(self.len)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.bytes_mut(self.len)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(backing) = &self.again {
            // Without waiting, as above.
            if let Some(mut buffers) = backing.buffers.try_lock().filter(|buffers| buffers.len() < MAX_BUFFERS) {
                buffers.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folio::{Arena, Extent};

    #[test]
    fn bytes_are_where_they_are_in_the_file_and_go_with_their_folio() {
        let (arena, backing) = (Arena::new(4096, 1 << 20), Backing::new(4096).unwrap());
        let pos = (1 << 40) + 8192;
        let extent = Extent::new(Arc::clone(&backing), pos, arena.take(8192, 0).unwrap());
        backing.write(&[7; 3], pos + 4095).unwrap();
        let mut buffer = backing.buffer(8192);
        backing.read(&mut buffer, pos).unwrap();
        assert_eq!((&buffer[4094..4099], arena.used()), (&[0, 7, 7, 7, 0][..], 8192));
        drop(extent);
        backing.read(&mut buffer, pos).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0));
        assert_eq!(arena.used(), 0);
    }

    #[test]
    fn few_buffers_stay_and_none_is_waited_for() {
        let backing = Backing::new(4096).unwrap();
        let buffers: Vec<_> = (0..3 * MAX_BUFFERS).map(|_| backing.buffer(100)).collect();
        drop(buffers);
        assert_eq!(backing.buffers.lock().len(), MAX_BUFFERS);
        let held = backing.buffers.lock();
        drop(backing.buffer(100));
        assert_eq!(held.len(), MAX_BUFFERS);
    }
}
