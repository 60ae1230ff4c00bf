//! x86-64: the operations in assembly, and the layout of the signal frame.
//!
//! Register numbers in table entries are the hardware's encoding: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6,
//! rdi 7, r8 to r15.

#[macro_use]
mod entry;
#[cfg(feature = "std")]
pub(crate) mod context;
mod copy;
#[cfg(feature = "std")]
mod copy_short;
#[cfg(feature = "std")]
mod copy_vector;
#[cfg(feature = "std")]
pub(crate) mod cpu;
#[cfg(feature = "std")]
pub(crate) mod dispatch;
mod fill;
#[cfg(feature = "internals")]
pub mod fpstate;
mod scalar;
#[cfg(feature = "std")]
mod wide;

#[cfg(feature = "std")]
pub(crate) use copy::copy_streaming;
pub(crate) use copy::{copy, copy_bytes, copy_unpredictable};
#[cfg(feature = "std")]
pub(crate) use copy_short::{SHORT, copy_short};
pub(crate) use entry::object;
pub(crate) use fill::{fill, fill_bytes};
pub use scalar::*;
#[cfg(feature = "std")]
pub use wide::Wide;

/// Whether accesses fault in the thread that makes them, so that the handler is needed.
#[cfg(feature = "std")]
pub(crate) const HAS_TABLE: bool = true;

/// The smallest page: no protection on x86-64 is finer.
pub(crate) const MIN_PAGE: usize = 1 << 12;

/// Returns the bits of an address that select memory.
pub(crate) const fn untag(address: usize) -> usize {
    address
}

/// Returns whether `a` is further from being an address that the CPU can translate than `b`: bits 47 to 63 are equal, or 56
/// to 63 with five-level paging, whose use a program cannot query.
pub(crate) const fn less_canonical(a: usize, b: usize) -> bool {
    const fn alike_from(address: usize, bit: u32) -> bool {
        let top = (address as isize) >> bit;
        top == 0 || top == -1
    }
    if alike_from(a, 56) != alike_from(b, 56) { alike_from(b, 56) } else { !alike_from(a, 47) && alike_from(b, 47) }
}
