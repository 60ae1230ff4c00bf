//! Making, reading and writing the memory of a folio.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::arena::{Elsewhere, Frames};
use super::{Backing, Extent, Memory};
use crate::error::{Error, Partial};

/// A part of the limit, for a folio that is not in the table yet.
pub(crate) enum Space {
    /// With the folio's memory.
    Frames(Frames),
    /// Of a mapped file, whose bytes have one place: there may be another folio until this one is inserted.
    Shared(Arc<Backing>, Elsewhere),
}

impl Space {
    pub(crate) fn len(&self) -> usize {
        match self {
            Space::Frames(frames) => frames.len(),
            Space::Shared(_, taken) => taken.account().len(),
        }
    }

    /// Returns the memory of a folio at `start`, where there is none: for the holder of the exclusive inode lock, which
    /// inserts or drops it before it unlocks.
    pub(crate) fn into_memory(self, start: u64) -> Memory {
        match self {
            Space::Frames(frames) => Memory::Frames(frames),
            Space::Shared(backing, taken) => Memory::Extent(Extent::new(backing, start, taken)),
        }
    }
}

impl Memory {
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
