//! Pages whose faults this process resolves itself, by a userfaultfd that turns them into SIGBUS.
//!
//! The pages are a memfd's, which has their contents; a page is *present* once this mapping has it (`UFFDIO_CONTINUE`) and
//! no longer after `MADV_DONTNEED`. In between nothing else brings it in. So an access to a page that is not present comes
//! back short, as it does in a kernel with page faults disabled, and a page can be *poisoned*: from then on every access to
//! it fails as with broken memory.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use faultin::{Access, Cause, Fault};

use super::mapping::{Protection, Reservation, memfd};

// <linux/userfaultfd.h>, which libc does not have.
const UFFD_API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
const UFFD_FEATURE_MINOR_SHMEM: u64 = 1 << 10;
const UFFD_FEATURE_POISON: u64 = 1 << 14;
const UFFDIO_REGISTER_MODE_MINOR: u64 = 1 << 2;
const UFFDIO_API: libc::Ioctl = libc::_IOWR::<Api>(0xaa, 0x3f);
const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<Register>(0xaa, 0x00);
const UFFDIO_CONTINUE: libc::Ioctl = libc::_IOWR::<OfRange>(0xaa, 0x07);
const UFFDIO_POISON: libc::Ioctl = libc::_IOWR::<OfRange>(0xaa, 0x08);

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

/// `uffdio_continue` and `uffdio_poison`.
#[repr(C)]
struct OfRange {
    range: Range,
    mode: u64,
    bytes: i64,
}

/// The paging of a reservation.
#[derive(Debug)]
pub(super) struct Paging {
    uffd: File,
    /// The first page's address.
    base: usize,
    pages: Box<[Cell<Page>]>,
    /// Number of faults that an access has waited for.
    served: Cell<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// The page has no pager.
    Foreign,
    Missing,
    Present,
    Poisoned,
}

impl Paging {
    /// Makes paging without pages yet.
    ///
    /// # Errors
    /// If the kernel has no such userfaultfd for this process.
    pub(super) fn new(range: &Reservation) -> io::Result<Paging> {
        let features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM;
        let uffd = open(features | UFFD_FEATURE_POISON).or_else(|_| open(features))?;
        Ok(Paging {
            uffd,
            base: range.page(0).addr(),
            pages: vec![Cell::new(Page::Foreign); range.pages()].into(),
            served: Cell::new(0),
        })
    }

    /// Resolves faults of this page from now on; it was mapped and not touched yet.
    pub(super) fn serve(&self, index: usize) -> io::Result<()> {
        let mode = UFFDIO_REGISTER_MODE_MINOR;
        ask(&self.uffd, UFFDIO_REGISTER, &mut Register { range: self.range(index), mode, ioctls: 0 })?;
        self.pages[index].set(Page::Missing);
        Ok(())
    }

    /// Poisons a missing page.
    pub(super) fn poison(&self, index: usize) -> io::Result<()> {
        ask(&self.uffd, UFFDIO_POISON, &mut OfRange { range: self.range(index), mode: 0, bytes: 0 })?;
        self.pages[index].set(Page::Poisoned);
        Ok(())
    }

    /// Brings the page with this byte in, if it is missing. Returns whether it was, and an access should be tried again.
    pub(super) fn bring_in(&self, address: usize) -> bool {
        let Some(index) = self.index(address) else { return false };
        let served = self.pages[index].get() == Page::Missing && self.continue_page(index).is_ok();
        self.served.set(self.served.get() + u64::from(served));
        served
    }

    /// Returns the number of faults that an access has waited for.
    pub(super) fn served(&self) -> u64 {
        self.served.get()
    }

    pub(super) fn continue_page(&self, index: usize) -> io::Result<()> {
        ask(&self.uffd, UFFDIO_CONTINUE, &mut OfRange { range: self.range(index), mode: 0, bytes: 0 })?;
        self.pages[index].set(Page::Present);
        Ok(())
    }

    /// Unmaps a page that is present.
    pub(super) fn evict(&self, range: &Reservation, index: usize) {
        if self.pages[index].get() == Page::Present && range.discard(index).is_ok() {
            self.pages[index].set(Page::Missing);
        }
    }

    /// Returns the fault for an access that may not wait: a missing page is one that is not resident.
    pub(super) fn nofault(&self, access: Access, address: usize, fault: Fault) -> Fault {
        let missing = self.index(address).is_some_and(|index| self.pages[index].get() == Page::Missing);
        if fault.cause() == Cause::Backing && missing {
            Fault::rejected(access, Cause::NotResident, address)
        } else {
            fault
        }
    }

    fn index(&self, address: usize) -> Option<usize> {
        let index = address.checked_sub(self.base)? / faultin::page_size();
        (index < self.pages.len()).then_some(index)
    }

    fn range(&self, index: usize) -> Range {
        let page = faultin::page_size();
        Range { start: (self.base + index * page) as u64, len: page as u64 }
    }
}

/// Opens a userfaultfd for faults of this process's own instructions, which needs no privilege.
fn userfaultfd() -> io::Result<File> {
    // SAFETY: returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and ours.
    Ok(unsafe { File::from_raw_fd(i32::try_from(fd).expect("a descriptor")) })
}

fn open(features: u64) -> io::Result<File> {
    let uffd = userfaultfd()?;
    ask(&uffd, UFFDIO_API, &mut Api { api: UFFD_API, features, ioctls: 0 })?;
    Ok(uffd)
}

fn ask<T>(uffd: &File, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request above takes the structure it was built with, which `argument` is; the ranges are pages of our
    // own reservation, and a missing or a poisoned page faults, which views survive.
    let result = unsafe { libc::ioctl(uffd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Checks whether faults can be resolved here, by resolving one. The error is the errno of the failed call.
pub(crate) fn probe() -> Result<(), i32> {
    static ANSWER: OnceLock<Result<(), i32>> = OnceLock::new();
    *ANSWER.get_or_init(|| try_one(Paging::continue_page, true).map_err(errno))
}

/// Checks whether pages can be poisoned here, by poisoning one.
pub(crate) fn probe_poison() -> Result<(), i32> {
    static ANSWER: OnceLock<Result<(), i32>> = OnceLock::new();
    *ANSWER.get_or_init(|| try_one(Paging::poison, false).map_err(errno))
}

/// Checks whether there is a userfaultfd at all.
pub(crate) fn probe_userfaultfd() -> Result<(), i32> {
    userfaultfd().map(drop).map_err(errno)
}

fn errno(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn try_one(make: impl Fn(&Paging, usize) -> io::Result<()>, readable: bool) -> io::Result<()> {
    let file = memfd("paging")?;
    file.set_len(faultin::page_size() as u64)?;
    let range = Reservation::new(1)?;
    range.map(0, &file, Protection::ReadWrite)?;
    let paging = Paging::new(&range)?;
    paging.serve(0)?;
    // A minor fault needs a page that the file has.
    std::os::unix::fs::FileExt::write_all_at(&file, &[1], 0)?;
    let missing = range.read()?.load::<u8>(0).is_err();
    make(&paging, 0)?;
    if missing && range.read()?.load::<u8>(0).is_ok() == readable {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}
