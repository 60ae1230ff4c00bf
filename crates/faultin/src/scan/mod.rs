//! Comparing and searching memory that may fault: see [`raw`](crate::raw#searches).

mod bytes;
mod crc32c;
#[cfg(not(faultin_portable))]
mod foreign;
mod look;
mod pass;
mod substring;
mod widest;

pub(crate) use bytes::{Bytes, Plain};
#[cfg(not(faultin_portable))]
pub(crate) use foreign::Foreign;
#[cfg(not(faultin_portable))]
pub use foreign::{compare, count_byte, crc32c, find, find_any, find_byte, is_zeroed, rfind, rfind_byte};
use look::{AnyOf, Differing, NoneOf};
#[cfg(not(faultin_portable))]
pub(crate) use substring::SHORT_NEEDLE;

use crate::fault::{Fault, Short};

/// The searches over any [`Bytes`]: foreign memory, or copies of it. Errors of the functions that go backwards have the offset
/// of the byte.
///
/// # Safety
///
/// For all: the range has as many bytes; those of foreign memory as above.
#[allow(clippy::missing_safety_doc)]
pub(crate) mod over {
    use super::*;

    pub(crate) use super::crc32c::sum as crc32c;
    pub(crate) use super::substring::{find, rfind};

    pub(crate) unsafe fn is_zeroed<B: Bytes>(bytes: B, len: usize) -> Result<bool, Short> {
        // SAFETY: forwarded; so for all that follow.
        unsafe { widest::first(&NoneOf(bytes, 0), len) }.map(|found| found.is_none())
    }

    pub(crate) unsafe fn compare<A: Bytes, B: Bytes>(a: A, b: B, len: usize) -> Result<Option<usize>, Short> {
        // SAFETY: as above.
        unsafe { widest::first(&Differing(a, b), len) }
    }

    pub(crate) unsafe fn find_any<B: Bytes, const N: usize>(
        bytes: B,
        len: usize,
        needles: [u8; N],
    ) -> Result<Option<usize>, Short> {
        // SAFETY: as above.
        unsafe { widest::first(&AnyOf(bytes, needles), len) }
    }

    pub(crate) unsafe fn rfind_byte<B: Bytes>(bytes: B, len: usize, byte: u8) -> Result<Option<usize>, (usize, Fault)> {
        // SAFETY: as above.
        unsafe { widest::last(&AnyOf(bytes, [byte]), len) }
    }

    /// Writes the positions from `from` on at which a slice of less than 4 GiB has `byte`, in ascending order, to `out`, which has
    /// room for at least [`ENOUGH`]. Returns their number, and where to continue: the end, or a position further on.
    pub(crate) fn positions(bytes: &[u8], byte: u8, from: usize, out: &mut [u32]) -> (usize, usize) {
        widest::positions(bytes, byte, from, out)
    }

    /// Room for positions with which [`positions`] always proceeds: four of the widest registers.
    pub(crate) const ENOUGH: usize = 4 * 32;

    pub(crate) unsafe fn count_byte<B: Bytes>(bytes: B, len: usize, byte: u8) -> Result<usize, Short> {
        // SAFETY: as above.
        unsafe { widest::count(&AnyOf(bytes, [byte]), len) }
    }
}
