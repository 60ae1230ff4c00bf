//! Mappings of this example.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

/// A mapping of our own, readable and writable.
pub struct Memory {
    pub base: *mut u8,
    pub len: usize,
}

impl Memory {
    fn map(len: usize, flags: i32, fd: i32) -> io::Result<Memory> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, rights, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Memory { base: base.cast(), len })
    }

    pub fn anonymous(len: usize) -> io::Result<Memory> {
        Memory::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    pub fn of_file(file: &File, len: usize) -> io::Result<Memory> {
        Memory::map(len, libc::MAP_SHARED, file.as_raw_fd())
    }

    pub fn advise(&self, at: usize, len: usize, advice: i32) -> io::Result<()> {
        assert!(at + len <= self.len);
        // SAFETY: a part of our mapping, to which nobody has a reference.
        match unsafe { libc::madvise(self.base.wrapping_add(at).cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Copies there.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len);
        // SAFETY: within the mapping; `bytes` is none of it.
        unsafe { faultin::copy_out(self.base.wrapping_add(at), bytes.as_ptr(), bytes.len()) }.expect("it is there");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Memory that mappings can share.
pub fn memfd(len: usize) -> io::Result<File> {
    // SAFETY: a string and flags; a new descriptor.
    let file = unsafe {
        let fd = libc::memfd_create(c"folio_memory".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(len as u64)?;
    Ok(file)
}
