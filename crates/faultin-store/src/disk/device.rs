//! [`Device`]: the two files of a tier, and what tests put in their place.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Bytes on a disk, which may be slow, full or damaged.
pub trait Device: Send + Sync {
    /// Reads without waiting for the disk, and returns the number of bytes, which may be too few.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if the first byte has to be waited for.
    fn read_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;

    /// Reads all of `buf`, and waits as long as that takes.
    ///
    /// # Errors
    /// Those of the disk, and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<()>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Those of the disk.
    fn write(&self, bytes: &[u8], pos: u64) -> io::Result<()>;

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Truncates to `len` bytes, or extends with a hole.
    ///
    /// # Errors
    /// Those of the disk.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file.
pub struct FileDevice {
    file: File,
    /// Whether reads do not wait because the file is in memory anyway.
    is_memory: bool,
}

impl FileDevice {
    pub fn new(file: File) -> FileDevice {
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        let is_memory = fstatfs(&file).is_ok_and(|system| system.f_type as u64 == TMPFS_MAGIC);
        FileDevice { file, is_memory }
    }
}

impl Drop for FileDevice {
    /// Unlocks the file. Closing it would not, while a child that was forked meanwhile has not yet closed it, too.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Device for FileDevice {
    fn read_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        if self.is_memory {
            // tmpfs rejects the flag below.
            return self.file.read_at(buf, pos);
        }
        match preadv2(&self.file, &mut [IoSliceMut::new(buf)], pos, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count),
            // A file system without such reads, such as NFS, FUSE or overlayfs.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, pos)
    }

    fn write(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, pos)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
