//! A store that is a file of the kernel.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use faultin::{CallError, without_sigxfsz};
use parking_lot::RwLock;
use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, Stat, StatxFlags, fallocate, fcntl_getfl, fstat, ioctl_blksszget, open,
    statx,
};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::kind::{self, Kind};
use super::uring::Ring;
use super::{ReadRequest, Store, WriteRequest, batch};

/// A file, or a block device, of the kernel.
///
/// The store reads and writes through its own open file description, so the flags and the position of the caller's
/// description stay unchanged, and do not matter afterwards. (Where `/proc` does not allow opening the file again, the
/// caller's description is used.)
///
/// The file belongs to the store: other code must not change it. A file that other code has truncated is an error of each
/// read that meets its end, of each write and of each [`sync`](Store::sync), until [`set_len`](Store::set_len) reduces it
/// to its remaining length; it is not extended again. Other changes are not noticed: the cache does not read bytes again
/// that it has read, and does not read bytes that other code appends.
///
/// A block device has a [fixed](Store::is_fixed) length. Bytes that are written to one through the kernel's page cache are
/// written out at once, so that a failure is an error of the write itself, which can be tried again.
///
/// ```
/// use std::fs::File;
///
/// use faultin_cache::{Cache, store::FileStore};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data");
/// let disk = File::options().read(true).write(true).create_new(true).open(&path)?;
/// let file = Cache::new().open(FileStore::new(disk)?)?;
/// file.append(b"to be")?;
/// file.sync_all()?;
/// assert_eq!(std::fs::read(&path)?, b"to be");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    given: File,
    /// `None` where the file could not be opened again.
    own: Option<File>,
    kind: Kind,
    identity: (u64, u64),
    alignment: usize,
    /// For writes past the kernel's page cache: other writes are done when the kernel has copied them.
    ring: Option<Ring>,
    /// The length that this store has given the file: it is never less. Locked while the file gets shorter.
    len: RwLock<u64>,
}

impl FileStore {
    /// Makes a store through the kernel's own page cache, which then has the bytes a second time.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput): the file is open with `O_APPEND`, or not for reading and writing; it
    /// is neither a regular file nor a block device; its size is not known (`/proc`, `/sys`). Otherwise the kernel's error.
    pub fn new(file: File) -> io::Result<FileStore> {
        FileStore::open(file, OFlags::empty())
    }

    /// Makes a store past the kernel's page cache (`O_DIRECT`). Scattered blocks are written back with many writes under
    /// way at once (`io_uring`, where the kernel has it and allows it).
    ///
    /// # Errors
    /// Those of [`new`](Self::new); also if the file system has no direct I/O, or the file cannot be opened again, unless
    /// its description has `O_DIRECT` already.
    pub fn direct(file: File) -> io::Result<FileStore> {
        let store = FileStore::open(file, OFlags::DIRECT)?;
        Ok(FileStore { ring: Some(Ring::new()), ..store })
    }

    fn open(given: File, direct: OFlags) -> io::Result<FileStore> {
        let (kind, stat) = kind::of(&given)?;
        let own = open_again(&given, &stat, direct)?;
        let file = own.as_ref().unwrap_or(&given);
        let is_direct = fcntl_getfl(file).map_err(named("fcntl"))?.contains(OFlags::DIRECT);
        if direct == OFlags::DIRECT && !is_direct {
            let says = "the file cannot be opened again with O_DIRECT, which its description does not have";
            return Err(io::Error::new(io::ErrorKind::Unsupported, says));
        }
        let alignment = if is_direct { direct_alignment(kind, file) } else { 1 };
        let len = kind::length(kind, file, &stat)?;
        let identity = (stat.st_dev, stat.st_ino);
        Ok(FileStore { given, own, kind, identity, alignment, ring: None, len: RwLock::new(len) })
    }

    /// Returns the file as it was given.
    pub fn file(&self) -> &File {
        &self.given
    }

    fn used(&self) -> &File {
        self.own.as_ref().unwrap_or(&self.given)
    }

    /// Returns whether bytes come from the kernel's page cache.
    fn is_cached(&self) -> bool {
        self.alignment == 1
    }

    /// Returns the current length of the file.
    fn current_len(&self) -> io::Result<u64> {
        let stat = fstat(self.used()).map_err(named("fstat"))?;
        if (stat.st_dev, stat.st_ino) != self.identity {
            return Err(io::Error::other("the file is another one than the store was made of"));
        }
        kind::length(self.kind, self.used(), &stat)
    }

