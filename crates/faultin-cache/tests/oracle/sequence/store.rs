//! A store that checks its callers' part of the contract and uses all the freedom that its own part leaves.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin_cache::store::Store;

/// The properties of a store.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Its alignment.
    pub unit: usize,
    /// The maximum number of units in one transfer.
    pub most: usize,
    /// Whether every third transfer is interrupted.
    pub interrupts: bool,
    /// Whether it supports holes.
    pub holes: bool,
}

/// Bytes in memory.
#[derive(Debug)]
pub struct Picky {
    manners: Manners,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    reserved: u64,
    transfers: u32,
    /// The number of calls that succeed before all others fail.
    good_calls: Option<u32>,
    failures: u32,
    failed_syncs: u32,
}

impl Picky {
    pub fn new(manners: Manners, bytes: Vec<u8>) -> Picky {
        Picky { manners, state: Mutex::new(State { bytes, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets this many calls succeed and all later ones fail; `None`: all succeed.
    pub fn fail_after(&self, good_calls: Option<u32>) {
        self.state().good_calls = good_calls;
    }

    /// Failed calls.
    pub fn failures(&self) -> u32 {
        self.state().failures
    }

    /// Failed syncs.
    pub fn failed_syncs(&self) -> u32 {
        self.state().failed_syncs
    }

    pub fn contents(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub fn reserved(&self) -> u64 {
        self.state().reserved
    }

    /// Starts a call that may fail.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.good_calls {
            None => Ok(state),
            Some(0) => {
                state.failures += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(left) => {
                *left -= 1;
                Ok(state)
            }
        }
    }

    /// Starts a transfer of `len` bytes to or from `address`, and returns how many to move.
    fn transfer(&self, address: usize, len: usize, pos: u64) -> io::Result<(MutexGuard<'_, State>, usize)> {
        let unit = self.manners.unit;
        assert!(
            len > 0 && address.is_multiple_of(unit) && len.is_multiple_of(unit) && pos.is_multiple_of(unit as u64),
            "{len} bytes of memory at {address:#x} at {pos} in a store of units of {unit}"
        );
        let mut state = self.call()?;
        state.transfers += 1;
        if self.manners.interrupts && state.transfers.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok((state, len.min(self.manners.most * unit)))
    }
}

impl Store for Picky {
    fn alignment(&self) -> usize {
        self.manners.unit
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let (state, most) = self.transfer(buf.as_ptr().addr(), buf.len(), pos)?;
        let from = (pos as usize).min(state.bytes.len());
        let read = most.min(state.bytes.len() - from);
        buf[..read].copy_from_slice(&state.bytes[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let (mut state, most) = self.transfer(buf.as_ptr().addr(), buf.len(), pos)?;
        let (from, to) = (pos as usize, pos as usize + most);
        if state.bytes.len() < to {
            state.bytes.resize(to, 0);
        }
        state.bytes[from..to].copy_from_slice(&buf[..most]);
        Ok(most)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call()?.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        let synced = self.call().map(drop);
        self.state().failed_syncs += u32::from(synced.is_err());
        synced
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        if !self.manners.holes {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.call()?;
        let end = (range.end as usize).min(state.bytes.len());
        state.bytes[(range.start as usize).min(end)..end].fill(0);
        Ok(())
    }

    fn allocate(&self, _: Range<u64>) -> io::Result<()> {
        self.call().map(drop)
    }

    fn trim(&self, _: u64) -> io::Result<()> {
        self.call().map(drop)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.call()?.reserved += bytes;
        Ok(())
    }

    fn unreserve(&self, bytes: u64) {
        let mut state = self.state();
        assert!(bytes <= state.reserved, "{bytes} of {} reserved bytes are given back", state.reserved);
        state.reserved -= bytes;
    }
}
