//! The user's memory: pages of every kind, side by side in one reservation.
//!
//! A page before them and one after them belong to the reservation and are never accessible, so that no hole extends beyond
//! it. Another mapping of the process (of a ring or the C library) could be placed in a hole: cases have only holes of one
//! page, only while they run, and check that they are still holes. A region that has lost a hole is leaked, because the
//! mapping in it belongs to other code.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use faultin::page_size;
use faultin_test::Random;

/// Pages of a region.
pub const PAGES: usize = 8;

/// The kind of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// Good, but not mapped at the beginning of an operation (`MADV_DONTNEED`).
    Cold,
    ReadOnly,
    /// `PROT_NONE`.
    NoAccess,
    /// A hole in the reservation.
    Unmapped,
    /// Past the end of a file that was truncated after it was mapped.
    PastEnd,
    /// Poisoned (`UFFDIO_POISON`).
    Poisoned,
}

impl Kind {
    /// The kinds that a layout can have; the last one needs userfaultfd.
    pub const ALL: [Kind; 7] =
        [Kind::Good, Kind::Cold, Kind::ReadOnly, Kind::NoAccess, Kind::Unmapped, Kind::PastEnd, Kind::Poisoned];
}

/// The pages and their files.
pub struct Region {
    /// The reservation's first page, which is never accessible, like its last.
    start: *mut u8,
    /// The file with the contents of the pages, accessible or not.
    memory: File,
    /// The file that is truncated.
    cut: File,
    poison: Option<Poison>,
    kinds: [Kind; PAGES],
    /// Whether another mapping is in it.
    lost: bool,
}

impl Region {
    /// All pages good.
    pub fn new() -> Region {
        // SAFETY: a new reservation, placed by the kernel.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(faultin_test::far_below(Self::reserved()), Self::reserved(), libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let (memory, cut) = (memfd(), memfd());
        memory.set_len(Self::len() as u64).unwrap();
        let kinds = [Kind::Good; PAGES];
        let mut region = Region { start: start.cast(), memory, cut, poison: Poison::new().ok(), kinds, lost: false };
        region.lay_out(kinds);
        region
    }

    /// Its length in bytes.
    pub fn len() -> usize {
        PAGES * page_size()
    }

    fn reserved() -> usize {
        Self::len() + 2 * page_size()
    }

    /// Whether pages can be poisoned.
    pub fn can_poison(&self) -> bool {
        self.poison.is_some()
    }

    fn page(&self, index: usize) -> *mut libc::c_void {
        self.start.wrapping_add((index + 1) * page_size()).cast()
    }

