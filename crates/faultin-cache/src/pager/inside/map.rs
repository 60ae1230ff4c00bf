//! One mapping of a file: which of its pages are accessible, and how.
//!
//! A page is *absent* (an access faults), *protected* (a store faults) or *writable*. A writable page is dirty in its
//! folio: so no store is lost, whatever is revoked. Pages become accessible, and writable, under the exclusive inode lock;
//! the holder of the writeback lock also revokes the right to store. Poison is set without that lock, because the thread
//! that waits for the page may hold it: so where there is poison, a change of the page table and its note are one step.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::hardware::Hardware;
use super::mode::Mode;
use super::states::{State, States};
use super::uffd::Uffd;
use crate::error::Error;
use crate::inside::sys::Blocked;
use crate::pager::bug::{self, Bug};
use faultin::map::Rights;

/// Maximum number of pages made accessible at once.
pub(in crate::pager) const MAX_PAGES_AT_ONCE: usize = 512;

/// How often the same page is faulted in without progress, before it is spared; and how often it is spared then: far more
/// often than other threads can try to evict it while a copy begins.
const IN_VAIN: u32 = 2;
/// Number of other pages that may be faulted in between: an access may cross a page boundary, and other threads may fault
/// in some, too.
const OTHERS: u32 = 16;
const SPARED: u32 = 1 << 8;

/// Number of faults in a row that have changed nothing.
const IDLE: u32 = 1 << 10;

/// A mapping.
#[derive(Debug)]
pub(crate) struct Map {
    hardware: Hardware,
    states: States,
    /// Makes a change of the page table and its note one step. The holder of the exclusive inode lock needs it only because
    /// of [`poison`](Self::poison), which is done without that lock: so only in the mode with poison, where no fault is
    /// resolved in signals.
    turn: Mutex<()>,
    page: usize,
    /// Offset in the file where it begins.
    start: u64,
    protection: Rights,
    mode: Mode,
    /// The next page of a sequential reader, and the number of pages that it gets then.
    next: AtomicUsize,
    window: AtomicUsize,
    idle: AtomicU32,
    /// A page that was faulted in and is about to be used, the number of others since, how often it was faulted in again,
    /// and how often it is still spared for that.
    kept: AtomicUsize,
    others: AtomicU32,
    again: AtomicU32,
    spared: AtomicU32,
    error: Mutex<Option<Error>>,
    /// Informs segments of lists when the file becomes shorter.
    ends: Mutex<Vec<Weak<AtomicU64>>>,
    pub(in crate::pager) counts: Counts,
}

/// Number of faults, by the way they were resolved.
#[derive(Debug, Default)]
pub(in crate::pager) struct Counts {
    pub(in crate::pager) in_signal: AtomicU64,
    pub(in crate::pager) by_thread: AtomicU64,
    pub(in crate::pager) by_call: AtomicU64,
    pub(in crate::pager) rejected: AtomicU64,
}

pub(in crate::pager) fn count(what: &AtomicU64) {
    what.fetch_add(1, Relaxed);
}

/// Dropped in this order.
struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _blocked: Blocked,
}

impl Map {
    // Outside signals: it allocates.
    pub(in crate::pager) fn new(hardware: Hardware, start: u64, pages: usize, protection: Rights, mode: Mode) -> Map {
        Map {
            hardware,
            states: States::new(pages),
            turn: Mutex::new(()),
            page: faultin::page_size(),
            start,
            protection,
            mode,
            next: AtomicUsize::new(0),
            window: AtomicUsize::new(1),
            idle: AtomicU32::new(0),
            kept: AtomicUsize::new(usize::MAX),
            others: AtomicU32::new(OTHERS),
            again: AtomicU32::new(0),
            spared: AtomicU32::new(0),
            error: Mutex::new(None),
            ends: Mutex::new(Vec::new()),
            counts: Counts::default(),
        }
    }

    /// Returns the offset in the file where it begins.
    pub(in crate::pager) fn start(&self) -> u64 {
        self.start
    }

