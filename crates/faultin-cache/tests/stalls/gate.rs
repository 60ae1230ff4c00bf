//! A store in memory whose reads wait while its gate is closed, and which counts how it is called.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use faultin_cache::store::{MemoryStore, ReadRequest, Store};
use parking_lot::{Condvar, Mutex};

#[derive(Debug)]
pub struct Gate {
    memory: MemoryStore,
    is_open: Mutex<bool>,
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
    /// The maximum number of bytes of a read, if it is not 0.
    pub short: AtomicUsize,
}

impl Gate {
    pub fn new(bytes: &[u8]) -> Arc<Gate> {
        let (is_open, opened) = (Mutex::new(true), Condvar::new());
        Arc::new(Gate { memory: MemoryStore::new(bytes), is_open, opened, state: State::default() })
    }

    pub fn close(&self) {
        *self.is_open.lock() = false;
    }

    pub fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }

    /// Waits until so many threads wait.
    pub fn until_waiting(&self, threads: usize) {
        while self.state.waiting.load(SeqCst) < threads {
            std::thread::yield_now();
        }
    }

    fn pass(&self) {
        let mut is_open = self.is_open.lock();
        self.state.waiting.fetch_add(1, SeqCst);
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
        self.state.waiting.fetch_sub(1, SeqCst);
    }

    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let (bad, short) = (self.state.bad.load(SeqCst), self.state.short.load(SeqCst));
        let mut len = if short > 0 { buf.len().min(short) } else { buf.len() };
        if bad > 0 {
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
        self.pass();
        self.read(buf, pos)
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        self.state.batches.fetch_add(1, SeqCst);
        self.pass();
        reads.iter_mut().map(|read| self.read(read.bytes, read.pos)).collect()
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let len = buf.len().min(self.state.at_hand.load(SeqCst).saturating_sub(pos as usize));
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read(&mut buf[..len], pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.pass();
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }
}
