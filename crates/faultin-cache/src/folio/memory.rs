//! The memory of a folio: of the arena, or of a mapped file.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::arena::{Account, Frames};
use super::backing::Extent;
use crate::error::{Error, Partial};

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

    /// Calls `look` with a part.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    #[inline]
    pub(crate) fn read<R>(&self, within: Range<usize>, look: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        match self {
            Memory::Frames(frames) => Ok(look(&frames.bytes()[within])),
            Memory::Extent(extent) => {
                let mut buffer = extent.backing.buffer(within.len());
                let read = extent.backing.read(&mut buffer, extent.pos + within.start as u64);
                read.map_err(|error| Error::Memory(Arc::new(error)))?;
                Ok(look(&buffer))
            }
        }
    }

    /// Overwrites the bytes from `at` on, without a copy in between.
    ///
    /// # Errors
    /// [`Partial`] with [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn write_plain(&mut self, at: usize, bytes: &[u8]) -> Result<(), Partial> {
        match self {
            Memory::Frames(frames) => {
                frames.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Memory::Extent(extent) => extent.write(at, bytes),
        }
    }

    /// Lets `change` overwrite the start of a part, and returns its result, the number of bytes. The contents before are
    /// unspecified.
    ///
    /// # Errors
    /// [`Partial`] with [`Error::Memory`] if the kernel has no memory.
    #[inline]
    pub(crate) fn write<R>(
        &mut self,
        within: Range<usize>,
        change: impl FnOnce(&mut [u8]) -> (usize, R),
    ) -> Result<R, Partial> {
        match self {
            Memory::Frames(frames) => Ok(change(&mut frames.bytes_mut()[within]).1),
            Memory::Extent(extent) => {
                let mut buffer = extent.backing.buffer(within.len());
                let (changed, result) = change(&mut buffer);
                extent.write(within.start, &buffer[..changed])?;
                Ok(result)
            }
        }
    }
}

impl Extent {
    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Partial> {
        let written = self.backing.write(bytes, self.pos + at as u64);
        written.map_err(|(done, error)| {
            let error = faultin::CallError::name("pwrite64", error.into());
            Partial { done, error: Error::Memory(Arc::new(error)) }
        })
    }
}
