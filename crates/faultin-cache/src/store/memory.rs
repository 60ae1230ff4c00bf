//! A store in memory.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Store;
use crate::signals::without_signals;

/// A store in memory: for tests, and for files that exist as long as the process.
#[derive(Debug)]
pub struct MemoryStore {
    capacity: u64,
    /// Number of bytes that are reserved.
    reserved: AtomicU64,
    /// A pager thread needs it, too: it is locked without signals.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
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
        let state = State { bytes: bytes.into(), ..State::default() };
        MemoryStore { capacity, reserved: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// Returns the current contents.
    pub fn contents(&self) -> Vec<u8> {
        self.with(|state| state.bytes.clone())
    }

    /// Returns the number of bytes that are reserved for dirty blocks.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Returns the end of the allocated space: the end of the file, if none is past it.
    pub fn allocated(&self) -> u64 {
        self.with(|state| state.allocated.max(state.bytes.len() as u64))
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        without_signals(|| with(&mut self.state.lock()))
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
        Ok(self.with(|state| state.bytes.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        Ok(self.with(|state| state.read_at(buf, pos)))
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        without_signals(|| Ok(self.state.try_lock().ok_or(io::ErrorKind::WouldBlock)?.read_at(buf, pos)))
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let end = pos.checked_add(buf.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        self.with(|state| {
            self.grow(state, end)?;
            let from = pos as usize;
            state.bytes[from..from + buf.len()].copy_from_slice(buf);
            Ok(buf.len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            self.grow(state, len)?;
            state.bytes.truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|state| {
            let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(state.bytes.len());
            let range = clamp(range.start)..clamp(range.end);
            state.bytes[range].fill(0);
        });
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.end > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|state| state.allocated = state.allocated.max(range.end));
        Ok(())
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.with(|state| state.allocated = state.allocated.min(len));
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let add = |reserved: u64| reserved.checked_add(bytes).filter(|&all| all <= self.capacity);
        let added = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn unreserve(&self, bytes: u64) {
        let sub = |reserved: u64| Some(reserved.saturating_sub(bytes));
        let _ = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::tests::assert_waits_without_signals;

    #[test]
    fn who_waits_for_the_bytes_has_its_signals_blocked() {
        let store = MemoryStore::new([7; 100]);
        let calls: [fn(&MemoryStore); 4] = [
            |store| assert_eq!(store.read_at(&mut [0; 10], 95).unwrap(), 5),
            |store| assert_eq!(store.write_at(&[8; 10], 95).unwrap(), 10),
            |store| assert_eq!(store.len().unwrap(), 105),
            |store| store.punch_hole(0..5).unwrap(),
        ];
        for call in calls {
            assert_waits_without_signals(store.state.lock(), || call(&store));
        }
        assert_eq!(store.contents()[..6], [0, 0, 0, 0, 0, 7]);
    }
}
