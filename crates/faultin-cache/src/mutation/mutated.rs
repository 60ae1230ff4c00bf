//! [`Mutated`].

use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, WriteMemory};

use super::Mutation;
use crate::copy::{CopyFrom, CopyTo};
use crate::error::Partial;
use crate::file::CachedFile;
use crate::write::Observer;

/// A file whose operations have a bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutated<'a, B> {
    file: &'a CachedFile,
    mutation: B,
}

impl<'a, B: Mutation> Mutated<'a, B> {
    /// Makes a file with the bug of `mutation`.
    pub fn new(file: &'a CachedFile, mutation: B) -> Mutated<'a, B> {
        Mutated { file, mutation }
    }

    /// Does what [`CachedFile::write_iter_with`] does.
    ///
    /// # Errors
    /// [`Partial`] if not all could be written.
    pub fn write_iter_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.file.write_iter_as::<M, C>(from, pos, self.mutation, observer)
    }

    /// Does what [`CachedFile::append_iter_with`] does.
    ///
    /// # Errors
    /// [`Partial`] if not all could be written.
    pub fn append_iter_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.file.append_iter_as::<M, C>(from, self.mutation, observer)
    }

    /// Does what [`CachedFile::read_iter_with`] does.
    ///
    /// # Errors
    /// [`Partial`] if not all could be read.
    pub fn read_iter_with<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.file.read_iter_as::<M, C>(to, pos, self.mutation, observer)
    }

    /// Does what [`CachedFile::write_direct_with`] does.
    ///
    /// # Errors
    /// [`Partial`] if not all could be written.
    pub fn write_direct_with<M: ReadMemory, C: CopyFrom<M>>(
        &self,
        from: &mut IovSource<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.file.write_direct_as::<M, C>(from, pos, self.mutation, observer)
    }

    /// Does what [`CachedFile::read_direct_with`] does.
    ///
    /// # Errors
    /// [`Partial`] if not all could be read.
    pub fn read_direct_with<M: WriteMemory, C: CopyTo<M>>(
        &self,
        to: &mut IovDest<'_, '_, M>,
        pos: u64,
        observer: &mut impl Observer,
    ) -> Result<usize, Partial> {
        self.file.read_direct_as::<M, C>(to, pos, self.mutation, observer)
    }
}
