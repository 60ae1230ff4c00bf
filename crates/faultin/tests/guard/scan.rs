//! The tests' scans, and helpers that observe them.

use core::ops::RangeBounds;

use faultin::{
    FileMap,
    map::{Change, Damaged},
};

/// The sum of the bytes of a range, by ordinary code.
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

/// Loads one byte with an instruction without a table entry.
pub fn peek(bytes: &[u8], at: usize) -> u8 {
    // SAFETY: a byte of the slice, whose faults are handled.
    unsafe { core::ptr::read_volatile(&raw const bytes[at]) }
}

/// Faults of scans handled so far.
pub fn served() -> u64 {
    faultin::signal::counters().substituted
}

/// The size that the file was truncated to, according to the error.
pub fn cut_to<T>(damaged: &Damaged<T>) -> Option<u64> {
    match damaged.error.change() {
        Some(Change::Shrunk { to, .. }) => Some(to),
        _ => None,
    }
}
