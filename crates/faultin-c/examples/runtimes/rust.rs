//! Rust's part: a plugin that uses the crate `faultin`, in a program that uses the C library.

use core::ffi::c_int;

use faultin::{Cause, ReadView};

/// Returns 1 if an access of a page that its file no longer has is an error.
///
/// # Safety
/// `missing` is an address in a mapping that stays mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rust_recovers(missing: *mut u8) -> c_int {
    // SAFETY: the address belongs to a mapping that stays.
    let view = unsafe { ReadView::new(missing, 1) };
    let is_short = view.is_ok_and(|view| view.load::<u8>(0).is_err_and(|fault| fault.cause() == Cause::Backing));
    c_int::from(is_short)
}
