//! The atomic operations of the protocols that involve signal handlers.
//!
//! Those protocols (files of [`signal`](crate::signal), [`registry::Disposition`](crate::registry), the stamp of a map) import
//! them from here, so that `crates/faultin-cache-loom` can substitute its own and run the very same files under every order
//! of their steps.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
