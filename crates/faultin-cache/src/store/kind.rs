//! What a store's file is, asked when the store is made: a file of a known length whose bytes stay where they are written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, fstatfs};
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

/// Where the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    /// Its length never changes, as far as a store is concerned.
    BlockDevice,
}

/// File systems whose files are made up when they are read, by the `f_type` of `statfs(2)`: their sizes say nothing. Reading
/// there can wait forever or have effects, so nothing is tried.
const MADE_UP: [u32; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6265_6570, // configfs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x4249_4e4d, // binfmt_misc
    0xcafe_4a11, // bpf
    0x6e73_6673, // namespaces
    0x1980_0202, // message queues
    0xabba_1974, // xenfs
];

/// Returns what the file is.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput), with a sentence, if it cannot be a store; the kernel's.
pub(super) fn of(file: &File) -> io::Result<(Kind, Stat)> {
    let flags = fcntl_getfl(file)?;
    if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE != OFlags::RDWR {
        return Err(refused("a store reads and writes its file, which is not open for both"));
    }
    if flags.contains(OFlags::APPEND) {
        return Err(refused("the file is open with O_APPEND: what a store writes would land at its end"));
    }
    let stat = fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if has_known_size(file, &stat)? => Ok((Kind::Regular, stat)),
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

fn has_known_size(file: &File, stat: &Stat) -> io::Result<bool> {
    if MADE_UP.contains(&(fstatfs(file)?.f_type as u32)) {
        return Ok(false);
    }
    if stat.st_size > 0 {
        return Ok(true);
    }
    // Also elsewhere (FUSE) there are files of size 0 that have bytes.
    loop {
        match file.read_at(&mut [0], 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // With O_DIRECT one byte cannot be asked for.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(true),
            result => return result.map(|read| read == 0),
        }
    }
}

/// `BLKGETSIZE64`, which takes the size of a pointer for the size of its argument.
const GET_SIZE: Opcode = opcode::read::<usize>(0x12, 114);

/// Returns the length of the file as it is now. The file's position stays where it is.
///
/// # Errors
/// The kernel's.
pub(super) fn length(kind: Kind, file: impl AsFd, stat: &Stat) -> io::Result<u64> {
    match kind {
        Kind::Regular => u64::try_from(stat.st_size).map_err(io::Error::other),
        // SAFETY: `BLKGETSIZE64` writes a number of 64 bits.
        Kind::BlockDevice => Ok(unsafe { ioctl(file, Getter::<GET_SIZE, u64>::new()) }?),
    }
}

/// Has the kernel write what it has cached of `len` bytes from `pos` on, and waits for it: what fails is an error now, and not of
/// a later `fsync`, which would say nothing of where.
///
/// # Errors
/// The device's.
pub(super) fn write_out(file: &File, pos: u64, len: usize) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (pos, len) = (pos.cast_signed(), len as i64);
    // SAFETY: a system call that is given a descriptor and numbers.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), pos, len, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
