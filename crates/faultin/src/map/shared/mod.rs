//! [`SharedMap`]: memory shared with a peer that is not trusted, and [rings](ring) in it.

pub(super) mod ring;

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ops::Range;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use super::error::{MapError, Reason, Stop};
use super::mapping::{Mapping, Refused, Rights};
use super::slice::{Damaged, Scan, bus_is_blocked};
use crate::arch;
use crate::fault::{Access, Cause, Fault, Short};
use crate::scalar::Scalar;
use crate::view::{ReadView, WriteView};

/// A buffer shared with another process: a memfd, a file in `/dev/shm`, whatever descriptor it has sent.
///
/// The peer may do with it what it likes: write to it while it is read, shrink it, fill the file system it lives in.
/// An access that fails is a count and a cause; none kills us, and none waits or repeats itself for the peer's sake: each
/// takes one fault at most. So a peer that shrinks the buffer for ever costs as many signals as we make accesses, each
/// a few microseconds, and no more.
///
/// What is *in* the buffer may change between two looks. So look once: [`read_once`](Self::read_once) and
/// [`read_at`](Self::read_at) make a copy, and it is the copy that is checked and used. Positions are bytes from the
/// start of the buffer.
///
/// Its length is that of the mapping, chosen when it is made. If the descriptor is *sealed* against shrinking
/// (`F_SEAL_SHRINK`), no byte of it can go: protocols may demand that, see [`is_sealed`](Self::is_sealed).
#[derive(Debug)]
pub struct SharedMap {
    mapping: Mapping,
    file: File,
    len: usize,
    sealed: bool,
}

impl SharedMap {
    /// New memory of `len` bytes, all zero, readable and writable: a memfd, which [`seal`](Self::seal) can seal. Whoever
    /// gets its [descriptor](Self::as_fd) shares it. `name` is for people who look at `/proc`.
    ///
    /// # Errors
    /// [`Io`](Reason::Io); [`Handler`](Reason::Handler) if faults could not be recovered.
    pub fn create(name: &CStr, len: usize) -> Result<Self, MapError> {
        let file = || -> io::Result<File> {
            // SAFETY: a string and flags.
            let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: a new descriptor that nobody else owns.
            let file = unsafe { File::from_raw_fd(fd) };
            file.set_len(len as u64)?;
            Ok(file)
        };
        let file = file().map_err(|error| failed(Reason::Io(error)))?;
        Self::new(file, len, Rights::ReadWrite)
    }

    /// The first `len` bytes of what a peer has sent, readable and writable.
    ///
    /// # Errors
    /// [`PastEnd`](Reason::PastEnd) if it has fewer now; [`NotAFile`](Reason::NotAFile) if it is no memory at all;
    /// [`Io`](Reason::Io), among others if it was opened for reading only; [`Handler`](Reason::Handler).
    pub fn from_file(file: File, len: usize) -> Result<Self, MapError> {
        Self::new(file, len, Rights::ReadWrite)
    }

    /// The same to read from only, whatever the descriptor allows. Writing fails with
    /// [`Protection`](Cause::Protection).
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn read_only(file: File, len: usize) -> Result<Self, MapError> {
        Self::new(file, len, Rights::Read)
    }

    fn new(file: File, len: usize, rights: Rights) -> Result<Self, MapError> {
        if !arch::HAS_TABLE {
            return Err(failed(Reason::Unsupported("sharing memory without a system call for each access")));
        }
        let metadata = file.metadata().map_err(|error| failed(Reason::Io(error)))?;
        if !metadata.is_file() {
            return Err(failed(Reason::NotAFile(metadata.file_type())));
        }
        if metadata.len() < len as u64 {
            return Err(failed(Reason::PastEnd { len: metadata.len() }));
        }
        let mapping = Mapping::new(&file, 0, len, rights).map_err(|refused| {
            failed(match refused {
                Refused::Handler(error) => Reason::Handler(error),
                Refused::Mmap(error) => Reason::Io(error),
            })
        })?;
        let sealed = cannot_shrink(&file);
        Ok(SharedMap { mapping, file, len, sealed })
    }

