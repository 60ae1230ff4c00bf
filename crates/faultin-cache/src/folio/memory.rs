//! Reading and writing the memory of a folio.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::{Extent, Memory};
use crate::error::{Error, Partial};

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
