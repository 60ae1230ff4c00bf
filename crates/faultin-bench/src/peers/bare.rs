//! A minimal recovery: a handler that only rewrites the program counter, to an address known at link time. No table, no
//! cause, no chaining: the cost of the kernel's exception and signal delivery alone.

use core::ffi::{c_int, c_void};

use super::Handler;

// A register that survives the fault holds the result of the fixup: the number of bytes not done.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".text",
    ".p2align 4",
    ".globl faultin_bench_bare_load",
    ".hidden faultin_bench_bare_load",
    "faultin_bench_bare_load:",
    "mov ecx, 8",
    "mov rax, [rdi]",
    "xor eax, eax",
    "ret",
    ".p2align 4",
    ".globl faultin_bench_bare_store",
    ".hidden faultin_bench_bare_store",
    "faultin_bench_bare_store:",
    "mov ecx, 8",
    "mov [rdi], rsi",
    "xor eax, eax",
    "ret",
    ".p2align 4",
    ".globl faultin_bench_bare_copy",
    ".hidden faultin_bench_bare_copy",
    "faultin_bench_bare_copy:",
    "mov rcx, rdx",
    "rep movsb",
    ".globl faultin_bench_bare_fixup",
    ".hidden faultin_bench_bare_fixup",
    "faultin_bench_bare_fixup:",
    "mov rax, rcx",
    "ret",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".text",
    ".p2align 4",
    ".globl faultin_bench_bare_load",
    ".hidden faultin_bench_bare_load",
    "faultin_bench_bare_load:",
    "mov x2, #8",
    "ldr x0, [x0]",
    "mov x0, #0",
    "ret",
    ".p2align 4",
    ".globl faultin_bench_bare_store",
    ".hidden faultin_bench_bare_store",
    "faultin_bench_bare_store:",
    "mov x2, #8",
    "str x1, [x0]",
    "mov x0, #0",
    "ret",
    // Whole 16-byte units.
    ".p2align 4",
    ".globl faultin_bench_bare_copy",
    ".hidden faultin_bench_bare_copy",
    "faultin_bench_bare_copy:",
    "cbz x2, faultin_bench_bare_fixup",
    "ldp x3, x4, [x1], #16",
    "stp x3, x4, [x0], #16",
    "sub x2, x2, #16",
    "b faultin_bench_bare_copy",
    ".globl faultin_bench_bare_fixup",
    ".hidden faultin_bench_bare_fixup",
    "faultin_bench_bare_fixup:",
    "mov x0, x2",
    "ret",
);

unsafe extern "C" {
    fn faultin_bench_bare_load(src: *const u64) -> usize;
    fn faultin_bench_bare_store(dst: *mut u64, value: u64) -> usize;
    fn faultin_bench_bare_copy(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn faultin_bench_bare_fixup();
}

/// Returns the handler. The same flags as ours, so that the kernel does the same work.
pub fn handler() -> Handler {
    Handler::new(rewrite as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER)
}

unsafe extern "C" fn rewrite(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let fixup = faultin_bench_bare_fixup as *const () as usize;
    // SAFETY: the kernel passes a context that the handler may edit.
    let machine = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    {
        machine.gregs[libc::REG_RIP as usize] = fixup as i64;
    }
    #[cfg(target_arch = "aarch64")]
    {
        machine.pc = fixup as u64;
    }
}

/// Loads a word; returns whether it faulted.
///
/// # Safety
/// [`handler`] is installed.
#[inline]
pub unsafe fn load_faults(src: *const u64) -> bool {
    // SAFETY: loads; the handler recovers a fault.
    unsafe { faultin_bench_bare_load(src) != 0 }
}

/// Stores a word; returns whether it faulted.
///
/// # Safety
/// [`handler`] is installed; `dst` is ours to write, if it is writeable.
#[inline]
pub unsafe fn store_faults(dst: *mut u64, value: u64) -> bool {
    // SAFETY: forwarded.
    unsafe { faultin_bench_bare_store(dst, value) != 0 }
}

/// Copies (`rep movsb`; on aarch64 16 bytes at a time, of which `len` is a multiple); returns the number of bytes done.
///
/// # Safety
/// [`handler`] is installed; `dst` is valid for writes; they do not overlap.
#[inline]
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: forwarded.
    len - unsafe { faultin_bench_bare_copy(dst, src, len) }
}
