//! The replacement for `faultin_cache::sync` and `faultin`'s.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use loom::sync::Condvar;

/// It is initialised before there are other threads.
pub(crate) use std::sync::OnceLock;

pub(crate) use loom::hint::spin_loop;
use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

pub(crate) use crate::signal::inside::slots::{Blank, Slot, Slots};

/// Checking again is another order of the same steps.
pub(crate) const SPINS: u32 = 0;

/// As early as possible: the fewer steps lead there, the more orders of them are tried.
pub(crate) const PATIENCE: u32 = 1;

/// At once.
pub(crate) const MEETINGS: u32 = 0;

pub(crate) const ALL: u32 = u32::MAX;

/// loom orders fences only.
pub(crate) fn publish(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
    fence(Ordering::SeqCst);
}

/// Two for two threads.
pub(crate) const REGIONS: usize = 2;

pub(crate) fn take(word: &AtomicU32) -> bool {
    let taken = word.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    fence(Ordering::SeqCst);
    taken
}

pub(crate) fn give_back(word: &AtomicU32) {
    word.store(0, Ordering::Release);
    fence(Ordering::SeqCst);
}

/// Shared by all threads.
pub(crate) const WORDS: usize = 1;

pub(crate) fn pause() {
    loom::thread::yield_now();
}

loom::lazy_static! {
    static ref FUTEXES: Futexes = Futexes { sleepers: Mutex::new(Vec::new()), woken: Condvar::new() };
}

/// The kernel's table: which threads sleep at which word, in the order of arrival.
struct Futexes {
    sleepers: Mutex<Vec<(usize, loom::thread::ThreadId)>>,
    woken: Condvar,
}

fn at(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word).addr()
}

/// Compares and sleeps in one step, as far as [`wake`] can tell, as the system call does.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    let mut sleepers = FUTEXES.sleepers.lock().unwrap();
    // The kernel's read has a full barrier before it: it does not return an old value.
    if word.fetch_add(0, Ordering::AcqRel) != expected {
        return;
    }
    let sleeper = (at(word), loom::thread::current().id());
    sleepers.push(sleeper);
    while sleepers.contains(&sleeper) {
        sleepers = FUTEXES.woken.wait(sleepers).unwrap();
    }
}

/// The time is always up.
pub(crate) fn wait_a_while(_: &AtomicU32, _: u32) {
    loom::thread::yield_now();
}

pub(crate) fn wake(word: &AtomicU32, count: u32) {
    let mut sleepers = FUTEXES.sleepers.lock().unwrap();
    let mut left = count;
    sleepers.retain(|&(there, _)| {
        let woken = there == at(word) && left > 0;
        left -= u32::from(woken);
        !woken
    });
    if left != count {
        FUTEXES.woken.notify_all();
    }
}

/// The replacement for an eventfd.
#[derive(Debug)]
pub(crate) struct Bell {
    rings: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell { rings: Mutex::new(false), rung: Condvar::new() })
    }

    pub(crate) fn ring(&self) {
        *self.rings.lock().unwrap() = true;
        self.rung.notify_all();
    }

    pub(crate) fn silence(&self) {
        *self.rings.lock().unwrap() = false;
    }

    /// The replacement for `poll`.
    pub(crate) fn wait(&self) {
        let mut rings = self.rings.lock().unwrap();
        while !*rings {
            rings = self.rung.wait(rings).unwrap();
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("models wait for the bell itself")
    }
}
