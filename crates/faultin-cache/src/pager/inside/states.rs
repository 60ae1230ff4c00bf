//! A byte for each page of a mapping.

#![deny(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use rustix::io::Errno;

/// The state of a page of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::pager) enum State {
    /// An access faults.
    Absent = 0,
    /// A store faults.
    Protected = 1,
    /// No access faults; its block is dirty.
    Writable = 2,
    /// An access fails, and no thread waits for the page forever.
    Poisoned = 3,
}

/// The states of all pages.
#[derive(Debug)]
pub(in crate::pager) struct States {
    pages: Box<[AtomicU8]>,
}

impl States {
    // Outside signals: it allocates.
    /// Makes the states of `pages` absent pages. Takes memory only for pages that are ever in another state.
    pub(in crate::pager) fn new(pages: usize) -> States {
        let pages = Box::into_raw(vec![0u8; pages].into_boxed_slice());
        // SAFETY: an `AtomicU8` has the layout and the values of a `u8`; the box is its memory's only owner.
        #[allow(unsafe_code, reason = "zeroed memory that the allocator need not touch")]
        let pages = unsafe { Box::from_raw(pages as *mut [AtomicU8]) };
        States { pages }
    }

    pub(in crate::pager) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(in crate::pager) fn get(&self, page: usize) -> State {
        match self.pages[page].load(Relaxed) {
            0 => State::Absent,
            1 => State::Protected,
            2 => State::Writable,
            _ => State::Poisoned,
        }
    }

    pub(in crate::pager) fn set(&self, pages: Range<usize>, state: State) {
        for page in &self.pages[pages] {
            // Unused pages need no memory to stay absent.
            if page.load(Relaxed) != state as u8 {
                page.store(state as u8, Relaxed);
            }
        }
    }

    /// Returns the end of a run of pages in this state.
    pub(in crate::pager) fn run(&self, pages: Range<usize>, state: State) -> usize {
        let end = pages.end;
        pages.into_iter().find(|&page| self.get(page) != state).unwrap_or(end)
    }

    /// Calls a function with each run of pages in given states.
    ///
    /// # Errors
    /// The first error, after which it stops.
    pub(in crate::pager) fn each_run(
        &self,
        pages: Range<usize>,
        such: impl Fn(State) -> bool,
        mut with: impl FnMut(Range<usize>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut at = pages.start;
        while at < pages.end {
            let Some(first) = (at..pages.end).find(|&page| such(self.get(page))) else { break };
            let end = (first..pages.end).find(|&page| !such(self.get(page))).unwrap_or(pages.end);
            with(first..end)?;
            at = end;
        }
        Ok(())
    }
}
