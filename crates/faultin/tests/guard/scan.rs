//! What the tests' scans do, and what they look at.

use core::ops::RangeBounds;

use faultin::{
    FileMap,
    map::{Change, Damaged},
};

/// The sum of the bytes of a range: a loop of the compiler's own.
pub fn sum(map: &FileMap, range: impl RangeBounds<u64>) -> Result<u64, Damaged<u64>> {
    // SAFETY: relies on no byte, stores nothing, keeps nothing.
    unsafe { map.with_slice(range, add) }
}

pub fn add(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

/// A copy of a range as a scan sees it.
pub fn bytes(map: &FileMap, range: impl RangeBounds<u64>) -> Result<Vec<u8>, Damaged<Vec<u8>>> {
    // SAFETY: as above.
    unsafe { map.with_slice(range, <[u8]>::to_vec) }
}

/// Loads one byte, now, by an instruction that is in no table.
pub fn peek(bytes: &[u8], at: usize) -> u8 {
    // SAFETY: a byte of the slice, whose faults are served.
    unsafe { core::ptr::read_volatile(&raw const bytes[at]) }
}

/// Faults of scans that were served so far.
pub fn served() -> u64 {
    faultin::signal::counters().substituted
}

/// The size that a file is said to have been cut to.
pub fn cut_to<T>(damaged: &Damaged<T>) -> Option<u64> {
    match damaged.error.change() {
        Some(Change::Shrunk { to, .. }) => Some(to),
        _ => None,
    }
}
