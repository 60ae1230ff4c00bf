//! Emulators of user mode (QEMU's), which stand between a program and the kernel.

/// Returns whether this process runs in an emulator of user mode: it accepts any advice to `madvise(2)`, also one that no kernel
/// has, and ignores it.
pub fn is_emulated() -> bool {
    static PLACE: u8 = 0;
    let start = (&raw const PLACE).addr() & !(page_size() - 1);
    // SAFETY: no kernel knows this advice.
    unsafe { libc::madvise(core::ptr::without_provenance_mut(start), 1, i32::MAX) == 0 }
}

fn page_size() -> usize {
    // SAFETY: returns a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a system has pages")
}