    // Outside signals: it locks.
    /// Returns the least end of the file from now on, as long as it is kept.
    pub(in crate::pager) fn watch_end(&self) -> Arc<AtomicU64> {
        let lowest = Arc::new(AtomicU64::new(u64::MAX));
        // A handler that faults would wait for the inode lock, whose holder waits for this one: as for the others here that are
        // taken without the inode lock.
        let _blocked = Blocked::all();
        let mut ends = self.ends.lock();
        ends.retain(|end| end.strong_count() > 0);
        ends.push(Arc::downgrade(&lowest));
        lowest
    }

    // Outside signals: it locks.
    /// Records that the file is going to end at `len`: under the exclusive inode lock, before the bytes are dropped.
    pub(in crate::pager) fn ends_at(&self, len: u64) {
        for end in self.ends.lock().iter().filter_map(Weak::upgrade) {
            end.fetch_min(len, Release);
        }
    }

    pub(in crate::pager) fn base(&self) -> NonNull<u8> {
        self.hardware.base()
    }

    /// Returns whether it was made by this process, and not by a parent.
    pub(in crate::pager) fn is_ours(&self) -> bool {
        self.hardware.is_ours()
    }

    pub(in crate::pager) fn len(&self) -> usize {
        self.states.len() * self.page
    }

    pub(in crate::pager) fn mode(&self) -> Mode {
        self.mode
    }

    pub(in crate::pager) fn is_writable(&self) -> bool {
        self.protection == Rights::ReadWrite
    }

    /// Returns its page table, if that is simulated.
    #[cfg(test)]
    pub(in crate::pager) fn table(&self) -> Option<&crate::pager::explore::PageTable> {
        self.hardware.table()
    }

    /// Returns the page for which readahead would happen.
    #[cfg(test)]
    pub(in crate::pager) fn next(&self) -> usize {
        self.next.load(Relaxed)
    }

    /// Returns whether the turn is free.
    // Outside signals: for tests.
    #[cfg(test)]
    pub(in crate::pager) fn is_free(&self) -> bool {
        self.turn.try_lock().is_some()
    }

