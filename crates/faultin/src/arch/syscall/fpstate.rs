//! The instruction does not exist here.

use crate::fault::{Access, Cause, Fault};

pub const ALIGN: usize = 64;

pub fn layout() -> Option<(u64, usize)> {
    None
}

/// # Safety
/// None: always fails.
pub unsafe fn save(dst: *mut u8, _: *const u8, _: *mut u8, _: u64) -> Result<(), Fault> {
    Err(Fault::rejected(Access::Write, Cause::Unsupported, dst.addr()))
}

/// # Safety
/// None: always fails.
pub unsafe fn restore(src: *const u8, _: *mut u8, _: *mut u8, _: u64) -> Result<(), Fault> {
    Err(Fault::rejected(Access::Read, Cause::Unsupported, src.addr()))
}

pub fn pattern(_: &mut [u8], _: u8) {}

pub fn registers(_: &[u8]) -> &[u8] {
    &[]
}
