//! For this project's tests and benchmarks: selecting a path that the CPU detection would not select. Not part of the
//! stable interface.

use crate::arch;

/// Returns the names of the vector widths that this CPU can copy with, widest first.
pub fn vectors() -> Vec<&'static str> {
    arch::dispatch::names()
}

/// Selects this width for copies in every thread; `false` if the CPU does not have it.
pub fn select_vector(name: &str) -> bool {
    arch::dispatch::select_by_name(name)
}

/// Selects the width that the CPU detection would select.
pub fn select_widest() {
    if let Some(widest) = vectors().first() {
        select_vector(widest);
    }
}

/// Returns the sizes in bytes from which copies take the next of their paths: the string instruction, vectors again,
/// non-temporal stores (where the path exists).
pub fn thresholds() -> [usize; 3] {
    arch::dispatch::thresholds()
}

/// Sets the thresholds of [`thresholds`], so that a test reaches each path at a size it can afford.
pub fn set_thresholds(thresholds: [usize; 3]) {
    arch::dispatch::set_thresholds(thresholds);
}

/// Memory tags: permissions of 16 bytes each.
#[cfg(all(target_arch = "aarch64", feature = "std", not(faultin_syscall)))]
pub mod tags {
    use crate::arch::tag;

    /// For `mmap`: a mapping whose granules have tags, initially 0.
    pub const PROT_MTE: i32 = 0x20;

    /// Switches on checks of this thread's accesses, synchronously; `false` where there are no tags.
    pub fn check() -> bool {
        const PR_SET_TAGGED_ADDR_CTRL: i32 = 55;
        const TAGGED_ADDR_ENABLE: u64 = 1;
        const SYNCHRONOUSLY: u64 = 1 << 1;
        // SAFETY: changes how this thread's accesses are checked; all memory that it has access to now has tag 0, and so
        // have its pointers.
        std::arch::is_aarch64_feature_detected!("mte")
            && unsafe { libc::prctl(PR_SET_TAGGED_ADDR_CTRL, TAGGED_ADDR_ENABLE | SYNCHRONOUSLY, 0, 0, 0) } == 0
    }

    /// Gives the granule that `ptr` points into this tag, 0 to 15.
    ///
    /// # Safety
    /// `ptr` points into a mapping made with [`PROT_MTE`], and [`check`] was `true`. Rust's own references to the granule
    /// fault from now on, unless they have this tag.
    pub unsafe fn set(ptr: *mut u8, tag: u8) {
        let ptr = ptr.map_addr(|address| address & !(0xff << 56) & !15 | usize::from(tag & 15) << 56);
        // SAFETY: the caller upholds it.
        unsafe { tag::set_tag(ptr) };
    }
}
