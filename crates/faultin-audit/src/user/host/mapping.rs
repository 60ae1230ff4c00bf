//! The reservation: a run of pages that belongs to this module, whatever is mapped in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::null_mut;

use faultin::{ReadView, WriteView, page_size};

/// The protection of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    Read,
    ReadWrite,
    /// Like that, with a tag for each granule.
    Tagged,
}

impl Protection {
    fn bits(self) -> i32 {
        #[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
        const TAGS: i32 = faultin::testing::tags::PROT_MTE;
        #[cfg(not(all(target_arch = "aarch64", not(faultin_syscall))))]
        const TAGS: i32 = 0;
        match self {
            Protection::Read => libc::PROT_READ,
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Protection::Tagged => libc::PROT_READ | libc::PROT_WRITE | TAGS,
        }
    }
}

/// Pages between two inaccessible ones, themselves inaccessible until something is mapped there.
///
/// # Invariants
///
/// 1. `base..base + (pages + 2) * page_size()` was reserved by one `mmap` and stays so until the drop: mappings in it are
///    only ever replaced (`MAP_FIXED`), never removed.
/// 2. No Rust reference to this memory exists: it is accessed through views only.
#[derive(Debug)]
pub(super) struct Reservation {
    base: *mut u8,
    pages: usize,
}

// SAFETY: an address range; the kernel orders changes of it from several threads (invariant 2).
unsafe impl Sync for Reservation {}

impl Reservation {
    pub(super) fn new(pages: usize) -> io::Result<Reservation> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(null_mut(), (pages + 2) * page_size(), libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Reservation { base: base.cast(), pages })
    }

    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the address of a page.
    ///
    /// # Panics
    /// If it is outside the reservation.
    pub(super) fn page(&self, index: usize) -> *mut u8 {
        assert!(index < self.pages, "page {index} of {}", self.pages);
        self.base.wrapping_add((index + 1) * page_size())
    }

    /// Maps the file's page of the same number.
    pub(super) fn map(&self, index: usize, file: &File, protection: Protection) -> io::Result<()> {
        self.replace(index, protection.bits(), libc::MAP_SHARED, file.as_raw_fd(), index * page_size())
    }

    /// Maps zeros.
    pub(super) fn map_anonymous(&self, index: usize, protection: Protection) -> io::Result<()> {
        self.replace(index, protection.bits(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Replaces a page by the inaccessible reservation.
    pub(super) fn unmap(&self, index: usize) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.replace(index, libc::PROT_NONE, flags, -1, 0)
    }

    /// Drops a page from this mapping; the file keeps its contents.
    pub(super) fn discard(&self, index: usize) -> io::Result<()> {
        // SAFETY: a page of the reservation (invariant 1), of which there are no references (invariant 2).
        let result = unsafe { libc::madvise(self.page(index).cast(), page_size(), libc::MADV_DONTNEED) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn replace(&self, index: usize, protection: i32, flags: i32, fd: i32, offset: usize) -> io::Result<()> {
        let offset = libc::off_t::try_from(offset).expect("a few pages");
        let page = self.page(index);
        // SAFETY: replaces one page of the reservation (invariant 1), of which there are no references (invariant 2).
        let mapped = unsafe { libc::mmap(page.cast(), page_size(), protection, flags | libc::MAP_FIXED, fd, offset) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Returns a view of all pages, to read from.
    pub(super) fn read(&self) -> io::Result<ReadView<'_>> {
        // SAFETY: reserved for as long as `self` is borrowed (invariant 1).
        unsafe { ReadView::new(self.page(0), self.pages * page_size()) }.map_err(io::Error::other)
    }

    /// Returns a view of all pages, to write to.
    pub(super) fn write(&self) -> io::Result<WriteView<'_>> {
        // SAFETY: as in `read`; ours to write, and no reference to it exists (invariant 2).
        unsafe { WriteView::new(self.page(0), self.pages * page_size()) }.map_err(io::Error::other)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the whole reservation; views of it have ended, because they borrow it.
        unsafe { libc::munmap(self.base.cast(), (self.pages + 2) * page_size()) };
    }
}

/// Replaces a page of `view` by one of an empty file, so that it stays inaccessible whatever its owner does with it: like a
/// `munmap` by other code, except that nothing else can be mapped there.
///
/// # Errors
/// The kernel's error.
///
/// # Panics
/// If the view has no such page.
pub(crate) fn take_away(view: &WriteView<'_>, page: usize) -> io::Result<()> {
    assert!(view.as_ptr().addr().is_multiple_of(page_size()) && (page + 1) * page_size() <= view.len(), "page {page}");
    let (empty, flags) = (memfd("nothing")?, libc::MAP_SHARED | libc::MAP_FIXED);
    let at = view.as_ptr().wrapping_add(page * page_size());
    // SAFETY: replaces a page of a range that its owner has lent to be written to by any code at any time, so that no
    // reference to it exists; the owner's `munmap` removes this page, too.
    let mapped = unsafe { libc::mmap(at.cast(), page_size(), libc::PROT_NONE, flags, empty.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a file that exists in memory only.
pub(super) fn memfd(name: &str) -> io::Result<File> {
    let name = std::ffi::CString::new(name).expect("a name without NUL");
    // SAFETY: a valid string; returns a new descriptor or an error.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and ours.
    Ok(unsafe { File::from_raw_fd(fd) })
}
