//! For this project's own tests and benchmarks: choosing a path the CPU would not choose by itself. Not part of the
//! stable interface.

use crate::arch;

/// The vector widths this CPU can copy with, by name, widest first.
pub fn vectors() -> Vec<&'static str> {
    arch::dispatch::names()
}

/// Copies with this width from now on, in every thread; `false` if the CPU has no such width.
pub fn select_vector(name: &str) -> bool {
    arch::dispatch::select_by_name(name)
}

/// Goes on as the CPU would choose.
pub fn select_widest() {
    if let Some(widest) = vectors().first() {
        select_vector(widest);
    }
}

/// From so many bytes on, copies take the next of their paths: the string instruction, vectors again, non-temporal
/// stores (where the path exists).
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

    /// For `mmap`: a mapping whose granules have tags, which are 0 at first.
    pub const PROT_MTE: i32 = 0x20;

    /// Has this thread's accesses checked, each when it is made; `false` where there are no tags.
    pub fn check() -> bool {
        const PR_SET_TAGGED_ADDR_CTRL: i32 = 55;
        const TAGGED_ADDR_ENABLE: u64 = 1;
        const SYNCHRONOUSLY: u64 = 1 << 1;
        // SAFETY: changes how this thread's accesses are checked; all it has access to by now has tag 0, as its pointers.
        std::arch::is_aarch64_feature_detected!("mte")
            && unsafe { libc::prctl(PR_SET_TAGGED_ADDR_CTRL, TAGGED_ADDR_ENABLE | SYNCHRONOUSLY, 0, 0, 0) } == 0
    }

    /// Gives the granule that `ptr` points into this tag, 0 to 15.
    ///
    /// # Safety
    /// `ptr` lies in a mapping made with [`PROT_MTE`], and [`check`] was `true`. Rust's own references to the granule
    /// fault from now on, unless the tag is theirs.
    pub unsafe fn set(ptr: *mut u8, tag: u8) {
        let ptr = ptr.map_addr(|address| address & !(0xff << 56) & !15 | usize::from(tag & 15) << 56);
        // SAFETY: the caller's promise.
        unsafe { tag::set_tag(ptr) };
    }
}
