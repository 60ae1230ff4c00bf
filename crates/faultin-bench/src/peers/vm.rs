//! The `vm-memory` crate, by which Rust virtual machine monitors access their guests' memory.

use vm_memory::{Bytes, VolatileSlice};

/// # Safety
/// Those of [`VolatileSlice::new`]: valid for reads and writes while the slice exists.
pub unsafe fn slice<'a>(ptr: *mut u8, len: usize) -> VolatileSlice<'a> {
    // SAFETY: forwarded.
    unsafe { VolatileSlice::new(ptr, len) }
}

/// Copies from the start of a slice.
///
/// # Safety
/// `dst` is valid for writes of `len` bytes and outside the slice.
#[inline]
pub unsafe fn copy(slice: &VolatileSlice<'_>, dst: *mut u8, len: usize) -> bool {
    // SAFETY: forwarded; initialised, as all memory of the benches is.
    slice.read_slice(unsafe { core::slice::from_raw_parts_mut(dst, len) }, 0).is_ok()
}

/// Loads one value.
#[inline]
pub fn load(slice: &VolatileSlice<'_>, offset: usize) -> Option<u64> {
    slice.read_obj(offset).ok()
}
