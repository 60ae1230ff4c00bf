//! [`Counted`]: a store whose calls are counted.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::Register;
use super::calls::{Calls, add, is_error};
use crate::store::{ReadRequest, Store, WriteRequest};

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
        self.calls.has_read(&result, most);
        result
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        add(&self.calls.reads, reads.len() as u64);
        let results = self.calls.timed(|| self.store.read_many(reads));
        results.iter().zip(reads).for_each(|(result, read)| self.calls.has_read(result, read.bytes.len()));
        results
    }

    /// No wait: only what it has read is counted.
    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let most = buf.len();
        let result = self.store.try_read_at(buf, pos);
        let would_wait = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !would_wait && (result.is_ok() || is_error(&result)) {
            add(&self.calls.reads, 1);
            self.calls.has_read(&result, most);
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