    /// Gives the pages these kinds.
    pub fn lay_out(&mut self, kinds: [Kind; PAGES]) {
        assert!(self.close_holes(), "this region is lost");
        let page = page_size();
        self.cut.set_len(Self::len() as u64).unwrap();
        for (index, kind) in kinds.into_iter().enumerate() {
            let (at, offset) = (self.page(index), (index * page) as libc::off_t);
            let file = if kind == Kind::PastEnd { &self.cut } else { &self.memory };
            // SAFETY: replaces a page of this reservation, which has no holes at this moment.
            unsafe {
                let (rw, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
                let mapped = libc::mmap(at, page, rw, flags, file.as_raw_fd(), offset);
                assert_eq!(mapped, at, "{}", io::Error::last_os_error());
                let changed = match kind {
                    Kind::ReadOnly => libc::mprotect(at, page, libc::PROT_READ),
                    Kind::NoAccess => libc::mprotect(at, page, libc::PROT_NONE),
                    Kind::Unmapped => libc::munmap(at, page),
                    Kind::Good | Kind::Cold | Kind::PastEnd | Kind::Poisoned => 0,
                };
                assert_eq!(changed, 0, "{kind:?}: {}", io::Error::last_os_error());
            }
            match (kind, &self.poison) {
                (Kind::Poisoned, Some(poison)) => poison.mark(at, page).unwrap(),
                (Kind::Poisoned, None) => panic!("a layout with a poisoned page where none can be made"),
                // Like memory that was used before.
                (Kind::Good, _) => {
                    // SAFETY: a load from a page that was just mapped.
                    unsafe { at.cast::<u8>().read_volatile() };
                }
                _ => {}
            }
        }
        self.cut.set_len(0).unwrap();
        self.kinds = kinds;
    }

    /// Unmaps the cold pages from the page table.
    pub fn cool(&self) {
        for (index, kind) in self.kinds.into_iter().enumerate() {
            if kind == Kind::Cold {
                // SAFETY: a page of a file, which keeps its bytes.
                let cooled = unsafe { libc::madvise(self.page(index), page_size(), libc::MADV_DONTNEED) };
                assert_eq!(cooled, 0, "{}", io::Error::last_os_error());
            }
        }
    }

    /// Fills all pages, accessible or not.
    pub fn fill(&self, seed: u64) {
        self.memory.write_all_at(&Random::new(seed).bytes(Self::len()), 0).unwrap();
    }

    /// The bytes in all pages, accessible or not.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; Self::len()];
        self.memory.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// The part of it that begins at `start`: `len` bytes, or up to its end.
    pub fn part(&self, start: usize, len: usize) -> libc::iovec {
        let start = start.min(Self::len());
        let iov_len = len.min(Self::len() - start);
        libc::iovec { iov_base: self.page(0).wrapping_byte_add(start), iov_len }
    }

    /// Turns the holes back into inaccessible pages. Returns whether they were still holes; otherwise the region is lost.
    pub fn close_holes(&mut self) -> bool {
        let (none, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE);
        for index in 0..PAGES {
            if self.kinds[index] == Kind::Unmapped {
                let hole = self.page(index);
                // SAFETY: replaces nothing.
                let mapped = unsafe { libc::mmap(hole, page_size(), none, flags | libc::MAP_NORESERVE, -1, 0) };
                self.lost |= mapped != hole;
                self.kinds[index] = Kind::NoAccess;
            }
        }
        !self.lost
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.close_holes() {
            // SAFETY: the whole range belongs to this region, and nothing refers to it any more.
            unsafe { libc::munmap(self.start.cast(), Self::reserved()) };
        }
    }
}

/// An unshared empty file on tmpfs.
pub fn memfd() -> File {
    // SAFETY: creates a descriptor, which is owned here.
    unsafe {
        let fd = libc::memfd_create(c"oracle".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

/// A userfaultfd that poisons pages (Linux 6.6).
struct Poison(OwnedFd);

const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_POISON: u64 = 1 << 14;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const UFFDIO_API: libc::Ioctl = libc::_IOWR::<[u64; 3]>(0xaa, 0x3f);
const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x00);
const UFFDIO_UNREGISTER: libc::Ioctl = libc::_IOR::<[u64; 2]>(0xaa, 0x01);
const UFFDIO_POISON: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x08);

impl Poison {
    fn new() -> io::Result<Poison> {
        // SAFETY: creates a descriptor, which is owned here.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd as libc::c_int)
        };
        let poison = Poison(fd);
        poison.ask(UFFDIO_API, &mut [UFFD_API, UFFD_FEATURE_POISON, 0])?;
        Ok(poison)
    }

    /// Poisons a page that was mapped and never touched. The mark stays when the range is unregistered.
    fn mark(&self, at: *mut libc::c_void, len: usize) -> io::Result<()> {
        let (start, len) = (at.addr() as u64, len as u64);
        self.ask(UFFDIO_REGISTER, &mut [start, len, UFFDIO_REGISTER_MODE_MISSING, 0])?;
        self.ask(UFFDIO_POISON, &mut [start, len, 0, 0])?;
        self.ask(UFFDIO_UNREGISTER, &mut [start, len])
    }

    fn ask<const N: usize>(&self, what: libc::Ioctl, argument: &mut [u64; N]) -> io::Result<()> {
        // SAFETY: an array of the size that `what` reads and writes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), what, argument.as_mut_ptr()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
