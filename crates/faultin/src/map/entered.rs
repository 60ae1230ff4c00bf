//! [`Entered`]: what is between the begin and the end of foreign code over a map, as a value.

use core::ops::Range;

use super::file::FileMap;
use super::guarded::{Bytes, Damaged, Guarded};
use super::record::Baseline;
use super::shared::SharedMap;

/// The bytes of a map that foreign code reads, from [`FileMap::enter`] or [`SharedMap::enter`] until it is left or dropped.
/// Not part of the interface.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entered<'a> {
    target: Target<'a>,
    range: Range<u64>,
    bytes: Bytes<'a>,
}

/// The map, and what was known of its file.
#[derive(Debug)]
pub(super) enum Target<'a> {
    File(&'a FileMap, Baseline),
    Shared(&'a SharedMap),
}

impl<'a> Entered<'a> {
    pub(super) fn new(target: Target<'a>, range: Range<u64>, bytes: Bytes<'a>) -> Self {
        Entered { target, range, bytes }
    }

    /// Returns the bytes: readable until the entry is left.
    pub fn bytes(&self) -> *const [u8] {
        self.bytes.get()
    }

    /// Returns whether the bytes are a copy.
    pub fn is_copy(&self) -> bool {
        matches!(self.bytes, Bytes::Copy(..))
    }

    /// Ends the entry.
    ///
    /// # Errors
    /// [`Damaged`] if not all bytes were the file's.
    pub fn leave(self) -> Result<(), Damaged<()>> {
        match self.target {
            Target::File(map, known) => map.end(&known, &self.range, self.bytes),
            Target::Shared(map) => map.end(&(), &self.range, self.bytes),
        }
    }
}
