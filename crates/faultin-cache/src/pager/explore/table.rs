//! A simulated page table, with the quirks of the kernel that the protocol has to handle.
//!
//! * `UFFDIO_CONTINUE` maps any page of the memfd, also a page of zeros that was made by a mere touch, also over poison;
//!   without its write-protect mode it drops a mark of protection.
//! * `MADV_DONTNEED` keeps such a mark, and `UFFDIO_POISON` rejects a page that has one.
//! * An existing entry may be dropped at any time (reclaim). Then the access faults again.
//! * Punching a hole into the memfd drops the entries of its pages.
//! * A change of a part may be denied, for lack of memory or of one more boundary between rights; unmapping everything may
//!   not.
//! * Without userfaultfd an access with sufficient rights never faults: where the memfd has no page, it makes a page of
//!   zeros.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Step, step};
use crate::folio::Backing;

/// The state of a page for the hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::pager) struct Entry {
    /// It is mapped; or, without userfaultfd, may be read.
    pub(super) present: bool,
    /// A store faults; also the mark of a dropped entry.
    pub(super) protected: bool,
    pub(super) poisoned: bool,
}

/// The page table of a mapping of a whole file.
#[derive(Debug)]
pub(in crate::pager) struct PageTable {
    number: usize,
    by_rights: bool,
    backing: Arc<Backing>,
    page: usize,
    entries: Mutex<Vec<Entry>>,
    /// The next change of a part is denied.
    refuses: AtomicBool,
}

impl PageTable {
    pub(super) fn new(number: usize, by_rights: bool, backing: Arc<Backing>, pages: usize) -> PageTable {
        let page = rustix::param::page_size();
        let entries = Mutex::new(vec![Entry::default(); pages]);
        PageTable { number, by_rights, backing, page, entries, refuses: AtomicBool::new(false) }
    }

    /// Sets whether the next change of a part fails.
    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Relaxed);
    }

    /// Returns whether the next change of a part fails.
    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Relaxed)
    }

    fn refused(&self) -> Result<(), Errno> {
        if self.refuses.swap(false, Relaxed) { Err(Errno::NOMEM) } else { Ok(()) }
    }

    pub(in crate::pager) fn is_by_rights(&self) -> bool {
        self.by_rights
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().clone()
    }

    /// Returns whether an access succeeds.
    pub(super) fn allows(&self, page: usize, write: bool) -> bool {
        let entry = self.entries.lock()[page];
        entry.present && !(write && entry.protected)
    }

    /// Returns whether the memfd has a page.
    pub(super) fn is_in_memory(&self, page: usize) -> bool {
        let pos = (page * self.page) as u64;
        rustix::fs::seek(self.backing.as_fd(), SeekFrom::Data(pos)).is_ok_and(|found| found == pos)
    }

    fn each(&self, what: &'static str, offset: usize, len: usize, change: impl Fn(&mut Entry)) {
        let pages: Range<usize> = offset / self.page..(offset + len) / self.page;
        self.entries.lock()[pages.clone()].iter_mut().for_each(change);
        step(Step::Told { map: self.number, what, page: pages.start, pages: pages.len() });
    }

    pub(in crate::pager) fn map_pages(&self, offset: usize, len: usize, writable: bool) -> (usize, Result<(), Errno>) {
        let pages = offset / self.page..(offset + len) / self.page;
        let mut result = self.refused();
        let mut done = 0;
        for page in pages.clone() {
            if result.is_err() {
                break;
            }
            let entry = &mut self.entries.lock()[page];
            if !self.is_in_memory(page) {
                result = Err(Errno::FAULT);
            } else if entry.present {
                result = Err(Errno::EXIST);
            } else {
                *entry = Entry { present: true, protected: !writable, poisoned: false };
                done += self.page;
                continue;
            }
            break;
        }
        step(Step::Told { map: self.number, what: "continue", page: pages.start, pages: pages.len() });
        (done, result)
    }

    pub(in crate::pager) fn protect(&self, offset: usize, len: usize, protect: bool) -> Result<(), Errno> {
        self.refused()?;
        let what = if protect { "protect" } else { "unprotect" };
        self.each(what, offset, len, |entry| entry.protected = protect);
        Ok(())
    }

    pub(in crate::pager) fn remove(&self, offset: usize, len: usize) {
        self.each("remove", offset, len, |entry| (entry.present, entry.poisoned) = (false, false));
    }

    pub(in crate::pager) fn mprotect(&self, offset: usize, len: usize, rights: libc::c_int) -> Result<(), Errno> {
        if len < self.entries.lock().len() * self.page {
            self.refused()?;
        }
        let (present, protected) = (rights & libc::PROT_READ != 0, rights & libc::PROT_WRITE == 0);
        self.each("mprotect", offset, len, |entry| *entry = Entry { present, protected, poisoned: false });
        Ok(())
    }

    pub(in crate::pager) fn poison(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let taken = |entry: &Entry| entry.present || entry.protected || entry.poisoned;
        if self.entries.lock()[offset / self.page..(offset + len) / self.page].iter().any(taken) {
            return Err(Errno::EXIST);
        }
        self.each("poison", offset, len, |entry| entry.poisoned = true);
        Ok(())
    }

    /// Drops the entries of a hole that was punched into the memfd.
    pub(super) fn punched(&self, pos: u64, len: usize) {
        if self.by_rights {
            return;
        }
        let pages = pos as usize / self.page..(pos as usize + len) / self.page;
        for page in pages {
            if let Some(entry) = self.entries.lock().get_mut(page) {
                entry.present = false;
            }
        }
    }

    /// Drops an entry, as the kernel does when it needs memory; the page stays in the memfd.
    pub(super) fn reclaim(&self, page: usize) {
        self.entries.lock()[page].present = false;
    }

    /// Returns whether the entry can be dropped.
    pub(super) fn is_reclaimable(&self, page: usize) -> bool {
        !self.by_rights && self.entries.lock()[page].present
    }
}
