//! aarch64: the operations in assembly, and what the signal frame looks like here.
//!
//! Register numbers in table entries are those of the general registers, x0 to x30. Out-of-line operations keep the
//! fault code in x3 and the address in x4.
//!
//! Arm calls it UNKNOWN what a store across a page or granule boundary leaves on the good side when the other side
//! faults. This crate relies on what CPUs do: they store nothing, or what lies before the bad side, in ascending order.
//! Both are mended, because the operation goes on up to the first bad byte. One thing cannot be: where another thread
//! takes the good side away before that is done, bytes behind the count may be stored: fewer than 32, the widest store.

#[macro_use]
mod entry;
#[cfg(feature = "std")]
pub(crate) mod context;
mod copy;
#[cfg(feature = "std")]
pub(crate) mod cpu;
#[cfg(feature = "std")]
pub(crate) mod dispatch;
mod fill;
#[cfg(feature = "internals")]
pub mod fpstate;
mod scalar;
#[cfg(feature = "internals")]
pub(crate) mod tag;
#[cfg(feature = "std")]
mod wide;

#[cfg(feature = "std")]
pub(crate) use copy::copy_streaming;
pub(crate) use copy::{copy, copy_bytes, copy_unpredictable};
pub(crate) use entry::object;
pub(crate) use fill::{fill, fill_bytes};
pub use scalar::*;

/// Whether accesses fault in the thread that makes them, so that the handler is needed.
#[cfg(feature = "std")]
pub(crate) const HAS_TABLE: bool = true;

/// The smallest page of the architecture. Machines have pages of 4, 16 or 64 KiB.
pub(crate) const MIN_PAGE: usize = 1 << 12;

/// Bits of an address that select memory: not the top byte, which holds tags. Bit 55 tells the two halves of the
/// address space apart, and what lies above it is made to agree.
pub(crate) const fn untag(address: usize) -> usize {
    ((address << 8) as isize >> 8) as usize
}

/// Whether `a` is further from being an address the CPU can translate than `b`: bits 52 to 55 are alike, with the widest
/// addresses there are. The top byte does not count.
pub(crate) const fn less_canonical(a: usize, b: usize) -> bool {
    const fn canonical(address: usize) -> bool {
        let top = (untag(address) as isize) >> 52;
        top == 0 || top == -1
    }
    !canonical(a) && canonical(b)
}
