//! Memory tags, which only this project's own tests set.

use core::arch::asm;

/// Gives the granule at `ptr` the tag in bits 56-59 of `ptr`.
///
/// # Safety
/// The CPU has memory tags, and `ptr` is in a mapping made with `PROT_MTE`.
pub(crate) unsafe fn set_tag(ptr: *mut u8) {
    // SAFETY: the caller's promise; the bytes do not change.
    unsafe {
        asm!(".arch_extension memtag", "stg {ptr}, [{ptr}]", ptr = in(reg) ptr, options(nostack, preserves_flags));
    }
}
