//! The stamps that a map compares with, shared between threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::stamp::{Observation, Stamp, Time};
use crate::sync::{AtomicI64, AtomicU64, Ordering, fence, spin_loop};

/// The stamps that an operation of a map compares with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    /// Size of the file in bytes when it was mapped or last refreshed.
    pub size: u64,
    /// The last accepted observation: from that time, or by a later operation.
    pub last: Observation,
}

/// The [`Baseline`] of a map, shared between threads, and the observation of when it was mapped or last refreshed. Both are
/// read by loads alone, also by a signal handler that has interrupted a writer: a writer fills the slot that is not
/// published, and then publishes it. A reader starts again if two writers passed it.
#[derive(Debug)]
pub(crate) struct Record {
    /// Even while the first slot is published, odd while the second is.
    version: AtomicU64,
    slots: [Slot; 2],
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Slot {
    base: Words,
    last: Words,
}

#[derive(Debug)]
struct Words {
    words: [AtomicU64; 4],
    times: [AtomicI64; 3],
}

impl Words {
    fn new(observation: &Observation) -> Self {
        Words { words: words(observation).map(AtomicU64::new), times: times(observation).map(AtomicI64::new) }
    }

    #[inline]
    fn get(&self) -> Observation {
        let [size, device, inode, settled] = [0, 1, 2, 3].map(|i: usize| self.words[i].load(Ordering::Relaxed));
        let [changed, modified, seen] = [0, 1, 2].map(|i: usize| Time(self.times[i].load(Ordering::Relaxed)));
        Observation { stamp: Stamp { size, changed, modified, device, inode }, settled: settled != 0, seen }
    }

    fn put(&self, new: &Observation) {
        self.words.iter().zip(words(new)).for_each(|(word, new)| word.store(new, Ordering::Relaxed));
        self.times.iter().zip(times(new)).for_each(|(time, new)| time.store(new, Ordering::Relaxed));
    }
}

impl Record {
    pub(crate) fn new(first: Observation) -> Self {
        let slot = || Slot { base: Words::new(&first), last: Words::new(&first) };
        Record { version: AtomicU64::new(0), slots: [slot(), slot()], writing: Mutex::new(()) }
    }

    #[inline]
    pub(crate) fn get(&self) -> Baseline {
        self.read(|slot| Baseline { size: slot.base.words[0].load(Ordering::Relaxed), last: slot.last.get() })
    }

    /// Returns the observation of when the file was mapped or last refreshed.
    pub(crate) fn base(&self) -> Observation {
        self.read(|slot| slot.base.get())
    }

    #[inline]
    fn read<T>(&self, read: impl Fn(&Slot) -> T) -> T {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let value = read(&self.slots[(version & 1) as usize]);
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return value;
            }
            spin_loop();
        }
    }

    /// Locks the record for a thread that will [`set`](Self::set) the result of a query: one at a time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the observation that operations reach to and compare with from here on.
    pub(crate) fn set(&self, _lock: &MutexGuard<'_, ()>, now: &Observation) {
        self.put(now, now);
    }

    /// Sets the observation that operations compare with; they reach as far as before. Does nothing if another thread is
    /// doing the same, which has observed about the same.
    #[cold]
    pub(crate) fn accept(&self, now: &Observation, unless: impl Fn(&Observation) -> bool) {
        let Ok(_lock) = self.writing.try_lock() else { return };
        if !unless(&self.get().last) {
            self.put(&self.base(), now);
        }
    }

    /// Writes and publishes a slot. With the lock held.
    fn put(&self, base: &Observation, last: &Observation) {
        let next = self.version.load(Ordering::Relaxed).wrapping_add(1);
        // A reader that sees any part of this write also sees that the slot is no longer published.
        fence(Ordering::Release);
        let slot = &self.slots[(next & 1) as usize];
        slot.base.put(base);
        slot.last.put(last);
        self.version.store(next, Ordering::Release);
    }
}

fn words(observation: &Observation) -> [u64; 4] {
    let Stamp { size, device, inode, .. } = observation.stamp;
    [size, device, inode, u64::from(observation.settled)]
}

fn times(observation: &Observation) -> [i64; 3] {
    [observation.stamp.changed.0, observation.stamp.modified.0, observation.seen.0]
}
