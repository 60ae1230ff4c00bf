//! [`Ring`]: the last records of many writers, each of which may be a signal handler. A record is never seen torn.
//!
//! A writer takes a *ticket*, a number that no other record has, and writes to the [`Cell`] that belongs to it. It waits for no
//! other thread: if another writer is still in that cell, because it was interrupted for as long as the others needed for a
//! whole round, the record is dropped. A reader that meets a writer skips the cell. Nothing here knows what the words mean.

use crate::sync::{AtomicU64, Ordering, fence};

/// A record of `WORDS` words, and its ticket.
///
/// # Invariants
///
/// 1. `state` is 0 (nothing was written), or twice the ticket plus 2 (that record is in the words), or plus 3 (its writer is
///    storing the words). It never returns to an earlier value.
/// 2. Only the writer that has made it odd stores words, until it makes it even.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Cell<const WORDS: usize> {
    state: AtomicU64,
    words: [AtomicU64; WORDS],
}

const WRITING: u64 = 1;

/// Returns the state of a cell that has the record of a ticket.
const fn complete(ticket: u64) -> u64 {
    2 * ticket + 2
}

impl<const WORDS: usize> Cell<WORDS> {
    /// Returns an empty cell.
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Self {
        Cell { state: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Cell { state: AtomicU64::new(0), words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Writes a record, unless another writer is in the cell or its record is as new. Returns whether it was written.
    /// Async-signal-safe.
    #[inline]
    pub(crate) fn write(&self, ticket: u64, words: [u64; WORDS]) -> bool {
        let before = self.state.load(Ordering::Relaxed);
        let after = complete(ticket);
        // Acquire: the words of the record before were stored before ours are.
        if before & WRITING != 0
            || before >= after
            || self.state.compare_exchange(before, after | WRITING, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // A reader that sees a word of ours sees the mark, too.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.state.store(after, Ordering::Release);
        true
    }

    /// Returns the record and its ticket, unless there is none or a writer was in the cell meanwhile.
    pub(crate) fn read(&self) -> Option<(u64, [u64; WORDS])> {
        let before = self.state.load(Ordering::Acquire);
        if before == 0 || before & WRITING != 0 {
            return None;
        }
        let words = core::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
        // The words before the state.
        fence(Ordering::Acquire);
        (self.state.load(Ordering::Relaxed) == before).then_some((before / 2 - 1, words))
    }
}

/// The last `LEN` records.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Ring<const WORDS: usize, const LEN: usize> {
    /// The next ticket: the number of records so far.
    next: AtomicU64,
    cells: [Cell<WORDS>; LEN],
}

impl<const WORDS: usize, const LEN: usize> Ring<WORDS, LEN> {
    /// Returns an empty ring.
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Self {
        Ring { next: AtomicU64::new(0), cells: [const { Cell::new() }; LEN] }
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Ring { next: AtomicU64::new(0), cells: core::array::from_fn(|_| Cell::new()) }
    }

    /// Adds a record in place of the oldest one, or drops it: see the module. Async-signal-safe.
    #[inline]
    pub(crate) fn push(&self, words: [u64; WORDS]) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.cells[Self::place(ticket)].write(ticket, words);
    }

    /// Returns the number of records so far, also of those that were overwritten or dropped.
    pub(crate) fn count(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Returns the position of the cell that a ticket belongs to.
    #[inline]
    pub(crate) const fn place(ticket: u64) -> usize {
        (ticket % LEN as u64) as usize
    }

    /// Returns the records that no writer is at, each with its ticket, in no order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, [u64; WORDS])> {
        self.cells.iter().filter_map(Cell::read)
    }
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use super::*;

    /// The words of the record that thread `me` pushes as its `number`th.
    fn words(me: u64, number: u64) -> [u64; 3] {
        [me, number, me.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number]
    }

    #[test]
    fn the_last_records_are_kept_in_the_place_of_the_oldest() {
        let ring = Ring::<3, 4>::new();
        assert_eq!((ring.count(), ring.records().count()), (0, 0));
        for number in 0..10 {
            ring.push(words(1, number));
        }
        let mut records: Vec<_> = ring.records().collect();
        records.sort_unstable();
        let expected: Vec<_> = (6..10).map(|number| (number, words(1, number))).collect();
        assert_eq!((ring.count(), records), (10, expected));
    }

    #[test]
    fn an_older_record_does_not_replace_a_newer_one_and_none_a_writer() {
        let cell = Cell::<3>::new();
        assert!(cell.read().is_none());
        assert!(cell.write(8, words(1, 8)));
        assert!(!cell.write(4, words(1, 4)) && !cell.write(8, words(2, 8)));
        assert_eq!(cell.read(), Some((8, words(1, 8))));
        // A writer that was interrupted.
        cell.state.store(complete(12) | WRITING, Ordering::Relaxed);
        assert!(!cell.write(16, words(1, 16)) && cell.read().is_none());
    }

    #[test]
    fn no_record_is_torn_while_threads_overwrite_each_other() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let ring = Ring::<3, 2>::new();
        std::thread::scope(|scope| {
            for me in 0..THREADS {
                let ring = &ring;
                scope.spawn(move || (0..EACH).for_each(|number| ring.push(words(me, number))));
            }
            scope.spawn(|| {
                while ring.count() < THREADS * EACH {
                    for (_, [me, number, sum]) in ring.records() {
                        assert_eq!([me, number, sum], words(me, number));
                    }
                }
            });
        });
        // The last two may have been dropped.
        assert_eq!((ring.count(), ring.records().count()), (THREADS * EACH, 2));
    }
}
