//! Memory whose second page is bad, in every way this machine can make a page bad, for tests.
#![allow(dead_code)] // each test binary uses a part of it

use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::{Access, Cause};

/// One test at a time: a hole may be filled by another test's mapping, and the counters are the process's.
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
    /// A file mapping beyond the end of its file; everything after it is bad, too.
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

/// `good` pages, one bad page, `good` pages again, mapped twice: once as the bad page makes it, once, elsewhere, always
/// accessible (the same memory, except behind the end of a file), to look at what a failed operation left.
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
                let map = libc::mmap(std::ptr::null_mut(), len, rw, libc::MAP_SHARED, fd, 0);
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

    /// Where the bad page begins.
    pub fn boundary(&self) -> *mut u8 {
        self.base.wrapping_add(self.good)
    }

    /// Where the good pages after the bad one begin (bad as well, behind the end of a file).
    pub fn after(&self) -> *mut u8 {
        self.boundary().wrapping_add(faultin::page_size())
    }

    /// The good pages before the boundary, through the mapping that is always accessible.
    pub fn before(&mut self) -> &mut [u8] {
        // SAFETY: mapped readable and writable, and nobody else looks while the reference lives.
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
        // SAFETY: our own mappings; the hole is not touched again, somebody else may live there.
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

/// What memory that must stay untouched holds.
pub const CANARY: u8 = 0xc9;

/// How much of a table to run: everything, or every n-th case where each fault is emulated.
pub fn thin_out() -> usize {
    if cfg!(target_arch = "x86_64") { 1 } else { 23 }
}

/// A small generator, for cases that a table would have too many of.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}
