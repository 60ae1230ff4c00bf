//! Memory whose middle page is bad, in every way in which this machine can make a page bad.
#![allow(dead_code)] // each test binary uses a part of it

use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::{Access, Cause};

/// One test at a time: another test's mapping may fill a hole, and the counters are the process's.
pub fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the middle page is made bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Nothing is mapped.
    Unmapped,
    /// `PROT_NONE`.
    NoAccess,
    /// `PROT_READ`: bad for stores only.
    ReadOnly,
    /// A file mapping past the end of its file; everything after it is bad, too.
    PastEnd,
}

impl Bad {
    pub const ALL: [Bad; 4] = [Bad::Unmapped, Bad::NoAccess, Bad::ReadOnly, Bad::PastEnd];

    /// The cause that `access` reports, `None` if it succeeds.
    pub fn cause(self, access: Access) -> Option<Cause> {
        match (self, access) {
            (Bad::Unmapped, _) => Some(Cause::Unmapped),
            (Bad::NoAccess, _) | (Bad::ReadOnly, Access::Write) => Some(Cause::Protection),
            (Bad::ReadOnly, Access::Read) => None,
            (Bad::PastEnd, _) => Some(Cause::Backing),
        }
    }
}

/// `good` pages, one bad page, `good` pages again, mapped twice: once with the bad page, and once, elsewhere, always
/// accessible (the same memory, except past the end of a file), to check what a failed operation left.
pub struct Pages {
    base: *mut u8,
    alias: *mut u8,
    pub good: usize,
    bad: Bad,
}

impl Pages {
    /// `good` is a multiple of the page size.
    pub fn new(bad: Bad, good: usize) -> Pages {
        let page = faultin::page_size();
        assert_eq!(good % page, 0);
        let len = 2 * good + page;
        // SAFETY: new mappings at addresses the kernel chooses, then changes inside them.
        unsafe {
            let fd = libc::memfd_create(c"faultin-test".as_ptr(), 0);
            assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            let size = if bad == Bad::PastEnd { good } else { len };
            assert_eq!(libc::ftruncate(fd, size as libc::off_t), 0);
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let map = |len| {
                let map = libc::mmap(faultin_test::far_below(len), len, rw, libc::MAP_SHARED, fd, 0);
                assert_ne!(map, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
                map.cast::<u8>()
            };
            let (base, alias) = (map(len), map(size));
            libc::close(fd);
            let middle = base.add(good).cast();
            match bad {
                Bad::Unmapped => assert_eq!(libc::munmap(middle, page), 0),
                Bad::NoAccess => assert_eq!(libc::mprotect(middle, page, libc::PROT_NONE), 0),
                Bad::ReadOnly => assert_eq!(libc::mprotect(middle, page, libc::PROT_READ), 0),
                Bad::PastEnd => {}
            }
            Pages { base, alias, good, bad }
        }
    }

    /// The start of the bad page.
    pub fn boundary(&self) -> *mut u8 {
        self.base.wrapping_add(self.good)
    }

    /// The start of the good pages after the bad one (which are bad as well past the end of a file).
    pub fn after(&self) -> *mut u8 {
        self.boundary().wrapping_add(faultin::page_size())
    }

    /// The good pages before the boundary, through the mapping that is always accessible.
    pub fn before(&mut self) -> &mut [u8] {
        // SAFETY: mapped readable and writable, and not accessed elsewhere while the reference exists.
        unsafe { std::slice::from_raw_parts_mut(self.alias, self.good) }
    }

    /// Everything that is always accessible: all pages, or those within the file.
    pub fn all(&mut self) -> &mut [u8] {
        let len = if self.bad == Bad::PastEnd { self.good } else { 2 * self.good + faultin::page_size() };
        // SAFETY: as in `before`.
        unsafe { std::slice::from_raw_parts_mut(self.alias, len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let page = faultin::page_size();
        let len = 2 * self.good + page;
        let size = if self.bad == Bad::PastEnd { self.good } else { len };
        // SAFETY: this value's mappings; the hole is not touched again, because another mapping may be in it.
        unsafe {
            if self.bad == Bad::Unmapped {
                libc::munmap(self.base.cast(), self.good);
                libc::munmap(self.after().cast(), self.good);
            } else {
                libc::munmap(self.base.cast(), len);
            }
            libc::munmap(self.alias.cast(), size);
        }
    }
}

/// Bytes that differ from their neighbours and from the canary.
pub fn pattern(i: usize) -> u8 {
    (i.wrapping_mul(31) >> 3) as u8 & 0x7f
}

/// The byte in memory that must stay unchanged.
pub const CANARY: u8 = 0xc9;

/// The part of a table to run: everything, or every n-th case where each fault is emulated.
pub fn thin_out() -> usize {
    if cfg!(target_arch = "x86_64") { 1 } else { 23 }
}
