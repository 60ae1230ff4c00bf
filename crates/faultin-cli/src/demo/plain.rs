//! A plain mapping: memory used as if nothing could go wrong.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use super::Missing;
use super::child::Stage;

/// A mapping that exists until the process ends.
pub struct PlainMapping {
    place: *mut u8,
    len: usize,
}

impl PlainMapping {
    /// Maps `len` bytes of a file.
    pub fn of_file(file: &File, len: usize, rights: libc::c_int) -> Result<PlainMapping, Missing> {
        PlainMapping::map(len, rights, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Maps `len` bytes of huge pages that are not reserved.
    pub fn of_huge_pages(len: usize) -> Result<PlainMapping, Missing> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE;
        PlainMapping::map(len, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
    }

    fn map(len: usize, rights: libc::c_int, flags: libc::c_int, fd: libc::c_int) -> Result<PlainMapping, Missing> {
        // SAFETY: a new mapping.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, fd, 0) };
        if place == libc::MAP_FAILED {
            return Err(Missing::because("mapping memory", io::Error::last_os_error()));
        }
        Ok(PlainMapping { place: place.cast(), len })
    }

    /// Returns the mapping's address.
    pub fn as_ptr(&self) -> *mut u8 {
        self.place
    }

    /// Reads each byte of a range.
    pub fn read(&self, range: Range<usize>, stage: &Stage) {
        self.each(range, stage, |place| {
            // SAFETY: within the mapping. Where there is no memory, the process dies, which is the point of the demo.
            unsafe { place.read_volatile() };
        });
    }

    /// Writes each byte of a range; the mapping has to be writable.
    pub fn write(&self, range: Range<usize>, stage: &Stage) {
        self.each(range, stage, |place| {
            // SAFETY: as for reading.
            unsafe { place.write_volatile(1) };
        });
    }

    fn each(&self, range: Range<usize>, stage: &Stage, access: impl Fn(*mut u8)) {
        assert!(range.end <= self.len);
        // SAFETY: disables core dumps of this process, whose death is expected.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
        for at in range {
            access(self.place.wrapping_add(at));
            stage.has_come_to(at as u64 + 1);
        }
    }
}
