//! Folios that signal handlers have inserted, until a thread that may take the queue's lock enters them.
//!
//! A cell is *ready*, with a place in the queue that was set aside for it; *claimed* by a handler, which writes to it; or
//! *full*. Only the holder of the lock makes a full cell ready again.

#![forbid(unsafe_code)]

use super::queue::{Arrival, Place};
use super::table::Key;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Number of cells: so many faults are resolved in signals before one has to be handed over.
const CELLS: usize = 128;

/// Number of cells that a handler tries.
const TRIES: usize = 8;

const READY: u32 = 0;
const CLAIMED: u32 = 1;
const FULL: u32 = 2;

/// The cells.
#[derive(Debug)]
pub(super) struct Inbox {
    cells: Box<[Cell]>,
    /// The cell that the next handler tries first.
    next: AtomicU32,
    /// Number of full cells.
    full: AtomicU32,
}

#[derive(Debug, Default)]
struct Cell {
    state: AtomicU32,
    place: AtomicU32,
    file: AtomicU32,
    key: AtomicU32,
    print: AtomicU64,
    len: AtomicU64,
    at: AtomicU64,
}

impl Inbox {
    /// Makes an inbox, whose cells have the places that `new` returns.
    pub(super) fn new(mut new: impl FnMut() -> Place) -> Inbox {
        let cells = (0..CELLS).map(|_| Cell { place: AtomicU32::new(new().number()), ..Cell::default() }).collect();
        Inbox { cells, next: AtomicU32::new(0), full: AtomicU32::new(0) }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.full.load(Ordering::Acquire) == 0
    }

    /// Adds a folio, and returns its place. `None` if no cell is ready. Async-signal-safe.
    pub(super) fn push(&self, arrival: &Arrival) -> Option<Place> {
        for _ in 0..TRIES {
            let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % CELLS;
            let cell = &self.cells[at];
            // Acquire: the place in the queue was written by the thread that made it ready.
            if cell.state.compare_exchange(READY, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            cell.file.store(arrival.file, Ordering::Relaxed);
            cell.key.store(arrival.key.number(), Ordering::Relaxed);
            cell.print.store(arrival.print, Ordering::Relaxed);
            cell.len.store(arrival.len as u64, Ordering::Relaxed);
            cell.at.store(arrival.at, Ordering::Relaxed);
            let place = Place::of(cell.place.load(Ordering::Relaxed));
            cell.state.store(FULL, Ordering::Release);
            self.full.fetch_add(1, Ordering::Release);
            return Some(place);
        }
        None
    }

    /// Calls `enter` with each folio and its place; it returns a new place for the cell. For the holder of the queue's lock.
    pub(super) fn drain(&self, mut enter: impl FnMut(Place, &Arrival) -> Place) {
        for cell in &self.cells {
            if cell.state.load(Ordering::Acquire) != FULL {
                continue;
            }
            let place = Place::of(cell.place.load(Ordering::Relaxed));
            // A handler has written the number of a key.
            if let Some(key) = Key::from_number(cell.key.load(Ordering::Relaxed)) {
                let arrival = Arrival {
                    file: cell.file.load(Ordering::Relaxed),
                    key,
                    print: cell.print.load(Ordering::Relaxed),
                    len: cell.len.load(Ordering::Relaxed) as usize,
                    at: cell.at.load(Ordering::Relaxed),
                };
                cell.place.store(enter(place, &arrival).number(), Ordering::Relaxed);
            }
            cell.state.store(READY, Ordering::Release);
            self.full.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
