//! The operations on the page table of a mapping, by userfaultfd or by `mprotect`.
//!
//! Everything except the creation uses system calls of [`sys`] only, and may run in a signal handler.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use faultin::CallError;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::uffd::{Faults, Uffd};
use crate::folio::Backing;
use crate::pager::bug::{self, Bug};
#[cfg(test)]
use crate::pager::explore::PageTable;
use crate::sys;

/// A mapping of a part of a memfd, in which a page is inaccessible until it is installed.
///
/// # Invariants
///
/// `base` to `base + len` is a shared mapping owned by this value, until it is dropped.
#[derive(Debug)]
pub(in crate::pager) struct Hardware {
    base: NonNull<u8>,
    len: usize,
    by: By,
    /// The process that has it: a child does not.
    process: u32,
}

// SAFETY: a mapping is not bound to a thread, and this has only its addresses.
unsafe impl Send for Hardware {}
// SAFETY: as above.
unsafe impl Sync for Hardware {}

#[derive(Debug)]
enum By {
    Uffd(Uffd),
    Mprotect,
    /// Nothing is mapped, and the kernel is not involved.
    #[cfg(test)]
    Sim(PageTable),
}

/// The way to change the page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pager) enum Kind {
    Uffd(Faults),
    Mprotect,
}

impl Hardware {
    // Outside signals: it makes a mapping.
    /// Maps `len` bytes of the memfd from `pos` on, with this protection where it is installed.
    ///
    /// # Errors
    /// If there is no such userfaultfd, or there are no addresses.
    pub(in crate::pager) fn new(
        backing: &Backing,
        pos: u64,
        len: usize,
        writable: bool,
        kind: Kind,
    ) -> io::Result<Hardware> {
        let by = match kind {
            Kind::Uffd(faults) => By::Uffd(Uffd::open(faults)?),
            Kind::Mprotect => By::Mprotect,
        };
        let protection = match &by {
            By::Uffd(_) if writable => ProtFlags::READ | ProtFlags::WRITE,
            By::Uffd(_) => ProtFlags::READ,
            _ => ProtFlags::empty(),
        };
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, backing.as_fd(), pos) }
                .map_err(|error| CallError::name("mmap", error.into()))?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let process = faultin::process();
        let hardware = Hardware { base, len, by, process };
        // SAFETY: our own mapping. A child would have pages whose faults nothing resolves.
        unsafe { sys::madvise(base.as_ptr(), len, libc::MADV_DONTFORK) }
            .map_err(|error| CallError::name("madvise", error.into()))?;
        if let By::Uffd(uffd) = &hardware.by {
            uffd.register(base.addr().get(), len)?;
        }
        Ok(hardware)
    }

    /// Makes a simulated page table of `len` bytes.
    #[cfg(test)]
    pub(in crate::pager) fn simulated(table: PageTable, len: usize) -> Hardware {
        let process = faultin::process();
        Hardware { base: NonNull::dangling(), len, by: By::Sim(table), process }
    }

    #[cfg(test)]
    pub(in crate::pager) fn table(&self) -> Option<&PageTable> {
        match &self.by {
            By::Sim(table) => Some(table),
            _ => None,
        }
    }

    /// Returns whether this process has made it. A child of `fork` has nothing there, or another mapping.
    pub(in crate::pager) fn is_ours(&self) -> bool {
        faultin::process() == self.process
    }

    pub(in crate::pager) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(in crate::pager) fn uffd(&self) -> Option<&Uffd> {
        match &self.by {
            By::Uffd(uffd) => Some(uffd),
            _ => None,
        }
    }

    /// Returns the address of a part, which is within the mapping.
    fn at(&self, offset: usize) -> usize {
        self.base.addr().get() + offset
    }

    /// Makes pages of the memfd accessible. Pages that already are get these rights, too. Returns whether some were not
    /// mapped, as far as that is known.
    pub(in crate::pager) fn install(
        &self,
        offset: usize,
        len: usize,
        page: usize,
        writable: bool,
    ) -> Result<bool, Errno> {
        if self.is_by_rights() {
            return self.mprotect(offset, len, Self::rights(writable)).map(|()| false);
        }
        let (mut done, mut is_new) = (0, false);
        while done < len {
            let (installed, result) = self.map_pages(offset + done, len - done, writable);
            done += installed;
            is_new |= installed > 0;
            match result {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    self.protect(offset + done, page, !writable)?;
                    done += page;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(is_new)
    }

    /// Returns whether the mapping's protection makes pages accessible.
    fn is_by_rights(&self) -> bool {
        match &self.by {
            By::Uffd(_) => false,
            By::Mprotect => true,
            #[cfg(test)]
            By::Sim(table) => table.is_by_rights(),
        }
    }

    /// Maps pages of the memfd that are not mapped, from the first one on: returns the number of bytes, and the error that
    /// ended it.
    fn map_pages(&self, offset: usize, len: usize, writable: bool) -> (usize, Result<(), Errno>) {
        let writable = writable || bug::has(Bug::InstallsUnprotected);
        match &self.by {
            By::Uffd(uffd) => uffd.install(self.at(offset), len, writable),
            By::Mprotect => (0, Err(Errno::NOSYS)),
            #[cfg(test)]
            By::Sim(table) => table.map_pages(offset, len, writable),
        }
    }

    fn rights(writable: bool) -> libc::c_int {
        if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ }
    }

    fn mprotect(&self, offset: usize, len: usize, rights: libc::c_int) -> Result<(), Errno> {
        #[cfg(test)]
        if let By::Sim(table) = &self.by {
            return table.mprotect(offset, len, rights);
        }
        // SAFETY: a part of our own mapping. Users of its bytes know that they fault.
        unsafe { sys::mprotect(self.base.as_ptr().add(offset), len, rights) }
    }

    /// Revokes the right to store from installed pages, or grants it.
    pub(in crate::pager) fn protect(&self, offset: usize, len: usize, protect: bool) -> Result<(), Errno> {
        match &self.by {
            By::Uffd(uffd) => uffd.protect(self.at(offset), len, protect),
            #[cfg(test)]
            By::Sim(table) if !table.is_by_rights() => table.protect(offset, len, protect),
            _ => self.mprotect(offset, len, Self::rights(!protect)),
        }
    }

    /// Makes accesses to pages fail that are not installed, and wakes the threads that wait for them.
    ///
    /// # Errors
    /// If the mode has no waiting threads; the kernel's error.
    pub(in crate::pager) fn poison(&self, offset: usize, len: usize) -> Result<(), Errno> {
        // A page that was write-protected and removed still has the mark, which leaves no room for another one.
        let unmark = !bug::has(Bug::PoisonsOverMarks);
        match &self.by {
            By::Uffd(uffd) => {
                if unmark {
                    uffd.unmark(self.at(offset), len)?;
                }
                uffd.poison(self.at(offset), len)
            }
            By::Mprotect => Err(Errno::NOSYS),
            #[cfg(test)]
            By::Sim(table) => {
                if unmark {
                    table.protect(offset, len, false)?;
                }
                table.poison(offset, len)
            }
        }
    }

    /// Makes pages inaccessible, whatever their state. Their bytes stay in the memfd.
    pub(in crate::pager) fn remove(&self, offset: usize, len: usize) -> Result<(), Errno> {
        if self.is_by_rights() {
            return self.mprotect(offset, len, libc::PROT_NONE);
        }
        #[cfg(test)]
        if let By::Sim(table) = &self.by {
            table.remove(offset, len);
            return Ok(());
        }
        // SAFETY: within our own mapping.
        let part = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: a part of our own mapping, of a file that keeps the bytes.
        match unsafe { sys::madvise(part, len, libc::MADV_DONTNEED) } {
            // It is locked in memory (`mlockall`), which is not possible for such pages.
            Err(Errno::INVAL) => {
                // SAFETY: as above.
                unsafe {
                    sys::munlock(part, len)?;
                    sys::madvise(part, len, libc::MADV_DONTNEED)
                }
            }
            result => result,
        }
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        #[cfg(test)]
        if let By::Sim(_) = &self.by {
            return;
        }
        if self.is_ours() {
            // SAFETY: our own mapping, which is no longer used: every view of it borrows its owner.
            let _ = unsafe { sys::munmap(self.base.as_ptr(), self.len) };
        }
    }
}
