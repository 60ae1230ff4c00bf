//! A buffer that satisfies a store's alignment.

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

/// From this length on, in bytes, a buffer is a mapping of its own. The allocator would keep it for its thread when it is
/// dropped, and several threads would so keep much memory beside the limit.
const MAPPED: usize = 128 << 10;

/// An aligned buffer.
#[derive(Debug, Default)]
pub(crate) struct Bounce {
    bytes: Bytes,
    offset: usize,
}

impl Bounce {
    pub(crate) fn new(len: usize, alignment: usize) -> Bounce {
        let bytes = Bytes::new(len + alignment - 1);
        let offset = bytes.as_ptr().addr().next_multiple_of(alignment) - bytes.as_ptr().addr();
        Bounce { bytes, offset }
    }

    /// Returns the first `len` bytes.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[self.offset..self.offset + len]
    }

    /// Returns the first `len` bytes, mutable.
    pub(crate) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + len]
    }
}

#[derive(Debug)]
enum Bytes {
    Allocated(Vec<u8>),
    Mapped(Mapped),
}

impl Bytes {
    fn new(len: usize) -> Bytes {
        // The allocator decides what happens without memory.
        let mapped = if len >= MAPPED { Mapped::new(len) } else { None };
        mapped.map_or_else(|| Bytes::Allocated(vec![0; len]), Bytes::Mapped)
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Allocated(Vec::new())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Allocated(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Bytes::Allocated(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}

/// # Invariants
///
/// `base` is a private mapping of `len` bytes that can be read and written, and only this value's.
#[derive(Debug)]
struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its memory; the pointer is only an address.
unsafe impl Send for Mapped {}

// SAFETY: as above; it is changed through `&mut` alone.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(len: usize) -> Option<Mapped> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping above, whose bytes stay the same. Page faults would take longer; a failure has no effect.
        unsafe { libc::madvise(base, len, libc::MADV_POPULATE_WRITE) };
        NonNull::new(base.cast()).map(|base| Mapped { base, len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the invariants; the kernel has filled it with zeros.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Mapped {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the invariants: nothing else uses it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_each_kind_are_aligned_and_zero_at_first() {
        for len in [1, 4096, MAPPED - 4096, MAPPED, 3 * MAPPED + 1] {
            let mut buffer = Bounce::new(len, 4096);
            assert!(buffer.bytes(len).as_ptr().addr().is_multiple_of(4096));
            assert!(buffer.bytes(len).iter().all(|&byte| byte == 0));
            buffer.bytes_mut(len).fill(7);
            assert!(buffer.bytes(len).iter().all(|&byte| byte == 7));
        }
    }
}
