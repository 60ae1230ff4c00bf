//! Buffers: plain ones, mappings, and memory that faults permanently.

use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use faultin::iov::{ReadSegment, WriteSegment};
use faultin::{ReadView, WriteView};
use faultin_cache::CachedFile;
use parking_lot::RwLockReadGuard;

use super::worker::{Checked, Worker};
use super::world::Mapped;

/// The value of a byte that must not be touched.
pub const UNTOUCHED: u8 = 0xa5;

/// A part of a buffer.
pub enum Part {
    Plain(Vec<u8>),
    /// These bytes of this file.
    Mapped(Arc<Mapped>, usize, Range<usize>),
}

/// Files that stay as they are, except for changes by threads of their own bytes.
pub struct Opened<'w>(Vec<(usize, RwLockReadGuard<'w, CachedFile>)>);

impl Opened<'_> {
    pub fn get(&self, file: usize) -> &CachedFile {
        let found = self.0.iter().find(|(number, _)| *number == file);
        &found.expect("it was asked for").1
    }
}

impl Part {
    pub fn len(&self) -> usize {
        match self {
            Part::Plain(bytes) => bytes.len(),
            Part::Mapped(_, _, range) => range.len(),
        }
    }

    pub fn source(&self) -> Checked<ReadSegment<'_, ReadView<'_>>> {
        match self {
            Part::Plain(bytes) => Ok(bytes.as_slice().into()),
            Part::Mapped(mapped, _, range) => read_part(mapped, range).map(Into::into),
        }
    }

    pub fn dest(&mut self) -> Checked<WriteSegment<'_, WriteView<'_>>> {
        match self {
            Part::Plain(bytes) => Ok(bytes.as_mut_slice().into()),
            Part::Mapped(mapped, _, range) => write_part(mapped, range).map(Into::into),
        }
    }
}

/// Returns a view of these bytes of the file, in a mapping that contains them.
pub fn read_part<'m>(mapped: &'m Mapped, range: &Range<usize>) -> Checked<ReadView<'m>> {
    let view = mapped.mapping.read_view().map_err(|error| error.to_string())?;
    view.subslice(range.start - mapped.start..range.end - mapped.start).ok_or_else(|| "not mapped".to_owned())
}

/// Returns the same view for writing.
pub fn write_part<'m>(mapped: &'m Mapped, range: &Range<usize>) -> Checked<WriteView<'m>> {
    let view = mapped.mapping.write_view().map_err(|error| error.to_string())?;
    view.subslice(range.start - mapped.start..range.end - mapped.start).ok_or_else(|| "not mapped".to_owned())
}

impl<'w> Worker<'w> {
    /// Locks these files, in an order that excludes a circle of waits.
    pub fn opened(&self, files: impl IntoIterator<Item = usize>) -> Opened<'w> {
        let mut files: Vec<usize> = files.into_iter().collect();
        files.sort_unstable();
        files.dedup();
        Opened(files.into_iter().map(|file| (file, self.file(file).open.read())).collect())
    }

    /// Splits a length into up to three parts: each a plain buffer or, every other time, bytes of this thread in some file,
    /// which overlap neither each other nor `besides`.
    pub fn layout(&self, len: usize, besides: (usize, &Range<usize>)) -> Vec<Option<(usize, Range<usize>)>> {
        let mut taken = vec![(besides.0, besides.1.clone())];
        let mut parts = Vec::new();
        let mut left = len;
        while left > 0 {
            let mut some = if parts.len() == 2 || self.random.once_in(2) { left } else { 1 + self.random.below(left) };
            let file = self.random.below(self.world.files.len());
            let own = self.own(file, some);
            let is_free = |(number, other): &(usize, Range<usize>)| {
                *number != file || own.end <= other.start || other.end <= own.start
            };
            if self.random.once_in(2) && taken.iter().all(is_free) {
                some = own.len();
                taken.push((file, own.clone()));
                parts.push(Some((file, own)));
            } else {
                parts.push(None);
                if parts.len() < 3 {
                    some = 1 + self.random.below(some);
                }
            }
            left -= some;
            if parts.len() == 3 {
                break;
            }
        }
        parts
    }
}

/// Two accessible pages, and one that never is.
#[derive(Debug)]
pub struct Faulting {
    base: NonNull<u8>,
    page: usize,
}

impl Faulting {
    /// # Errors
    /// No memory.
    pub fn new(page: usize) -> Checked<Faulting> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(ptr::null_mut(), 3 * page, rights, flags, -1, 0) };
        let base = NonNull::new(base.cast()).filter(|_| base != libc::MAP_FAILED);
        let faulting = Faulting { base: base.ok_or("no memory for a buffer")?, page };
        // SAFETY: the last page of our own mapping.
        let result = unsafe { libc::mprotect(faulting.base.as_ptr().add(2 * page).cast(), page, libc::PROT_NONE) };
        if result == 0 { Ok(faulting) } else { Err("no memory for a buffer".to_owned()) }
    }

    /// Returns a view of `len` bytes of which the first `good` are accessible: at most two pages, and one after them.
    pub fn view(&self, good: usize, len: usize) -> Checked<WriteView<'_>> {
        // SAFETY: our own mapping, which exists as long as the view.
        let view = unsafe { WriteView::new(self.base.as_ptr(), 3 * self.page) }.map_err(|error| error.to_string())?;
        let start = 2 * self.page - good;
        view.subslice(start..start + len).ok_or_else(|| "too long".to_owned())
    }
}

impl Drop for Faulting {
    fn drop(&mut self) {
        // SAFETY: our own mapping; views of it borrow it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), 3 * self.page) };
    }
}
