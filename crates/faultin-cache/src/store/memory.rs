//! A store in memory.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;

use parking_lot::Mutex;

use super::Store;

/// A store in memory: for tests, and for files that exist as long as the process.
#[derive(Debug)]
pub struct MemoryStore {
    capacity: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    reserved: u64,
    /// End of the space that is allocated past the end of the file.
    allocated: u64,
}

impl State {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> usize {
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(self.bytes.len());
        let read = buf.len().min(self.bytes.len() - from);
        buf[..read].copy_from_slice(&self.bytes[from..from + read]);
        read
    }
}

impl MemoryStore {
    /// Makes a store with these bytes, and room for any number.
    pub fn new(bytes: impl Into<Vec<u8>>) -> MemoryStore {
        MemoryStore::with_capacity(bytes, u64::MAX)
    }

    /// Makes a store with these bytes, and room for `capacity` bytes in all: more is
    /// [`StorageFull`](io::ErrorKind::StorageFull).
    pub fn with_capacity(bytes: impl Into<Vec<u8>>, capacity: u64) -> MemoryStore {
        MemoryStore { capacity, state: Mutex::new(State { bytes: bytes.into(), ..State::default() }) }
    }

    /// Returns the current contents.
    pub fn contents(&self) -> Vec<u8> {
        self.state.lock().bytes.clone()
    }

    /// Returns the number of bytes that are reserved for dirty blocks.
    pub fn reserved(&self) -> u64 {
        self.state.lock().reserved
    }

    /// Returns the end of the allocated space: the end of the file, if none is past it.
    pub fn allocated(&self) -> u64 {
        let state = self.state.lock();
        state.allocated.max(state.bytes.len() as u64)
    }

    fn grow(&self, state: &mut State, end: u64) -> io::Result<()> {
        let end_of_memory = usize::try_from(end).map_err(|_| io::ErrorKind::StorageFull)?;
        if end > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if end_of_memory > state.bytes.len() {
            let more = end_of_memory - state.bytes.len();
            state.bytes.try_reserve(more).map_err(|_| io::ErrorKind::StorageFull)?;
            state.bytes.resize(end_of_memory, 0);
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        Ok(self.state.lock().read_at(buf, pos))
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let state = self.state.try_lock().ok_or(io::ErrorKind::WouldBlock)?;
        Ok(state.read_at(buf, pos))
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        let end = pos.checked_add(buf.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        self.grow(&mut state, end)?;
        let from = pos as usize;
        state.bytes[from..from + buf.len()].copy_from_slice(buf);
        Ok(buf.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        self.grow(&mut state, len)?;
        state.bytes.truncate(len as usize);
        Ok(())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state.lock();
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(state.bytes.len());
        let range = clamp(range.start)..clamp(range.end);
        state.bytes[range].fill(0);
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.end > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut state = self.state.lock();
        state.allocated = state.allocated.max(range.end);
        Ok(())
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.allocated = state.allocated.min(len);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let reserved = state.reserved.checked_add(bytes).filter(|&all| all <= self.capacity);
        state.reserved = reserved.ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    fn unreserve(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(bytes);
    }
}
