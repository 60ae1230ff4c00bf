//! The atomic operations of the protocols that signal handlers take part in.
//!
//! Those protocols ([`users`](crate::signal::users), [`registry::Disposition`](crate::registry), the stamp of a map) ask
//! this module for them, so that `crates/faultin-cache-loom` can put its own in place and run the very same files under
//! every order of their steps.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