    /// Checks that the file still has the length that the store has given it.
    fn check(&self) -> io::Result<()> {
        // No truncation of our own is in between.
        let len = self.len.read();
        let is = self.current_len()?;
        if is < *len { Err(truncated(is, *len)) } else { Ok(()) }
    }

    /// Checks, before bytes are written, a description that is not ours: it may have changed.
    fn check_write(&self) -> io::Result<()> {
        if self.own.is_none() && fcntl_getfl(&self.given).map_err(named("fcntl"))?.contains(OFlags::APPEND) {
            return Err(io::Error::other(
                "the file's description has got O_APPEND: what is written would land at its end",
            ));
        }
        self.check()
    }

    fn write_checked(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let written = without_sigxfsz(|| FileExt::write_at(self.used(), buf, pos)).map_err(named("pwrite64"))?;
        self.wrote(pos, written).map(|()| written)
    }

    /// Records that bytes were written.
    fn wrote(&self, pos: u64, written: usize) -> io::Result<()> {
        let end = pos + written as u64;
        match self.kind {
            Kind::BlockDevice if self.alignment == 1 && written > 0 => kind::write_out(self.used(), pos, written),
            Kind::BlockDevice => Ok(()),
            Kind::Regular => {
                if written > 0 && end > *self.len.read() {
                    let mut len = self.len.write();
                    *len = end.max(*len);
                }
                Ok(())
            }
        }
    }
}

/// Names the call in an error, if it was rejected as a whole.
fn named<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> io::Error {
    move |error| CallError::name(call, error.into())
}

/// Writes as [`Ring::write`] does. The kernel makes some of the writes while this thread submits them or waits: the signals
/// of all of them are this thread's.
fn write_many(ring: &Ring, file: &File, writes: &[WriteRequest<'_>]) -> Option<Vec<io::Result<usize>>> {
    let mut answers = None;
    let written = without_sigxfsz(|| {
        answers = ring.write(file, writes);
        let too_large =
            |answer: &&io::Result<usize>| answer.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG));
        match answers.iter().flatten().find(too_large) {
            Some(_) => Err(io::Error::from_raw_os_error(libc::EFBIG)),
            None => Ok(()),
        }
    });
    // Each result has its own error.
    drop(written);
    answers
}

fn truncated(is: u64, was: u64) -> io::Error {
    io::Error::other(format!("other code has truncated the file: it has {is} bytes and had {was}"))
}

/// Opens the same file once more, with a new description. `None` if the kernel does not allow it.
fn open_again(given: &File, stat: &Stat, direct: OFlags) -> io::Result<Option<File>> {
    let kept = fcntl_getfl(given).map_err(named("fcntl"))? & (OFlags::SYNC | OFlags::DSYNC);
    let path = format!("/proc/thread-self/fd/{}", given.as_raw_fd());
    match open(path, OFlags::RDWR | OFlags::CLOEXEC | kept | direct, Mode::empty()) {
        Ok(own) => {
            let own = File::from(own);
            let is = fstat(&own).map_err(named("fstat"))?;
            let is_same = (is.st_dev, is.st_ino, is.st_rdev) == (stat.st_dev, stat.st_ino, stat.st_rdev);
            Ok(is_same.then_some(own))
        }
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NOSYS
            | Errno::ROFS
            | Errno::TXTBSY
            | Errno::NXIO,
        ) => Ok(None),
        Err(error) => Err(named("openat")(error)),
    }
}

/// Returns the alignment that the kernel reports (since 6.1); otherwise a device's sector, or a page, which suffices for a
/// file everywhere.
fn direct_alignment(kind: Kind, file: &File) -> usize {
    let known = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    let known = known.filter(|stat| StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN));
    let known = known.map(|stat| stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize);
    let sector = || if kind == Kind::BlockDevice { ioctl_blksszget(file).ok().map(|size| size as usize) } else { None };
    let is_possible = |alignment: &usize| alignment.is_power_of_two();
    known.filter(is_possible).or_else(|| sector().filter(is_possible)).unwrap_or_else(faultin::page_size)
}

impl Store for FileStore {
    fn alignment(&self) -> usize {
        self.alignment
    }

    fn len(&self) -> io::Result<u64> {
        let mut len = self.len.write();
        *len = self.current_len()?;
        Ok(*len)
    }

