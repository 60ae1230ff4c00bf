//! aarch64: the operations in assembly, and the layout of the signal frame.
//!
//! Register numbers in table entries are those of the general registers, x0 to x30. Out-of-line operations keep the
//! fault code in x3 and the address in x4.
//!
//! In Arm's architecture, a store across a page or granule boundary leaves UNKNOWN contents on the accessible side when the
//! other side faults. This crate relies on what CPUs do: they store nothing, or the bytes before the inaccessible side, in
//! ascending order. Both are repaired, because the operation continues up to the first bad byte. One case cannot be: where
//! another thread revokes the accessible side before that, bytes past the count may be stored: fewer than 32, the widest
//! store.

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

/// Returns the bits of an address that select memory: not the top byte, which holds tags. Bit 55 distinguishes the two
/// halves of the address space, and the bits above it are made equal to it.
pub(crate) const fn untag(address: usize) -> usize {
    ((address << 8) as isize >> 8) as usize
}

/// Returns whether `a` is further from being an address that the CPU can translate than `b`: bits 52 to 55 are equal, with
/// the widest addresses. The top byte does not count.
pub(crate) const fn less_canonical(a: usize, b: usize) -> bool {
    const fn canonical(address: usize) -> bool {
        let top = (untag(address) as isize) >> 52;
        top == 0 || top == -1
    }
    !canonical(a) && canonical(b)
}
