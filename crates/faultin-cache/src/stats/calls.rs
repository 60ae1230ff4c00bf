//! [`Calls`]: the counters of a store.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::StoreStats;
use super::handle::{nanoseconds, waited};

/// The counters of a store.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Calls {
    pub(super) reads: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) read_errors: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) write_errors: AtomicU64,
    pub(super) other_errors: AtomicU64,
    pub(super) nanoseconds: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Returns whether a result is an error, and not an answer that the caller expects.
pub(super) fn is_error<T>(result: &io::Result<T>) -> bool {
    let expected = [io::ErrorKind::Unsupported, io::ErrorKind::Interrupted];
    result.as_ref().is_err_and(|error| !expected.contains(&error.kind()))
}

impl Calls {
    /// Runs a call, and counts its time, for this store and for the operation of this thread.
    pub(super) fn timed<T>(&self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = call();
        let time = begun.elapsed();
        add(&self.nanoseconds, nanoseconds(time));
        waited(time);
        result
    }

    pub(super) fn other<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let result = self.timed(call);
        if is_error(&result) {
            add(&self.other_errors, 1);
        }
        result
    }

    /// Counts what a read of `most` bytes has returned.
    pub(super) fn has_read(&self, result: &io::Result<usize>, most: usize) {
        match result {
            Ok(read) => add(&self.read, (*read).min(most) as u64),
            Err(_) if is_error(result) => add(&self.read_errors, 1),
            Err(_) => {}
        }
    }

    /// Counts what a write of `most` bytes has returned. (A store may return more, which the cache rejects.)
    pub(super) fn wrote(&self, result: &io::Result<usize>, most: usize) {
        match result {
            Ok(written) => add(&self.written, (*written).min(most) as u64),
            Err(_) if is_error(result) => add(&self.write_errors, 1),
            Err(_) => {}
        }
    }

    /// Counts a read of the store's descriptor, of this many bytes. Async-signal-safe.
    pub(crate) fn read_in_signal(&self, bytes: usize) {
        add(&self.reads, 1);
        add(&self.read, bytes as u64);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            reads: of(&self.reads),
            read: of(&self.read),
            read_errors: of(&self.read_errors),
            writes: of(&self.writes),
            written: of(&self.written),
            write_errors: of(&self.write_errors),
            other_errors: of(&self.other_errors),
            time: Duration::from_nanos(of(&self.nanoseconds)),
        }
    }
}
