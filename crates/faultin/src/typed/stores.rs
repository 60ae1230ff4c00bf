//! What can be stored to, and views.

use super::sealed;
use crate::fault::Short;
use crate::shared::SharedMap;
use crate::view::{ReadView, WriteView};
use crate::{FileMapMut, MapError};

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
maps!(FileMapMut, SharedMap);

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

/// Converts to an offset in a view; an offset that no view has is past its end all the same.
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
