//! All assembly, and nothing else: one folder per architecture with the same interface.
//!
//! | item | what it is |
//! |---|---|
//! | `object()` | this object's [`Object`](crate::table::Object) |
//! | `copy`, `copy_unpredictable`, `copy_streaming`, `copy_bytes`, `fill` | the out-of-line operations; they return an [`Outcome`] |
//! | `load_*`, `store_*`, atomics | one instruction with a table entry, inlined |
//! | `Vector` | four vector registers with one test for all |
//! | `touch_read`, `touch_write` | one access that changes nothing |
//! | `cpu` | features of the machine, detected once |
//! | `context` | reading and editing the interrupted registers in a signal |
//! | `fpstate` | the floating-point state to and from foreign memory |

// The one named label is emitted once per assembly unit, however often its `asm!` is inlined: see `__faultin_object`.
#![allow(named_asm_labels)]

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]
#[macro_use]
mod entry;

#[cfg(feature = "std")]
mod vector;
#[cfg(feature = "std")]
pub use vector::Vector;

#[cfg(all(target_arch = "x86_64", not(faultin_syscall)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(faultin_syscall)))]
pub(crate) use x86_64::*;

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod aarch64;
#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
pub(crate) use aarch64::*;

#[cfg(any(faultin_syscall, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod syscall;
#[cfg(any(faultin_syscall, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) use syscall::*;

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]
use crate::fault::{Fault, FaultCode};

/// The result registers of an out-of-line operation.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    /// 0 if everything was done.
    pub code: u64,
    /// `si_addr` of the fault.
    pub si_addr: usize,
    /// The progress register: everything of the destination before this address is stored.
    pub reached: usize,
}

impl Outcome {
    /// Returns the number of bytes before the progress register, when the operation began at `start`.
    pub(crate) fn done(&self, start: *mut u8) -> usize {
        self.reached.wrapping_sub(start.addr())
    }
}

/// Makes the fault of an inlined access from its registers: called only where the error register is not 0.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]
#[cold]
#[inline(never)]
pub fn fault_of(code: u64, si_addr: usize) -> Fault {
    Fault::from_registers(FaultCode(code), si_addr)
}
