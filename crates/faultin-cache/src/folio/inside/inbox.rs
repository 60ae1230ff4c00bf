//! Folios that signal handlers have inserted. They wait here until a thread that can take the queue's lock enters them.
//!
//! A cell is *ready*: it has a reserved place in the queue. Or it is *claimed* by a handler, which writes to it. Or it
//! is *full*. Only the holder of the lock makes a full cell ready again.

#![forbid(unsafe_code)]

use super::keys::{Arrival, Key, Place};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Number of cells: after that many insertions without a thread that takes the lock, a fault is handed over to the
/// pager's thread.
const CELLS: usize = 128;

/// Maximum number of cells that a handler tries.
const TRIES: usize = 8;

const READY: u32 = 0;
const CLAIMED: u32 = 1;
const FULL: u32 = 2;

/// The cells that handlers insert into.
#[derive(Debug)]
pub(crate) struct Inbox {
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
    // Outside signals: it allocates.
    /// Makes an inbox. `new` returns the reserved place of each cell.
    pub(crate) fn new(mut new: impl FnMut() -> Place) -> Inbox {
        let cells = (0..CELLS).map(|_| Cell { place: AtomicU32::new(new().number()), ..Cell::default() }).collect();
        Inbox { cells, next: AtomicU32::new(0), full: AtomicU32::new(0) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.full.load(Ordering::Acquire) == 0
    }

    /// Adds a folio and returns its place, or `None` if none of the tried cells is ready. Async-signal-safe.
    pub(crate) fn push(&self, arrival: &Arrival) -> Option<Place> {
        for _ in 0..TRIES {
            let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % CELLS;
            let cell = &self.cells[at];
            // Acquire: the thread that made the cell ready has written its place.
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

    /// Calls `enter` with each folio and its place; `enter` returns a new place for the cell. The caller holds the
    /// queue's lock.
    pub(crate) fn drain(&self, mut enter: impl FnMut(Place, &Arrival) -> Place) {
        for cell in &self.cells {
            if cell.state.load(Ordering::Acquire) != FULL {
                continue;
            }
            let place = Place::of(cell.place.load(Ordering::Relaxed));
            // Always a key: a handler has written its number.
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
