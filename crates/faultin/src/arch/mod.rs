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
