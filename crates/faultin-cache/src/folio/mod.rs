//! Folios: the memory that a file's bytes are cached in, and their positions in the file.
//!
//! A *folio* is a naturally aligned part of a file, a power of two of *blocks*, in one piece of memory. Each block is
//! *valid* (the kernel's `uptodate`) when it holds the file's current bytes, and zeros past its end, and *dirty* when the
//! store does not have them yet. An invalid block may hold bytes of another file, and must not be read.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "the memory is its own")]
pub(crate) mod arena;
mod backing;
mod ghost;
mod inside;
mod memory;
#[allow(unsafe_code, reason = "bytes that one thread of several has for itself")]
mod overwrite;
pub(crate) mod queue;
mod ranges;
mod table;
mod unsynced;
mod watch;

pub(crate) use arena::Arena;
pub(crate) use backing::Buffer;
pub(crate) use inside::backing::{Backing, Extent};
pub(crate) use inside::keys::{Geometry, Home, Key};
pub(crate) use inside::memory::Memory;
pub(crate) use inside::table::Table;
pub(crate) use inside::{Folio, MAX_USES};
pub(crate) use memory::Space;
pub(crate) use unsynced::Unsynced;
pub(crate) use watch::Watch;
