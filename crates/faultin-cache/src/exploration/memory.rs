//! Memory with one accessible page and an inaccessible one after it.

use std::ptr::{self, NonNull};

use faultin::{ReadView, WriteView};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Number of bytes of the inaccessible page in a buffer.
pub(super) const BAD: usize = 16;

#[derive(Debug)]
pub(super) struct Faulting {
    base: NonNull<u8>,
    page: usize,
}

impl Faulting {
    pub(super) fn new(page: usize) -> Faulting {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), 2 * page, rights, MapFlags::PRIVATE) };
        let base = base.expect("there is memory");
        // SAFETY: the second page of the mapping.
        unsafe { mprotect(base.byte_add(page), page, MprotectFlags::empty()) }.expect("it can be protected");
        Faulting { base: NonNull::new(base.cast()).expect("a mapping is not at 0"), page }
    }

    /// Returns the last `good` accessible bytes.
    pub(super) fn good(&self, good: usize) -> Vec<u8> {
        // SAFETY: the first page, to which no reference exists and which only this thread uses.
        (self.page - good..self.page).map(|at| unsafe { self.base.add(at).read_volatile() }).collect()
    }

    /// Fills the accessible page.
    pub(super) fn fill(&self, byte: impl Fn(usize) -> u8) {
        // SAFETY: as in `good`.
        (0..self.page).for_each(|at| unsafe { self.base.add(at).write_volatile(byte(at)) });
    }

    /// Returns a view of `good` accessible bytes and some bad ones.
    pub(super) fn read_view(&self, good: usize) -> ReadView<'_> {
        // SAFETY: the mapping stays as long as the view, which borrows it.
        let all = unsafe { ReadView::new(self.base.as_ptr(), 2 * self.page) }.expect("the handler can be installed");
        all.subslice(self.page - good..self.page + BAD).expect("it is within")
    }

    /// Returns the same view for writing.
    pub(super) fn write_view(&self, good: usize) -> WriteView<'_> {
        // SAFETY: as in `read_view`.
        let all = unsafe { WriteView::new(self.base.as_ptr(), 2 * self.page) }.expect("the handler can be installed");
        all.subslice(self.page - good..self.page + BAD).expect("it is within")
    }
}

impl Drop for Faulting {
    fn drop(&mut self) {
        // SAFETY: the mapping, of which no view is left.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), 2 * self.page) };
    }
}
