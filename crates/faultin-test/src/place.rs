//! Where tests map memory in which they leave holes.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns an address to ask `mmap(2)` for, as a hint, for `len` bytes in which the caller will unmap pages.
///
/// The kernel places new mappings as high as they fit. So a hole far below all other mappings is never filled by another thread's
/// mapping, such as the signal stack of a test that begins. That mapping would be read in place of the hole, and unmapped with it.
/// (Where the address is not available, the kernel chooses another one.)
pub fn far_below(len: usize) -> *mut c_void {
    // A place that sanitizers do not use for themselves.
    static NEXT: AtomicUsize = AtomicUsize::new(0x3000_0000_0000);
    const ALIGN: usize = 1 << 20;
    let room = len.next_multiple_of(ALIGN) + ALIGN;
    std::ptr::without_provenance_mut(NEXT.fetch_add(room, Ordering::Relaxed))
}
