//! The memory of a folio: of the arena, or of a mapped file. Reading and writing it is [outside](crate::folio).

#![forbid(unsafe_code)]

use super::backing::Extent;
use crate::folio::arena::{Account, Frames};

/// Memory that one folio owns.
#[derive(Debug)]
pub(crate) enum Memory {
    Frames(Frames),
    Extent(Extent),
}

impl Memory {
    pub(crate) fn account(&self) -> &Account {
        match self {
            Memory::Frames(frames) => frames.account(),
            Memory::Extent(extent) => extent.account(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Memory::Frames(frames) => frames.len(),
            Memory::Extent(extent) => extent.len(),
        }
    }

    /// Returns the maximum number of bytes for one [`read`](Self::read) or [`write`](Self::write).
    #[inline]
    pub(crate) fn at_once(&self) -> usize {
        match self {
            Memory::Frames(_) => usize::MAX,
            Memory::Extent(extent) => extent.at_once(),
        }
    }

    /// Returns the bytes, where they do not change through mappings.
    #[inline]
    pub(crate) fn stable(&self) -> Option<&[u8]> {
        match self {
            Memory::Frames(frames) => Some(frames.bytes()),
            Memory::Extent(_) => None,
        }
    }

    /// Returns the same, mutable.
    #[inline]
    pub(crate) fn stable_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Memory::Frames(frames) => Some(frames.bytes_mut()),
            Memory::Extent(_) => None,
        }
    }
}
