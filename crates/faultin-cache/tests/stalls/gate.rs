//! A store in memory whose calls wait while its gate is closed for the bytes they need, and which counts how it is called.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use faultin_cache::store::{MemoryStore, ReadRequest, Store};
use parking_lot::{Condvar, Mutex};

#[derive(Debug)]
pub struct Gate {
    memory: MemoryStore,
    closed: Mutex<Range<u64>>,
    opened: Condvar,
    pub state: State,
}

/// What the store does, and what it was asked.
#[derive(Debug, Default)]
pub struct State {
    /// Threads that wait.
    pub waiting: AtomicUsize,
    /// Calls of `read_at`, and of `read_many`.
    pub reads: AtomicUsize,
    pub batches: AtomicUsize,
    /// Number of bytes that `try_read_at` has at hand, from the start of the file.
    pub at_hand: AtomicUsize,
    /// The position from which on reads fail, if it is not 0.
    pub bad: AtomicUsize,
    /// The end of the positions at which reads fail, if it is not 0.
    pub good_from: AtomicUsize,
    /// The maximum number of bytes of a read, if it is not 0.
    pub short: AtomicUsize,
    /// Whether reservations wait until it is opened.
    pub is_full: AtomicBool,
    /// Whether reads wait after they have the bytes, and writes do not wait.
    pub reads_early: AtomicBool,
}

impl Gate {
    pub fn new(bytes: &[u8]) -> Arc<Gate> {
        let (closed, opened) = (Mutex::new(0..0), Condvar::new());
        Arc::new(Gate { memory: MemoryStore::new(bytes), closed, opened, state: State::default() })
    }

    pub fn close(&self) {
        self.close_at(0..u64::MAX);
    }

    /// Closes it for calls that need bytes of this range.
    pub fn close_at(&self, range: Range<u64>) {
        *self.closed.lock() = range;
    }

    pub fn open(&self) {
        *self.closed.lock() = 0..0;
        self.opened.notify_all();
    }

    /// Waits until so many threads wait.
    pub fn until_waiting(&self, threads: usize) {
        while self.state.waiting.load(SeqCst) < threads {
            std::thread::yield_now();
        }
    }

    pub fn reserved(&self) -> u64 {
        self.memory.reserved()
    }

    fn pass(&self, pos: u64, len: usize) {
        let mut closed = self.closed.lock();
        self.state.waiting.fetch_add(1, SeqCst);
        while pos < closed.end && closed.start < pos + len as u64 {
            self.opened.wait(&mut closed);
        }
        self.state.waiting.fetch_sub(1, SeqCst);
    }

    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let (bad, short) = (self.state.bad.load(SeqCst), self.state.short.load(SeqCst));
        let mut len = if short > 0 { buf.len().min(short) } else { buf.len() };
        let good_from = self.state.good_from.load(SeqCst);
        if bad > 0 && (good_from == 0 || (pos as usize) < good_from) {
            len = len.min(bad.saturating_sub(pos as usize));
            if len == 0 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        }
        self.memory.read_at(&mut buf[..len], pos)
    }
}

impl Store for Gate {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.state.reads.fetch_add(1, SeqCst);
        if self.state.reads_early.load(SeqCst) {
            let result = self.read(buf, pos);
            self.pass(pos, buf.len());
            return result;
        }
        self.pass(pos, buf.len());
        self.read(buf, pos)
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        self.state.batches.fetch_add(1, SeqCst);
        let pass = |reads: &[ReadRequest<'_>]| reads.iter().for_each(|read| self.pass(read.pos, read.bytes.len()));
        let is_early = self.state.reads_early.load(SeqCst);
        if !is_early {
            pass(reads);
        }
        let results = reads.iter_mut().map(|read| self.read(read.bytes, read.pos)).collect();
        if is_early {
            pass(reads);
        }
        results
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let len = buf.len().min(self.state.at_hand.load(SeqCst).saturating_sub(pos as usize));
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read(&mut buf[..len], pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        if !self.state.reads_early.load(SeqCst) {
            self.pass(pos, buf.len());
        }
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut closed = self.closed.lock();
        self.state.waiting.fetch_add(1, SeqCst);
        while self.state.is_full.load(SeqCst) {
            self.opened.wait(&mut closed);
        }
        self.state.waiting.fetch_sub(1, SeqCst);
        self.memory.reserve(bytes)
    }

    fn unreserve(&self, bytes: u64) {
        self.memory.unreserve(bytes);
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.memory.punch_hole(range)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }
}
