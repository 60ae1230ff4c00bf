//! One mapping of a file: which of its pages are accessible, and how.
//!
//! A page is *absent* (an access faults), *protected* (a store faults) or *writable*. What is writable is dirty in its folio: so
//! no store is lost, whatever is taken away. Pages become accessible, and writable, under the inode lock alone; the right to
//! store is taken away by whoever puts writeback in order, too. Poison comes without that lock, because the thread that waits for
//! the page may have it: so what is told to the page table, and what is remembered of it, is one step where there is poison.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::Mode;
use super::bug::{self, Bug};
use super::hardware::Hardware;
use super::signal::Blocked;
use super::states::{State, States};
use super::uffd::Uffd;
use crate::error::Error;
use faultin::map::Rights;

/// Pages that are made accessible at once, at most.
pub(super) const MOST_AT_ONCE: usize = 512;

/// How often the same page is faulted in in vain, before it is spared; and how often it is then: far more often than
/// anybody can come to take it while a copy begins.
const IN_VAIN: u32 = 2;
/// How many other pages may be faulted in in between: what somebody wants may lie across two of them, and others may want some, too.
const OTHERS: u32 = 16;
const SPARED: u32 = 1 << 8;

/// Faults in a row of which none has changed anything.
const IDLE: u32 = 1 << 10;

/// A mapping.
#[derive(Debug)]
pub(crate) struct Map {
    hardware: Hardware,
    states: States,
    /// What the hardware is told and what is noted of it are one step. Whoever has the inode lock alone needs no turn, but for
    /// [`poison`](Self::poison), which is done without: so only in the mode that knows poison, where nothing is served in signals.
    turn: Mutex<()>,
    page: usize,
    /// Where in the file it begins.
    start: u64,
    protection: Rights,
    mode: Mode,
    /// The page that who reads on would want next, and how many pages it gets then.
    next: AtomicUsize,
    window: AtomicUsize,
    idle: AtomicU32,
    /// A page that somebody has faulted in who is about to use it, how many others were since, how often it was again, and how often it
    /// is still spared for that.
    kept: AtomicUsize,
    others: AtomicU32,
    again: AtomicU32,
    spared: AtomicU32,
    error: Mutex<Option<Error>>,
    /// What segments of lists are told when the file becomes shorter.
    ends: Mutex<Vec<Weak<AtomicU64>>>,
    pub(super) counts: Counts,
}

/// Faults, by who has served them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) in_signal: AtomicU64,
    pub(super) by_thread: AtomicU64,
    pub(super) by_call: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Dropped in this order.
struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _blocked: Blocked,
}

impl Map {
    pub(super) fn new(hardware: Hardware, start: u64, pages: usize, protection: Rights, mode: Mode) -> Map {
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

    /// Where in the file it begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where the file ends at its shortest from now on, as long as that is kept.
    pub(super) fn watch_end(&self) -> Arc<AtomicU64> {
        let lowest = Arc::new(AtomicU64::new(u64::MAX));
        let mut ends = self.ends.lock();
        ends.retain(|end| end.strong_count() > 0);
        ends.push(Arc::downgrade(&lowest));
        lowest
    }

    /// The file is going to end at `len`: for whoever has the inode lock alone, before the bytes go.
    pub(super) fn ends_at(&self, len: u64) {
        for end in self.ends.lock().iter().filter_map(Weak::upgrade) {
            end.fetch_min(len, Release);
        }
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.hardware.base()
    }

    /// Whether it was made by this process, and not by one of which this is a child.
    pub(super) fn is_ours(&self) -> bool {
        self.hardware.is_ours()
    }

    pub(super) fn len(&self) -> usize {
        self.states.len() * self.page
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn is_writable(&self) -> bool {
        self.protection == Rights::ReadWrite
    }

    /// What its page table is, if that is simulated.
    #[cfg(test)]
    pub(super) fn table(&self) -> Option<&super::explore::PageTable> {
        self.hardware.table()
    }

    /// Which page would be read ahead for.
    #[cfg(test)]
    pub(super) fn next(&self) -> usize {
        self.next.load(Relaxed)
    }

    /// Whether nobody has the turn.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.turn.try_lock().is_some()
    }

    /// Nobody else tells the page table anything. Not for signals, which serve no faults in this mode. Signals wait meanwhile: a
    /// handler whose copy faults would wait for the porter, and that for the turn.
    fn turn(&self) -> Option<Turn<'_>> {
        (self.mode == Mode::Thread && !bug::has(Bug::PoisonsInBetween)).then(|| {
            let blocked = Blocked::all();
            Turn { _turn: self.turn.lock(), _blocked: blocked }
        })
    }

    pub(super) fn uffd(&self) -> Option<&Uffd> {
        self.hardware.uffd()
    }

    /// The page with this byte.
    pub(super) fn page_at(&self, address: usize) -> Option<usize> {
        let page = address.checked_sub(self.base().addr().get())? / self.page;
        (page < self.states.len()).then_some(page)
    }

    /// How many pages `len` bytes from here on touch.
    pub(super) fn pages_in(&self, address: usize, len: usize) -> usize {
        (address % self.page).saturating_add(len).div_ceil(self.page).max(1)
    }

    /// Where in the file a page is.
    pub(super) fn pos(&self, page: usize) -> u64 {
        self.start + (page * self.page) as u64
    }

