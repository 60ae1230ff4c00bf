//! When and how stores fail: in windows of a few tenths of a second, between which everything works.
//!
//! Plain instructions use mappings only while it is [quiet](FailureSchedule::quiet), because a fault that cannot be resolved is a
//! signal.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockReadGuard};

use faultin_test::Random;

/// Reads fail.
pub const READS: u64 = 1;
/// Writes fail.
pub const WRITES: u64 = 2;
/// Lengths, holes and syncs fail.
pub const OTHERS: u64 = 4;
/// Everything takes a while.
pub const SLOW: u64 = 8;
/// Fewer bytes than requested.
pub const SHORT: u64 = 16;
const FAILURES: u64 = READS | WRITES | OTHERS;

const ALL_FILES: u64 = !(u32::MAX as u64);

/// Operations that began before a window's end may fail for this long after it.
const SETTLES: Duration = Duration::from_millis(200);

/// How stores behave now.
#[derive(Debug, Default)]
pub struct FailureSchedule {
    /// The current kinds of failure, and the affected files (a bit each from the 32nd on).
    now: AtomicU64,
    /// Number of windows that have begun or ended.
    changes: AtomicU64,
    /// Whether stores may fail.
    failing: RwLock<bool>,
}

/// The time since which stores have not failed, if it has.
#[derive(Clone, Copy, Debug)]
pub struct Since(Option<u64>);

impl FailureSchedule {
    /// Keeps stores from failing until the guard is dropped.
    pub fn quiet(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let failing = self.failing.read();
        (!*failing).then_some(failing)
    }

    pub fn since(&self) -> Since {
        Since(self.quiet().map(|_| self.changes.load(Relaxed)))
    }

    /// Returns whether a store may have failed meanwhile.
    pub fn excuses(&self, since: Since) -> bool {
        since.0.is_none_or(|changes| changes != self.changes.load(Relaxed))
    }

    /// Returns the kinds of failure of a file.
    pub fn of(&self, file: usize) -> u64 {
        let now = self.now.load(Relaxed);
        if now & 1 << (32 + file % 32) == 0 { 0 } else { now & !ALL_FILES }
    }

    fn set(&self, failing: bool, now: u64) {
        let mut guard = self.failing.write();
        *guard = failing;
        self.changes.fetch_add(1, Relaxed);
        self.now.store(now, Relaxed);
    }

    /// Changes the failures until the end of the run, and then stops them.
    pub fn run(&self, random: &Random, over: impl Fn() -> bool) {
        let wait = |time: Duration| {
            let until = Instant::now() + time;
            while Instant::now() < until && !over() {
                thread::sleep(Duration::from_millis(10));
            }
        };
        while !over() {
            let slow = if random.once_in(4) { SLOW } else { 0 };
            self.set(false, slow | SHORT | ALL_FILES);
            wait(Duration::from_millis(300 + random.below(1500) as u64));
            let matter = 1 + random.next() % (2 * SHORT - 1);
            let files = random.next() | 1 << (32 + random.below(4));
            self.set(matter & FAILURES != 0, matter | files & ALL_FILES);
            wait(Duration::from_millis(50 + random.below(400) as u64));
            // Nothing fails any more, but earlier failures may not have been reported yet.
            self.now.store(0, Relaxed);
            wait(SETTLES);
        }
        self.now.store(0, Relaxed);
        thread::sleep(SETTLES);
        self.set(false, 0);
    }
}
