//! How far to read ahead: as the program advises, or as each thread that uses a handle has read so far.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of bytes that are read ahead at first, and at most.
const AHEAD: std::ops::RangeInclusive<u64> = (128 << 10)..=(2 << 20);

/// The expected order of reads of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Reads ahead where access seems to be sequential.
    Normal,
    /// Reads ahead from the first byte on, as far as possible.
    Sequential,
    /// Never reads ahead.
    Random,
}

/// How a handle is going to read: the number of bytes that are read ahead at least once access seems to be sequential, or 0
/// to never read ahead.
#[derive(Debug)]
pub(crate) struct Advised(AtomicU64);

impl Default for Advised {
    fn default() -> Advised {
        Advised(AtomicU64::new(*AHEAD.start()))
    }
}

impl Advised {
    pub(crate) fn set(&self, advice: Advice) {
        let least = match advice {
            Advice::Normal => *AHEAD.start(),
            Advice::Sequential => *AHEAD.end(),
            Advice::Random => 0,
        };
        self.0.store(least, Ordering::Relaxed);
    }
}

/// The read pattern of one thread that uses a handle.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The position where a sequential reader would continue.
    next: AtomicU64,
    /// The number of bytes that were read ahead the last time.
    window: AtomicU64,
}

impl Ahead {
    /// Begins anew with the window.
    pub(crate) fn reset(&self) {
        self.window.store(0, Ordering::Relaxed);
    }

    /// Returns the number of bytes to read from the store for a read of `len` bytes at `pos`.
    pub(crate) fn window(&self, advised: &Advised, pos: u64, len: u64) -> u64 {
        let least = advised.0.load(Ordering::Relaxed);
        if least == 0 {
            return len;
        }
        let window = self.window.load(Ordering::Relaxed);
        let next = if pos == self.next.load(Ordering::Relaxed) { (2 * window).clamp(least, *AHEAD.end()) } else { 1 };
        self.window.store(next, Ordering::Relaxed);
        next.max(len)
    }

    #[inline]
    pub(crate) fn went_to(&self, pos: u64) {
        self.next.store(pos, Ordering::Relaxed);
    }
}