    /// The pages that a part of the file touches.
    fn pages(&self, part: &Range<u64>) -> Range<usize> {
        let page = |pos: u64| usize::try_from(pos.saturating_sub(self.start) / self.page as u64).unwrap_or(usize::MAX);
        let end = page(part.end.saturating_add(self.page as u64 - 1)).min(self.states.len());
        page(part.start).min(end)..end
    }

    pub(super) fn state(&self, page: usize) -> State {
        self.states.get(page)
    }

    /// How many pages from this one on are to be made accessible: more, if somebody reads on.
    pub(super) fn window(&self, page: usize) -> usize {
        let window = if page == self.next.load(Relaxed) { 2 * self.window.load(Relaxed) } else { 1 };
        let window = window.clamp(1, MOST_AT_ONCE);
        self.window.store(window, Relaxed);
        window
    }

    /// Makes a page accessible, and those behind it up to `end`, the latter as far as they are absent. Up to `writable` for stores, too.
    ///
    /// Whether anything is other than it was. System calls and atomic operations only.
    pub(super) fn install(&self, page: usize, writable: usize, end: usize) -> Result<bool, Errno> {
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
                // That it is said to be writable and has faulted all the same is a matter of the kernel's memory.
                State::Absent | State::Writable => self.tell(|| self.hardware.install(offset, len, self.page, true)),
                State::Poisoned => Err(Errno::AGAIN),
            };
            match told {
                Ok(is_new) => {
                    changed |= is_new || state == State::Absent;
                    self.states.set(at..run, State::Writable);
                }
                // The first one is what was asked for.
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

    /// Makes all pages accessible, also for stores if `writable`: what needs no boundary between them.
    pub(super) fn install_all(&self, writable: bool) -> Result<bool, Errno> {
        let _turn = self.turn();
        self.tell(|| self.hardware.install(0, self.len(), self.page, writable))?;
        let state = if writable { State::Writable } else { State::Protected };
        self.states.set(0..self.states.len(), state);
        Ok(true)
    }

    /// Again if the kernel was doing something else with the address space.
    fn tell<T>(&self, mut what: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        for _ in 0..64 {
            match what() {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Somebody has faulted a page in and is about to use it. If that is in vain again and again, because others evict or write back
    /// all there is all the time, or because the same instruction needs another page that is taken for this one, the page is spared from then
    /// on, often enough for a copy to begin. One page for each mapping.
    pub(super) fn keep(&self, page: usize) {
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

    /// Whether a part of the file is to be spared this time.
    pub(super) fn keeps(&self, part: &Range<u64>) -> bool {
        let page = self.kept.load(Relaxed);
        let is_in = page < self.states.len() && self.pages(part).contains(&page);
        is_in && self.spared.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Whether so many faults in a row have changed nothing that this one, which does not either, is not to be repeated.
    pub(super) fn is_stuck(&self, changed: bool) -> bool {
        if changed {
            self.idle.store(0, Relaxed);
            return false;
        }
        self.idle.fetch_add(1, Relaxed) >= IDLE
    }

    /// Takes the right to store away from the pages of a part of the file.
    ///
    /// # Errors
    /// The kernel's; some pages may still be writable.
    pub(super) fn protect(&self, part: &Range<u64>) -> Result<(), Errno> {
        let _turn = self.turn();
        self.states.each_run(
            self.pages(part),
            |state| state == State::Writable,
            |run| {
                let (offset, len) = (run.start * self.page, run.len() * self.page);
                match self.hardware.protect(offset, len, true) {
                    Ok(()) => self.states.set(run, State::Protected),
                    // What is absent cannot be stored to either.
                    Err(_) => self.remove_run(run)?,
                }
                Ok(())
            },
        )
    }

    /// Makes the pages of a part of the file inaccessible.
    pub(super) fn remove(&self, part: &Range<u64>) {
        let _turn = self.turn();
        // What cannot be taken away page by page, because the kernel has no room for one more boundary, can be as a whole.
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
    /// The kernel's.
    pub(super) fn remove_all(&self) -> Result<(), Errno> {
        let _turn = self.turn();
        self.remove_every()
    }

    fn remove_every(&self) -> Result<(), Errno> {
        self.hardware.remove(0, self.len())?;
        self.states.set(0..self.states.len(), State::Absent);
        Ok(())
    }

    /// Has accesses to a page fail, until it is installed: for threads that wait for it. Needs no lock: whoever waits may have it.
    pub(super) fn poison(&self, page: usize) {
        let _turn = self.turn();
        let offset = page * self.page;
        let _ = self.hardware.remove(offset, self.page);
        self.states.set(page..page + 1, State::Absent);
        if self.tell(|| self.hardware.poison(offset, self.page)).is_ok() {
            self.states.set(page..page + 1, State::Poisoned);
        }
        self.wake(page);
    }

    /// Takes poison away.
    fn heal(&self, page: usize) {
        if self.state(page) == State::Poisoned && self.hardware.remove(page * self.page, self.page).is_ok() {
            self.states.set(page..page + 1, State::Absent);
        }
    }

    /// Has threads that wait for a page try again.
    pub(super) fn wake(&self, page: usize) {
        if let Some(uffd) = self.hardware.uffd() {
            uffd.wake(self.base().addr().get() + page * self.page, self.page);
        }
    }

    /// Remembers why a fault could not be served.
    pub(super) fn failed(&self, error: Error) {
        *self.error.lock() = Some(error);
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.error.lock().clone()
    }
}
