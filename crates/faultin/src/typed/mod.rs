//! Values of types of the caller in files and shared memory, read and written without `unsafe`.
//!
//! Which bytes are a value of a type is what `zerocopy` and `bytemuck` prove by their derives. With the feature of the same
//! name, [`zerocopy`] and [`bytemuck`] have the traits that add `read_as` and `write_from` to maps and views:
//!
//! | Type | `read_as` | `write_from` | Error |
//! |---|---|---|---|
//! | [`FileMap`], [`ReadView`] | yes | | [`MapError`], [`Short`] |
//! | [`FileMapMut`] | yes | yes | [`MapError`] |
//! | [`SharedMap`] | yes | yes | [`MapError`] |
//! | [`WriteView`] | | yes | [`Short`] |
//!
//! A value is a copy, made once: check the copy, use the copy. Nothing here gives out a reference to memory that may change. It
//! need not be aligned there. Positions are bytes from the start of the map or view.

#[cfg(feature = "bytemuck")]
pub mod bytemuck;
#[cfg(feature = "zerocopy")]
pub mod zerocopy;

use crate::fault::Short;
use crate::shared::SharedMap;
use crate::view::{ReadView, WriteView};
use crate::{FileMap, FileMapMut, MapError};

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

macro_rules! maps {
    ($($map:ty),*) => {$(
        impl sealed::Source for $map {
            type Error = MapError;

            #[inline]
            fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<(), MapError> {
                self.read_exact_at(buf, offset)
            }
        }
    )*};
}
maps!(FileMap, FileMapMut, SharedMap);

impl sealed::Dest for FileMapMut {
    type Error = MapError;

    #[inline]
    fn put(&self, buf: &[u8], offset: u64) -> Result<(), MapError> {
        self.write_at(buf, offset)
    }
}

impl sealed::Dest for SharedMap {
    type Error = MapError;

    #[inline]
    fn put(&self, buf: &[u8], offset: u64) -> Result<(), MapError> {
        self.write_at(buf, offset)
    }
}

/// An offset in a view; one that no view has is beyond its end all the same.
fn in_view(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl sealed::Source for ReadView<'_> {
    type Error = Short;

    #[inline]
    fn fetch(&self, buf: &mut [u8], offset: u64) -> Result<(), Short> {
        self.read(buf, in_view(offset))
    }
}

impl sealed::Dest for WriteView<'_> {
    type Error = Short;

    #[inline]
    fn put(&self, buf: &[u8], offset: u64) -> Result<(), Short> {
        self.write(buf, in_view(offset))
    }
}
