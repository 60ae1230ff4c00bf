//! `memcpy` under `sigsetjmp`: `guarded.c`.

use core::ffi::{c_int, c_void};

use super::Handler;

unsafe extern "C" {
    fn faultin_bench_guarded_mask(dst: *mut c_void, src: *const c_void, n: usize) -> c_int;
    fn faultin_bench_guarded_nomask(dst: *mut c_void, src: *const c_void, n: usize) -> c_int;
    fn faultin_bench_jump(signal: c_int);
}

/// Whether `sigsetjmp` saves the signal mask.
#[derive(Clone, Copy)]
pub enum Mask {
    Saved,
    NotSaved,
}

/// Returns the handler that jumps.
pub fn handler(mask: Mask) -> Handler {
    let flags = match mask {
        Mask::Saved => 0,
        Mask::NotSaved => libc::SA_NODEFER,
    };
    Handler::new(faultin_bench_jump as *const () as usize, libc::SA_ONSTACK | flags)
}

/// Copies; returns `false` if a signal ended it.
///
/// # Safety
/// Those of `memcpy`, except that either range may fault if [`handler`] is installed with the same mask.
#[inline]
pub unsafe fn copy(mask: Mask, dst: *mut u8, src: *const u8, len: usize) -> bool {
    // SAFETY: forwarded. The functions hold nothing that a jump over `memcpy` would lose.
    unsafe {
        match mask {
            Mask::Saved => faultin_bench_guarded_mask(dst.cast(), src.cast(), len) == 0,
            Mask::NotSaved => faultin_bench_guarded_nomask(dst.cast(), src.cast(), len) == 0,
        }
    }
}
