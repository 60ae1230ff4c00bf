//! A byte for each page of a mapping.

#![deny(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use rustix::io::Errno;

/// What a page of a mapping can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// An access faults.
    Absent = 0,
    /// A store faults.
    Protected = 1,
    /// Nothing does; its block is dirty.
    Writable = 2,
    /// An access fails, and nobody who waits for the page waits for ever.
    Poisoned = 3,
}

/// The states of all pages.
#[derive(Debug)]
pub(super) struct States {
    pages: Box<[AtomicU8]>,
}

impl States {
    /// All absent. Takes memory only for those that ever are not.
    pub(super) fn new(pages: usize) -> States {
        let pages = Box::into_raw(vec![0u8; pages].into_boxed_slice());
        // SAFETY: an `AtomicU8` has the layout and the values of a `u8`; the box is its memory's only owner.
        #[allow(unsafe_code, reason = "zeroed memory that the allocator need not touch")]
        let pages = unsafe { Box::from_raw(pages as *mut [AtomicU8]) };
        States { pages }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn get(&self, page: usize) -> State {
        match self.pages[page].load(Relaxed) {
            0 => State::Absent,
            1 => State::Protected,
            2 => State::Writable,
            _ => State::Poisoned,
        }
    }

    pub(super) fn set(&self, pages: Range<usize>, state: State) {
        for page in &self.pages[pages] {
            // Pages that nobody has used need no memory to stay so.
            if page.load(Relaxed) != state as u8 {
                page.store(state as u8, Relaxed);
            }
        }
    }

    /// Where a run of pages that are in this state ends.
    pub(super) fn run(&self, pages: Range<usize>, state: State) -> usize {
        let end = pages.end;
        pages.into_iter().find(|&page| self.get(page) != state).unwrap_or(end)
    }

    /// Does something with each run of pages whose states are such.
    ///
    /// # Errors
    /// The first one, after which nothing more is done.
    pub(super) fn each_run(
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
