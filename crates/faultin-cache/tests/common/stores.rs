//! A store that fulfils its contract and no more than that.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use faultin_cache::store::{MemoryStore, Store};
use faultin_test::Random;

/// The properties of a [`Picky`] store.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The alignment that positions, lengths and buffers need.
    pub alignment: usize,
    /// Whether transfers may be short or fail with [`Interrupted`](io::ErrorKind::Interrupted).
    pub short: bool,
    /// Whether it supports holes.
    pub holes: bool,
}

impl Manner {
    pub const PLAIN: Manner = Manner { alignment: 1, short: false, holes: true };
}

/// A store in memory that uses all the freedom that the contract allows, and checks that callers fulfil their part of it.
#[derive(Clone, Debug)]
pub struct Picky {
    pub memory: Arc<MemoryStore>,
    manner: Manner,
    random: Arc<Random>,
    /// Returns a call that violates the contract of stores.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Picky {
    pub fn new(memory: MemoryStore, manner: Manner, seed: u64) -> Picky {
        Picky { memory: Arc::new(memory), manner, random: Arc::new(Random::new(seed)), wrong: Arc::default() }
    }

    /// The first violation of the contract, if there was one.
    pub fn first_wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap().first().cloned()
    }

    /// Not a panic: this may be called while a thread panics.
    fn must(&self, is: bool, says: impl FnOnce() -> String) -> io::Result<()> {
        if is {
            return Ok(());
        }
        let says = says();
        self.wrong.lock().unwrap().push(says.clone());
        Err(io::Error::other(says))
    }

    /// How many of `len` bytes this call transfers: whole units, at least one.
    fn part(&self, what: &str, buf: &[u8], pos: u64) -> io::Result<usize> {
        let Manner { alignment, short, .. } = self.manner;
        let (address, len) = (buf.as_ptr().addr(), buf.len());
        let aligned =
            [address, len].iter().all(|n| n.is_multiple_of(alignment)) && pos.is_multiple_of(alignment as u64);
        self.must(aligned, || {
            format!("{what} of {len} bytes at {pos}, buffer at {address:#x}: not aligned to {alignment}")
        })?;
        self.must(len > 0, || format!("{what} of nothing at {pos}"))?;
        if !short {
            return Ok(len);
        }
        match self.random.below(8) {
            0 => Err(io::ErrorKind::Interrupted.into()),
            1..=3 => Ok(len),
            _ => Ok((1 + self.random.below((len / alignment) as u64) as usize) * alignment),
        }
    }
}

impl Store for Picky {
    fn alignment(&self) -> usize {
        self.manner.alignment
    }

    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let part = self.part("a read", buf, pos)?;
        self.memory.read_at(&mut buf[..part], pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let part = self.part("a write", buf, pos)?;
        self.memory.write_at(&buf[..part], pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.must(!range.is_empty(), || format!("a hole of nothing: {range:?}"))?;
        if self.manner.holes { self.memory.punch_hole(range) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        // No call only probes whether an operation is supported.
        let asks = range.is_empty() && range.start == self.memory.len()?;
        self.must(!range.is_empty() || asks, || format!("space for nothing: {range:?}"))?;
        self.memory.allocate(range)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.memory.trim(len)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.memory.reserve(bytes)
    }

    fn unreserve(&self, bytes: u64) {
        let reserved = self.memory.reserved();
        let _ = self.must(bytes <= reserved, || format!("{bytes} of {reserved} reserved bytes are given back"));
        self.memory.unreserve(bytes);
    }
}