    /// Seals the memory: from here on nobody, the peer included, can change its size. Only memory of
    /// [`create`](Self::create), or of a peer who has allowed it.
    ///
    /// # Errors
    /// [`Io`](Reason::Io).
    pub fn seal(&mut self) -> Result<(), MapError> {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: a command with a number, about a descriptor we own.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(failed(Reason::Io(io::Error::last_os_error())));
        }
        self.sealed = cannot_shrink(&self.file);
        Ok(())
    }

    /// Whether it was sealed against shrinking when the map was made, or by [`seal`](Self::seal): then all its bytes
    /// are there, for ever. (A seal cannot be taken away. Memory on huge pages is never taken for sealed: it can
    /// fail for lack of them.) What the bytes *are* the peer decides all the same.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Bytes in the map.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the map has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The descriptor's file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Copies `dst.len()` bytes from position `at`.
    ///
    /// # Errors
    /// [`Short`]: so many bytes of `dst` were copied, and no other was changed. [`OutOfRange`](Cause::OutOfRange) if the
    /// map ends before; [`Backing`](Cause::Backing) if the memory does.
    #[inline]
    pub fn read_at(&self, dst: &mut [u8], at: usize) -> Result<(), Short> {
        self.check(at, dst.len(), Access::Read).map_err(|fault| Short { done: 0, fault })?;
        self.mapping.read(at, dst)
    }

    /// A copy of `N` bytes from position `at`, each loaded once: to be checked, decoded and used, whatever becomes of
    /// the original.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    #[inline]
    pub fn read_once<const N: usize>(&self, at: usize) -> Result<[u8; N], Short> {
        let mut copy = [0; N];
        self.read_at(&mut copy, at).map(|()| copy)
    }

    /// Loads the value at position `at`, in this machine's byte order.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    #[inline]
    pub fn load<T: Scalar>(&self, at: usize) -> Result<T, Fault> {
        self.check(at, size_of::<T>(), Access::Read)?;
        self.mapping.load(at)
    }

    /// Copies to position `at`.
    ///
    /// # Errors
    /// [`Short`]: so many bytes of the memory were stored, and no others. Causes as of [`read_at`](Self::read_at), and
    /// [`Protection`](Cause::Protection) if it is read-only.
    #[inline]
    pub fn write_at(&self, src: &[u8], at: usize) -> Result<(), Short> {
        self.check(at, src.len(), Access::Write).map_err(|fault| Short { done: 0, fault })?;
        self.mapping.write(at, src)
    }

    /// Stores a value at position `at`.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    #[inline]
    pub fn store<T: Scalar>(&self, at: usize, value: T) -> Result<(), Fault> {
        self.check(at, size_of::<T>(), Access::Write)?;
        self.mapping.store(at, value)
    }

    /// Whether the map has these bytes.
    #[inline]
    fn check(&self, at: usize, len: usize, access: Access) -> Result<(), Fault> {
        if at <= self.len && len <= self.len - at {
            return Ok(());
        }
        Err(Fault::refused(access, Cause::OutOfRange, self.mapping.base().addr().wrapping_add(at)))
    }

    /// Everything else that can be done with memory to read: atomic loads, strings, comparisons, searches, fault-in.
    #[inline]
    pub fn view(&self) -> ReadView<'_> {
        self.view_mut().as_read()
    }

    /// And with memory to write: atomic operations, fills, copies from one map to another.
    #[inline]
    pub fn view_mut(&self) -> WriteView<'_> {
        // SAFETY: the mapping's addresses are its own for as long as `self` is borrowed, and its handler is installed. What
        // it does not allow to be written faults.
        unsafe { WriteView::of_mapping(self.mapping.base(), self.len) }
    }

    /// Calls `read` with the bytes from position `at` as a slice of the memory itself, as
    /// [`FileMap::with_slice`](super::FileMap::with_slice) does. If it is [sealed](Self::is_sealed) this costs nothing
    /// at all. Otherwise pages that go become zeros, each at most once while it runs, and after the last of several
    /// that run at the same time the memory is behind the map again.
    ///
    /// # Errors
    /// [`Damaged`], with [`PastEnd`](Reason::PastEnd) if there are fewer bytes; or whose
    /// [`ranges`](Damaged::ranges) were zeros.
    ///
    /// # Safety
    /// As of [`FileMap::with_slice`](super::FileMap::with_slice): the peer may change any byte between two looks.
    pub unsafe fn with_slice<T>(&self, at: usize, len: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Damaged<T>> {
        if self.check(at, len, Access::Read).is_err() {
            return Err(Damaged::new(None, Vec::new(), failed(Reason::PastEnd { len: self.len as u64 })));
        }
        let place = self.mapping.base().wrapping_add(at).cast_const();
        // SAFETY: mapped and readable while `self` is borrowed. That its bytes change is the caller's affair.
        let slice = || unsafe { core::slice::from_raw_parts(place, len) };
        if self.sealed {
            return Ok(read(slice()));
        }
        if bus_is_blocked() || !self.mapping.enter(&self.file) {
            let mut copy = vec![0; len];
            let copied = self.read_at(&mut copy, at);
            let value = read(&copy);
            return match copied {
                Ok(()) => Ok(value),
                Err(Short { done, fault }) => Err(damaged(value, Some(at + done..at + len), fault)),
            };
        }
        let scan = Scan::new(&self.mapping, &self.file);
        let value = read(slice());
        let damage = self.mapping.damage(at, len);
        drop(scan);
        match damage.first() {
            None => Ok(value),
            Some(first) => {
                let fault = Fault::refused(Access::Read, Cause::Backing, place.addr() + (first.start - at));
                Err(damaged(value, damage, fault))
            }
        }
    }
}

impl AsFd for SharedMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cold]
fn failed(reason: Reason) -> MapError {
    MapError::new(None, 0, Stop::new(0, reason))
}

/// `ranges` of the map were zeros.
#[cold]
fn damaged<T>(value: T, ranges: impl IntoIterator<Item = Range<usize>>, fault: Fault) -> Damaged<T> {
    let ranges: Vec<_> = ranges.into_iter().map(|range| range.start as u64..range.end as u64).collect();
    let first = ranges.first().map_or(0, |range| range.start);
    Damaged::new(Some(value), ranges, MapError::new(None, first, Stop::new(0, Reason::Fault(fault))))
}

/// Whether no byte that is there can go: sealed, and not on huge pages, of which there may be too few.
fn cannot_shrink(file: &File) -> bool {
    // SAFETY: asks for flags of a descriptor we own. Files that know no seals refuse.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
        return false;
    }
    let mut system = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: writes one `statfs`; asks about a descriptor we own.
    let known = unsafe { libc::fstatfs(file.as_raw_fd(), system.as_mut_ptr()) } == 0;
    // SAFETY: written by the call.
    known && unsafe { system.assume_init() }.f_type != libc::HUGETLBFS_MAGIC
}
