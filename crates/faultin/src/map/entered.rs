//! [`Entered`]: what is between the begin and the end of foreign code over a map, as a value.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::file::FileMap;
use super::guarded::{Bytes, Damaged, Guarded};
use super::record::Baseline;
use super::shared::SharedMap;

/// The bytes of a map that foreign code reads, from [`FileMap::enter`] or [`SharedMap::enter`] until it is left or dropped. It
/// is made and left in the caller's memory, because moving it takes time. Not part of the interface.
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
    #[inline]
    pub(super) fn new(target: Target<'a>, range: Range<u64>, bytes: Bytes<'a>) -> Self {
        Entered { target, range, bytes }
    }

    /// Returns the bytes: readable until the entry is left.
    #[inline]
    pub fn bytes(&self) -> *const [u8] {
        self.bytes.get()
    }

    /// Returns whether the bytes are a copy.
    #[inline]
    pub fn is_copy(&self) -> bool {
        matches!(self.bytes, Bytes::Copy(..))
    }

    /// Ends the entry in `place`, which has none afterwards.
    ///
    /// # Errors
    /// [`Damaged`] if not all bytes were the file's.
    ///
    /// # Safety
    /// `place` has an entry.
    pub unsafe fn leave(place: &mut MaybeUninit<Self>) -> Result<(), Damaged<()>> {
        // SAFETY: forwarded. The bytes are taken once, and nothing else of an entry needs to be dropped.
        let (entered, bytes) = unsafe {
            let entered = place.assume_init_ref();
            (entered, core::ptr::read(&raw const entered.bytes))
        };
        match &entered.target {
            Target::File(map, known) => map.end(known, &entered.range, bytes),
            Target::Shared(map) => map.end(&(), &entered.range, bytes),
        }
    }
}