    /// Takes the exclusive right to change the page table. Not for signals, which resolve no faults in this mode. Signals
    /// are blocked meanwhile: a handler whose copy faults would wait for the porter, which waits for the turn.
    fn turn(&self) -> Option<Turn<'_>> {
        // Outside signals: no fault is resolved in signals in this mode.
        (self.mode == Mode::Thread && !bug::has(Bug::PoisonsInBetween)).then(|| {
            let blocked = Blocked::all();
            Turn { _turn: self.turn.lock(), _blocked: blocked }
        })
    }

    pub(in crate::pager) fn uffd(&self) -> Option<&Uffd> {
        self.hardware.uffd()
    }

    /// Returns the page that contains this address.
    pub(in crate::pager) fn page_at(&self, address: usize) -> Option<usize> {
        let page = address.checked_sub(self.base().addr().get())? / self.page;
        (page < self.states.len()).then_some(page)
    }

    /// Returns the number of pages that `len` bytes from here on touch.
    pub(in crate::pager) fn pages_in(&self, address: usize, len: usize) -> usize {
        (address % self.page).saturating_add(len).div_ceil(self.page).max(1)
    }

    /// Returns the offset of a page in the file.
    pub(in crate::pager) fn pos(&self, page: usize) -> u64 {
        self.start + (page * self.page) as u64
    }

    /// Returns the pages that a part of the file touches.
    fn pages(&self, part: &Range<u64>) -> Range<usize> {
        let page = |pos: u64| usize::try_from(pos.saturating_sub(self.start) / self.page as u64).unwrap_or(usize::MAX);
        let end = page(part.end.saturating_add(self.page as u64 - 1)).min(self.states.len());
        page(part.start).min(end)..end
    }

    pub(in crate::pager) fn state(&self, page: usize) -> State {
        self.states.get(page)
    }

    /// Returns the number of pages from this one on to make accessible: more, if access continues sequentially.
    pub(in crate::pager) fn window(&self, page: usize) -> usize {
        let window = if page == self.next.load(Relaxed) { 2 * self.window.load(Relaxed) } else { 1 };
        let window = window.clamp(1, MAX_PAGES_AT_ONCE);
        self.window.store(window, Relaxed);
        window
    }

    /// Makes a page accessible, and those after it up to `end`, the latter as far as they are absent. Up to `writable` for
    /// stores, too. Returns whether anything changed. System calls and atomic operations only.
    pub(in crate::pager) fn install(&self, page: usize, writable: usize, end: usize) -> Result<bool, Errno> {
        let _turn = self.turn();
        self.heal(page);
        if bug::has(Bug::TrustsTheState) && matches!(self.state(page), State::Writable | State::Protected) {
            if writable > page && self.state(page) == State::Protected {
                self.hardware.protect(page * self.page, self.page, false)?;
                self.states.set(page..page + 1, State::Writable);
            }
            return Ok(true);
        }
        let end = end.clamp(page + 1, self.states.len());
        let mut changed = false;
        let mut at = page;
        while at < writable.min(end) {
            let state = self.state(at);
            let run = self.states.run(at..writable.min(end), state);
            let (offset, len) = (at * self.page, (run - at) * self.page);
            let told = match state {
                State::Protected => self.tell(|| self.hardware.protect(offset, len, false).map(|()| true)),
                // The kernel may have dropped the entry of a page that is noted as writable and has faulted all the same.
                State::Absent | State::Writable => self.tell(|| self.hardware.install(offset, len, self.page, true)),
                State::Poisoned => Err(Errno::AGAIN),
            };
            match told {
                Ok(is_new) => {
                    changed |= is_new || state == State::Absent;
                    self.states.set(at..run, State::Writable);
                }
                // The first one was requested.
                Err(error) if at == page => return Err(error),
                Err(_) => return Ok(changed),
            }
            at = run;
        }
        let behind = self.states.run((page + 1).max(at)..end, State::Absent);
        if at < behind {
            let told = self.tell(|| self.hardware.install(at * self.page, (behind - at) * self.page, self.page, false));
            match told {
                Ok(is_new) => {
                    changed |= is_new || self.state(at) == State::Absent;
                    self.states.set(at..behind, State::Protected);
                }
                Err(error) if at == page => return Err(error),
                Err(_) => {}
            }
        }
        self.next.store(behind, Relaxed);
        Ok(changed)
    }

    /// Makes all pages accessible, also for stores if `writable`: this needs no boundary between them.
    pub(in crate::pager) fn install_all(&self, writable: bool) -> Result<bool, Errno> {
        let _turn = self.turn();
        self.tell(|| self.hardware.install(0, self.len(), self.page, writable))?;
        let state = if writable { State::Writable } else { State::Protected };
        self.states.set(0..self.states.len(), state);
        Ok(true)
    }

    /// Repeats a call if the kernel was busy with the address space.
    fn tell<T>(&self, mut what: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        for _ in 0..64 {
            match what() {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Notes that a page was faulted in and is about to be used. If that happens repeatedly without progress, because other
    /// threads evict or write back all the time, or because the same instruction needs another page that replaces this one,
    /// the page is spared from then on, often enough for a copy to begin. One page for each mapping.
    pub(in crate::pager) fn keep(&self, page: usize) {
        if self.kept.load(Relaxed) == page {
            self.others.store(0, Relaxed);
            if self.again.fetch_add(1, Relaxed) >= IN_VAIN {
                self.spared.store(SPARED, Relaxed);
            }
        } else if self.others.fetch_add(1, Relaxed) >= OTHERS {
            self.kept.store(page, Relaxed);
            for count in [&self.others, &self.again, &self.spared] {
                count.store(0, Relaxed);
            }
        }
    }

    /// Returns whether a part of the file is spared this time.
    pub(in crate::pager) fn keeps(&self, part: &Range<u64>) -> bool {
        let page = self.kept.load(Relaxed);
        let is_in = page < self.states.len() && self.pages(part).contains(&page);
        is_in && self.spared.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Returns whether so many faults in a row have changed nothing that this one, which does not either, must not be
    /// repeated.
    pub(in crate::pager) fn is_stuck(&self, changed: bool) -> bool {
        if changed {
            self.idle.store(0, Relaxed);
            return false;
        }
        self.idle.fetch_add(1, Relaxed) >= IDLE
    }

    /// Revokes the right to store from the pages of a part of the file.
    ///
    /// # Errors
    /// The kernel's error; some pages may still be writable.
    pub(in crate::pager) fn protect(&self, part: &Range<u64>) -> Result<(), Errno> {
        let _turn = self.turn();
        self.states.each_run(
            self.pages(part),
            |state| state == State::Writable,
            |run| {
                let (offset, len) = (run.start * self.page, run.len() * self.page);
                match self.hardware.protect(offset, len, true) {
                    Ok(()) => self.states.set(run, State::Protected),
                    // An absent page cannot be stored to either.
                    Err(_) => self.remove_run(run)?,
                }
                Ok(())
            },
        )
    }

    /// Makes the pages of a part of the file inaccessible.
    pub(in crate::pager) fn remove(&self, part: &Range<u64>) {
        let _turn = self.turn();
        // If the kernel has no room for one more boundary, so that pages cannot be revoked one by one, the whole mapping
        // can.
        let pages = self.pages(part);
        if self.states.each_run(pages, |state| state != State::Absent, |run| self.remove_run(run)).is_err() {
            let _ = self.remove_every();
        }
    }

    fn remove_run(&self, run: Range<usize>) -> Result<(), Errno> {
        match self.hardware.remove(run.start * self.page, run.len() * self.page) {
            Err(_) if !bug::has(Bug::IgnoresRefusals) => self.remove_every(),
            _ => {
                self.states.set(run, State::Absent);
                Ok(())
            }
        }
    }

    /// Makes all pages inaccessible.
    ///
    /// # Errors
    /// The kernel's error.
    pub(in crate::pager) fn remove_all(&self) -> Result<(), Errno> {
        let _turn = self.turn();
        self.remove_every()
    }

    fn remove_every(&self) -> Result<(), Errno> {
        self.hardware.remove(0, self.len())?;
        self.states.set(0..self.states.len(), State::Absent);
        Ok(())
    }

    /// Makes accesses to a page fail, until it is installed: for threads that wait for it. Needs no lock: the waiting
    /// thread may hold it.
    pub(in crate::pager) fn poison(&self, page: usize) {
        let _turn = self.turn();
        let offset = page * self.page;
        let _ = self.hardware.remove(offset, self.page);
        self.states.set(page..page + 1, State::Absent);
        if self.tell(|| self.hardware.poison(offset, self.page)).is_ok() {
            self.states.set(page..page + 1, State::Poisoned);
        }
        self.wake(page);
    }

    /// Removes poison.
    fn heal(&self, page: usize) {
        if self.state(page) == State::Poisoned && self.hardware.remove(page * self.page, self.page).is_ok() {
            self.states.set(page..page + 1, State::Absent);
        }
    }

    /// Makes the threads that wait for a page try again.
    pub(in crate::pager) fn wake(&self, page: usize) {
        if let Some(uffd) = self.hardware.uffd() {
            uffd.wake(self.base().addr().get() + page * self.page, self.page);
        }
    }

    // Outside signals: it locks.
    /// Records why a fault could not be resolved.
    pub(in crate::pager) fn failed(&self, error: Error) {
        let _blocked = Blocked::all();
        let before = self.error.lock().replace(error);
        // The error of a store is foreign code, and dropped without the lock.
        drop(before);
    }

    // Outside signals: it locks.
    pub(in crate::pager) fn last_error(&self) -> Option<Error> {
        let _blocked = Blocked::all();
        self.error.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::Cache;
    use crate::pager::Mode;
    use crate::signals::tests::assert_waits_without_signals;
    use crate::store::MemoryStore;
    use faultin::map::Rights;

    #[test]
    fn who_waits_for_the_last_error_or_the_ends_has_its_signals_blocked() {
        let file = Cache::new().open(MemoryStore::new([7; 100])).unwrap();
        let mapping = file.map(0..100, Rights::Read, Mode::Mprotect).unwrap();
        let map = mapping.inner();
        assert_waits_without_signals(map.error.lock(), || map.failed(std::io::Error::other("none").into()));
        assert_waits_without_signals(map.error.lock(), || assert!(map.last_error().is_some()));
        assert_waits_without_signals(map.ends.lock(), || drop(map.watch_end()));
    }
}
