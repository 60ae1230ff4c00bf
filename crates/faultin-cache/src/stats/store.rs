//! [`Counted`]: a store whose calls are counted.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::handle::{nanoseconds, waited};
use super::{Register, StoreStats};
use crate::store::{Store, WriteRequest};

/// The counters of a store.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Calls {
    reads: AtomicU64,
    read: AtomicU64,
    read_errors: AtomicU64,
    writes: AtomicU64,
    written: AtomicU64,
    write_errors: AtomicU64,
    other_errors: AtomicU64,
    nanoseconds: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Returns whether a result is an error, and not an answer that the caller expects.
fn is_error<T>(result: &io::Result<T>) -> bool {
    let expected = [io::ErrorKind::Unsupported, io::ErrorKind::Interrupted];
    result.as_ref().is_err_and(|error| !expected.contains(&error.kind()))
}

impl Calls {
    /// Runs a call, and counts its time, for this store and for the operation of this thread.
    fn timed<T>(&self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = call();
        let time = begun.elapsed();
        add(&self.nanoseconds, nanoseconds(time));
        waited(time);
        result
    }

    fn other<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let result = self.timed(call);
        if is_error(&result) {
            add(&self.other_errors, 1);
        }
        result
    }

    /// Counts what a write of `most` bytes has returned. (A store may return more, which the cache rejects.)
    fn wrote(&self, result: &io::Result<usize>, most: usize) {
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

/// A store whose calls are counted.
pub(crate) struct Counted {
    calls: Arc<Calls>,
    register: Arc<Register>,
    key: Option<usize>,
    store: Box<dyn Store>,
}

impl Counted {
    pub(crate) fn new(store: Box<dyn Store>, register: &Arc<Register>) -> Counted {
        let calls = Arc::<Calls>::default();
        Counted { key: register.enter_store(&calls), calls, register: Arc::clone(register), store }
    }

    /// Returns the counters.
    pub(crate) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.register.leave_store(self.key, &self.calls);
    }
}

impl Store for Counted {
    fn alignment(&self) -> usize {
        self.store.alignment()
    }

    fn len(&self) -> io::Result<u64> {
        self.calls.other(|| self.store.len())
    }

    fn is_fixed(&self) -> bool {
        self.store.is_fixed()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.store.descriptor()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let most = buf.len();
        let result = self.calls.timed(|| self.store.read_at(buf, pos));
        add(&self.calls.reads, 1);
        match &result {
            Ok(read) => add(&self.calls.read, (*read).min(most) as u64),
            Err(_) if is_error(&result) => add(&self.calls.read_errors, 1),
            Err(_) => {}
        }
        result
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        add(&self.calls.writes, 1);
        let result = self.calls.timed(|| self.store.write_at(buf, pos));
        self.calls.wrote(&result, buf.len());
        result
    }

    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<io::Result<usize>> {
        add(&self.calls.writes, writes.len() as u64);
        let results = self.calls.timed(|| self.store.write_many(writes));
        results.iter().zip(writes).for_each(|(result, write)| self.calls.wrote(result, write.bytes.len()));
        results
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.calls.other(|| self.store.set_len(len))
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.calls.other(|| self.store.sync(data_only))
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.calls.other(|| self.store.punch_hole(range))
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.calls.other(|| self.store.allocate(range))
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.calls.other(|| self.store.trim(len))
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.calls.other(|| self.store.reserve(bytes))
    }

    fn unreserve(&self, bytes: u64) {
        self.store.unreserve(bytes);
    }
}
