//! Values of the caller's types in files and shared memory, read and written without `unsafe`.
//!
//! The derives of `zerocopy` and `bytemuck` prove which bytes are a value of a type. With the feature of the same name,
//! [`zerocopy`] and [`bytemuck`] have the traits that add `read_as` and `write_from` to maps and views:
//!
//! | Type | `read_as` | `write_from` | Error |
//! |---|---|---|---|
//! | [`FileMap`], [`ReadView`] | yes | | [`MapError`], [`Short`] |
//! | [`FileMapMut`] | yes | yes | [`MapError`] |
//! | [`SharedMap`] | yes | yes | [`MapError`] |
//! | [`WriteView`] | | yes | [`Short`] |
//!
//! A value is a copy, made once: check the copy, use the copy. No function here returns a reference to memory that may
//! change. The value need not be aligned there. Positions are bytes from the start of the map or view.

#[cfg(feature = "bytemuck")]
pub mod bytemuck;
#[cfg(not(faultin_portable))]
mod stores;
#[cfg(feature = "zerocopy")]
pub mod zerocopy;

use crate::{FileMap, MapError};
#[cfg(all(doc, not(faultin_portable)))]
use crate::{FileMapMut, ReadView, Short, WriteView, shared::SharedMap};

/// Memory to read from.
pub trait Source: sealed::Source {}

/// Memory to write to.
pub trait Dest: sealed::Dest {}

impl<M: sealed::Source> Source for M {}
impl<M: sealed::Dest> Dest for M {}

mod sealed {
    pub trait Source {
        type Error;

        /// Fills `buf` from `offset`, or fails.
        fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<(), Self::Error>;
    }

    pub trait Dest {
        type Error;

        /// Stores all of `buf` at `offset`, or fails.
        fn put(&self, buf: &[u8], offset: u64) -> Result<(), Self::Error>;
    }
}

impl sealed::Source for FileMap {
    type Error = MapError;

    #[inline]
    fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<(), MapError> {
        self.read_exact_at(buf, offset)
    }
}
