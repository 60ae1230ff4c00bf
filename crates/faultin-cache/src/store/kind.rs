//! The kind of a store's file, checked when the store is made: a file of a known length whose bytes stay where they are
//! written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use faultin::CallError;
use faultin::map::has_known_size;
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat};
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

/// The kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    /// Its length never changes, as far as a store is concerned.
    BlockDevice,
}

/// Returns the kind of the file.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput), with a sentence, if it cannot be a store; otherwise the kernel's error.
pub(super) fn of(file: &File) -> io::Result<(Kind, Stat)> {
    let flags = fcntl_getfl(file).map_err(|error| CallError::name("fcntl", error.into()))?;
    if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE != OFlags::RDWR {
        return Err(refused("a store reads and writes its file, which is not open for both"));
    }
    if flags.contains(OFlags::APPEND) {
        return Err(refused("the file is open with O_APPEND: what a store writes would land at its end"));
    }
    let stat = fstat(file).map_err(|error| CallError::name("fstat", error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if has_known_size(file)? => Ok((Kind::Regular, stat)),
        FileType::RegularFile => Err(refused("the file's size is not known: it is made up when it is read")),
        FileType::BlockDevice => Ok((Kind::BlockDevice, stat)),
        other => {
            let what = match other {
                FileType::Directory => "a directory",
                FileType::CharacterDevice => "a character device",
                FileType::Fifo => "a pipe",
                FileType::Socket => "a socket",
                _ => "neither a file nor a device",
            };
            Err(refused(&format!("a store needs a regular file or a block device, and this is {what}")))
        }
    }
}

fn refused(says: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, says)
}

/// `BLKGETSIZE64`, whose number encodes the size of a pointer as the size of its argument.
const GET_SIZE: Opcode = opcode::read::<usize>(0x12, 114);

/// Returns the current length of the file. The file's position stays unchanged.
///
/// # Errors
/// The kernel's error.
pub(super) fn length(kind: Kind, file: impl AsFd, stat: &Stat) -> io::Result<u64> {
    match kind {
        Kind::Regular => u64::try_from(stat.st_size).map_err(io::Error::other),
        // SAFETY: `BLKGETSIZE64` writes a number of 64 bits.
        Kind::BlockDevice => unsafe { ioctl(file, Getter::<GET_SIZE, u64>::new()) }
            .map_err(|error| CallError::name("ioctl", error.into())),
    }
}

/// Writes out what the kernel has cached of `len` bytes from `pos` on, and waits: a failure is an error now, and not of a
/// later `fsync`, which would not report the position.
///
/// # Errors
/// The device's error.
pub(super) fn write_out(file: &File, pos: u64, len: usize) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (pos, len) = (pos.cast_signed(), len as i64);
    // SAFETY: a system call that is given a descriptor and numbers.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), pos, len, flags) } {
        0 => Ok(()),
        _ => Err(CallError::name("sync_file_range", io::Error::last_os_error())),
    }
}