    fn is_fixed(&self) -> bool {
        self.kind == Kind::BlockDevice
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.used().as_fd())
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let read = FileExt::read_at(self.used(), buf, pos).map_err(named("pread64"))?;
        if read == 0 {
            self.check()?;
        }
        Ok(read)
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        let mut answers = batch::read_many(self.used(), self.is_cached(), reads);
        for (answer, read) in answers.iter_mut().zip(reads) {
            if matches!(answer, Ok(0))
                && !read.bytes.is_empty()
                && let Err(error) = self.check()
            {
                *answer = Err(error);
            }
        }
        answers
    }

    /// What the kernel has in its page cache, where the file system can tell without waiting (`RWF_NOWAIT`; as of Linux 6.18
    /// not tmpfs, FUSE, and network file systems).
    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        if !self.is_cached() {
            // A direct read waits for the disk, whatever the flag.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match preadv2(self.used(), &mut [IoSliceMut::new(buf)], pos, ReadWriteFlags::NOWAIT) {
            // The end of the file, which a read that may wait examines.
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(read) => Ok(read),
            // File systems and kernels that do not have the flag.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            Err(Errno::AGAIN | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(named("preadv2")(error)),
        }
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.check_write()?;
        self.write_checked(buf, pos)
    }

    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<io::Result<usize>> {
        if self.check_write().is_err() {
            // Each with its own error.
            return writes.iter().map(|write| self.write_at(write.bytes, write.pos)).collect();
        }
        let ring = self.ring.as_ref().filter(|_| writes.len() > 1);
        let Some(answers) = ring.and_then(|ring| write_many(ring, self.used(), writes)) else {
            return writes.iter().map(|write| self.write_checked(write.bytes, write.pos)).collect();
        };
        let noted = writes.iter().zip(answers);
        noted.map(|(write, answer)| answer.and_then(|n| self.wrote(write.pos, n).map(|()| n))).collect()
    }

    fn set_len(&self, new: u64) -> io::Result<()> {
        if self.kind == Kind::BlockDevice {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut len = self.len.write();
        let is = self.current_len()?;
        if is < *len && new > is {
            return Err(truncated(is, *len));
        }
        without_sigxfsz(|| self.used().set_len(new)).map_err(named("ftruncate"))?;
        *len = new;
        Ok(())
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        let checked = self.check();
        let synced = match data_only {
            true => self.used().sync_data().map_err(named("fdatasync")),
            false => self.used().sync_all().map_err(named("fsync")),
        };
        checked.and(synced)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(self.used(), flags, range.start, range.end - range.start) {
            Ok(()) => Ok(()),
            // A device punches whole sectors only.
            Err(Errno::INVAL) if self.kind == Kind::BlockDevice => Err(io::ErrorKind::Unsupported.into()),
            Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(named("fallocate")(error)),
        }
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if self.kind == Kind::BlockDevice {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let len = range.end - range.start;
        let allocate = || Ok(fallocate(self.used(), FallocateFlags::KEEP_SIZE, range.start, len)?);
        without_sigxfsz(allocate).map_err(named("fallocate"))
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        // Truncating a file to its current length frees the space that is allocated past it, on ext4, xfs and f2fs.
        self.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the file could not be opened again, the caller's description is checked before each write.
    #[test]
    fn a_shared_description_that_appends_is_not_written_to() {
        let given = tempfile::tempfile().unwrap();
        given.write_all_at(&[7; 100], 0).unwrap();
        let other = given.try_clone().unwrap();
        let store = FileStore { own: None, ..FileStore::new(given).unwrap() };
        assert_eq!(store.write_at(&[8; 10], 20).unwrap(), 10);
        rustix::fs::fcntl_setfl(&other, OFlags::APPEND).unwrap();
        let says = store.write_at(&[9; 10], 20).unwrap_err().to_string();
        assert!(says.contains("O_APPEND"), "{says}");
        let answers =
            store.write_many(&[WriteRequest { pos: 0, bytes: &[9; 10] }, WriteRequest { pos: 50, bytes: &[9; 10] }]);
        assert!(answers.iter().all(Result::is_err));
        let mut bytes = [0; 100];
        other.read_exact_at(&mut bytes, 0).unwrap();
        let mut ought = [7; 100];
        ought[20..30].fill(8);
        assert_eq!((bytes, other.metadata().unwrap().len()), (ought, 100));
        rustix::fs::fcntl_setfl(&other, OFlags::empty()).unwrap();
        assert_eq!(store.write_at(&[9; 10], 20).unwrap(), 10);
    }
}
