//! A slow store, so that other threads run between its steps.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use faultin_cache::store::{MemoryStore, Store};
use faultin_test::Random;

/// Reads and writes one half, waits, and does the other half.
#[derive(Clone)]
pub struct Slow {
    pub memory: Arc<MemoryStore>,
    random: Arc<Random>,
}

impl Slow {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Slow {
        Slow { memory: Arc::new(MemoryStore::new(bytes)), random: Arc::new(Random::new(1)) }
    }

    fn pause(&self) {
        match self.random.below(16) {
            0 => thread::sleep(Duration::from_micros(self.random.below(60))),
            1..5 => thread::yield_now(),
            _ => {}
        }
    }
}

impl Store for Slow {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.pause();
        let half = buf.len() / 2;
        let (first, second) = buf.split_at_mut(half);
        let read = self.memory.read_at(first, pos)?;
        if read < half {
            return Ok(read);
        }
        self.pause();
        let more = self.memory.read_at(second, pos + half as u64)?;
        // Makes the bytes read stale.
        if self.random.below(8) == 0 {
            thread::sleep(Duration::from_micros(self.random.below(300)));
        }
        Ok(half + more)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.pause();
        let (first, second) = buf.split_at(buf.len() / 2);
        self.memory.write_at(first, pos)?;
        self.pause();
        self.memory.write_at(second, pos + first.len() as u64)?;
        Ok(buf.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pause();
        self.memory.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.pause();
        self.memory.punch_hole(range)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.memory.reserve(bytes)
    }

    fn unreserve(&self, bytes: u64) {
        self.memory.unreserve(bytes);
    }
}
