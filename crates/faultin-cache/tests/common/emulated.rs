//! Whether an emulator of user mode stands between us and the kernel.

/// It has no `process_vm_readv`.
pub fn is_emulated() -> bool {
    let (mut from, mut to) = (1_u8, 0_u8);
    let remote = libc::iovec { iov_base: (&raw mut from).cast(), iov_len: 1 };
    let local = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
    // SAFETY: a copy from one local variable to another.
    unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) != 1 }
}
