//! Rings in shared memory: one side produces entries, the other consumes them, and neither trusts the other.
//!
//! A ring is an array of entries, their number a power of two, and two counters of 32 bits: *head*, the number of consumed
//! entries, and *tail*, the number of produced entries, both wrapping. Entry `n` is in place `n % capacity`. The rings of
//! io_uring, PipeWire and virtual devices count in the same way. [`RingLayout`] has the positions of the three parts.
//!
//! Each side owns one counter. It is kept in private memory, and only ever *stored* to the shared memory: if the peer
//! overwrites it, this affects only the peer. The other counter is loaded once per operation, and accepted only if it is
//! possible: between 0 and `capacity` entries are between the two. Otherwise the operation is an error that [names
//! both](RingError::Indices), and nothing was consumed or produced.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use faultin::shared::SharedMap;
//! use faultin::shared::ring::{Consumer, RingLayout, Producer};
//!
//! let shared = SharedMap::create("ring", 4096)?;
//! let layout = RingLayout { head: 0, tail: 64, data: 128, entry: 16, capacity: 64 };
//! let mut producer = Producer::new(&shared, layout)?; // in one process
//! let mut consumer = Consumer::new(&shared, layout)?; // in another
//!
//! assert_eq!(producer.push(&[7; 3 * 16])?, 3);
//! let mut entries = [0; 8 * 16];
//! assert_eq!(consumer.consume(&mut entries)?, 3);
//! assert_eq!(entries[..48], [7; 48]);
//!
//! shared.store(64, 1000_u32)?; // a producer that lies
//! let error = consumer.consume(&mut entries).unwrap_err();
//! assert_eq!(error.to_string(), "the peer's tail 1000 is 997 entries ahead of head 3, in a ring of 64");
//! # Ok(())
//! # }
//! ```
//!
//! # Ordering
//!
//! A consumer loads the tail with acquire, copies, and stores the head with release: it sees what was stored before the
//! tail, and has finished reading when the places are free. A producer does the same with the counters exchanged. Entries
//! are copied once; a peer that writes places that it has handed over writes before, after or during that copy.
//!
//! # Bounds
//!
//! An operation makes one load, at most two copies of together `capacity` entries (two where they wrap around), one check
//! of the file unless it is [sealed](SharedMap::is_sealed), and one store. It does not wait: an empty ring returns 0
//! entries, a full one takes 0.

use core::fmt;
use std::sync::atomic::Ordering;

use super::{MapError, SharedMap};
use crate::map::error::{OperationError, Reason};
use crate::map::mapping::Rights;
use crate::scalar;

/// The positions of a ring's parts in shared memory, in bytes from the start of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// The counter of consumed entries: 32 bits, aligned to 4.
    pub head: u64,
    /// The counter of produced entries: 32 bits, aligned to 4.
    pub tail: u64,
    /// The first entry.
    pub data: u64,
    /// Size of an entry in bytes, at least 1. (A ring of bytes has entries of 1.)
    pub entry: u32,
    /// Number of entries: a power of two, at most 2^31.
    pub capacity: u32,
}

impl RingLayout {
    /// Returns the size of all entries in bytes.
    fn bytes(&self) -> u64 {
        u64::from(self.entry) * u64::from(self.capacity)
    }

    /// Returns the end of the last part, if the layout is possible within `len` bytes.
    fn check(&self, len: usize) -> Result<usize, RingError> {
        let RingLayout { head, tail, data, entry, capacity } = *self;
        if entry == 0 {
            return Err(RingError::Layout("its entries have no bytes"));
        }
        if !capacity.is_power_of_two() {
            return Err(RingError::Layout("its capacity is not a power of two of at most 2^31"));
        }
        if head % 4 != 0 || tail % 4 != 0 {
            return Err(RingError::Layout("a counter is not aligned to 4 bytes"));
        }
        let parts = [(head, 4), (tail, 4), (data, self.bytes())];
        let ends = parts.map(|(start, bytes)| start.saturating_add(bytes));
        let apart = |a: usize, b: usize| ends[a] <= parts[b].0 || ends[b] <= parts[a].0;
        let end = ends.into_iter().max().and_then(|end| usize::try_from(end).ok());
        match end.filter(|&end| end <= len) {
            None => Err(RingError::Layout("it does not fit into the map")),
            Some(_) if !(apart(0, 1) && apart(0, 2) && apart(1, 2)) => {
                Err(RingError::Layout("its counters and entries overlap"))
            }
            Some(end) => Ok(end),
        }
    }
}

/// The reason why nothing was consumed or produced.
#[derive(Debug)]
#[non_exhaustive]
pub enum RingError {
    /// The layout is impossible, for this reason.
    Layout(&'static str),
    /// The buffer, which has this many bytes, is not a whole number of entries.
    Buffer(usize),
    /// The peer's counter is impossible in a ring of this capacity. Ours is right.
    Indices {
        /// Number of entries consumed.
        head: u32,
        /// Number of entries produced.
        tail: u32,
        /// Number of entries of the ring.
        capacity: u32,
        /// The peer's counter.
        peer: Counter,
    },
    /// The caller wants to consume more entries than have been seen.
    Unseen {
        /// Number of entries to be consumed.
        count: u32,
        /// Number of entries seen and not consumed.
        seen: u32,
    },
    /// The memory failed, or was revoked.
    Map(MapError),
}

/// One of a ring's two counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The consumer's.
    Head,
    /// The producer's.
    Tail,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Layout(what) => write!(f, "impossible ring: {what}"),
            RingError::Buffer(len) => write!(f, "{len} bytes are not a whole number of the ring's entries"),
            RingError::Indices { head, tail, capacity, peer } => {
                let ahead = tail.wrapping_sub(*head);
                match peer {
                    Counter::Tail => write!(f, "the peer's tail {tail} is {ahead} entries ahead of head {head}")?,
                    Counter::Head => write!(f, "the peer's head {head} is {ahead} entries behind tail {tail}")?,
                }
                write!(f, ", in a ring of {capacity}")
            }
            RingError::Unseen { count, seen } => {
                write!(f, "{count} entries to consume, of which {seen} have been seen")
            }
            RingError::Map(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RingError::Map(error) => Some(error),
            _ => None,
        }
    }
}

impl RingError {
    /// Returns the kernel's error number: `EPROTO` where the peer's counters are impossible, `EINVAL` for the caller's
    /// mistakes.
    pub fn errno(&self) -> Option<i32> {
        match self {
            RingError::Layout(_) | RingError::Buffer(_) | RingError::Unseen { .. } => Some(libc::EINVAL),
            RingError::Indices { .. } => Some(libc::EPROTO),
            RingError::Map(error) => error.errno(),
        }
    }
}

impl From<RingError> for std::io::Error {
    fn from(error: RingError) -> Self {
        match &error {
            RingError::Map(map) => std::io::Error::new(map.kind(), error),
            _ => crate::errno::whole(error.errno(), error),
        }
    }
}

impl From<MapError> for RingError {
    fn from(error: MapError) -> Self {
        RingError::Map(error)
    }
}

/// The side that consumes entries.
#[derive(Debug)]
pub struct Consumer<'m> {
    ring: Ring<'m>,
    /// Number of entries consumed; the one in shared memory is a copy of it.
    head: u32,
    /// Number of entries after the head when the tail was last read.
    seen: u32,
}

/// The side that produces entries.
#[derive(Debug)]
pub struct Producer<'m> {
    ring: Ring<'m>,
    /// Number of entries produced; the one in shared memory is a copy of it.
    tail: u32,
}

impl<'m> Consumer<'m> {
    /// Makes the consumer of a ring, which begins at the head in the shared memory: the head is trusted this once.
    ///
    /// # Errors
    /// [`Layout`](RingError::Layout) if the layout is impossible; [`Map`](RingError::Map) if the map is for reading only,
    /// is one [over pread](super::super::Backend::Pread), or fails.
    pub fn new(map: &'m SharedMap, layout: RingLayout) -> Result<Self, RingError> {
        let ring = Ring::new(map, layout)?;
        map.prepare();
        let head = ring.load(layout.head)?;
        ring.look()?;
        Ok(Consumer { ring, head, seen: 0 })
    }

    /// Copies the oldest entries to `dst`, as many as exist and fit, without consuming them; returns their number. `dst`
    /// has room for a whole number of entries.
    ///
    /// # Errors
    /// [`RingError`] if the memory fails, or a length or counter is wrong; `dst` may have been overwritten.
    pub fn snapshot(&mut self, dst: &mut [u8]) -> Result<u32, RingError> {
        let ring = &self.ring;
        ring.map.prepare();
        let room = ring.entries(dst.len())?;
        let tail = ring.load(ring.layout.tail)?;
        let available = ring.filled(self.head, tail, Counter::Tail)?;
        let count = available.min(room);
        for (place, from, len) in ring.pieces(self.head, count) {
            let copied = ring.map.copy_in(place, &mut dst[from..from + len]);
            copied.map_err(|stop| ring.error(place as u64, stop))?;
        }
        ring.look()?;
        self.seen = available;
        Ok(count)
    }

    /// Returns the places of the `count` oldest entries to the producer.
    ///
    /// # Errors
    /// [`Unseen`](RingError::Unseen) if the last [`snapshot`](Self::snapshot) found fewer; [`Map`](RingError::Map) if the
    /// memory fails. Nothing is consumed.
    pub fn advance(&mut self, count: u32) -> Result<(), RingError> {
        if count > self.seen {
            return Err(RingError::Unseen { count, seen: self.seen });
        }
        let head = self.head.wrapping_add(count);
        self.ring.store(self.ring.layout.head, head)?;
        (self.head, self.seen) = (head, self.seen - count);
        Ok(())
    }

    /// Copies the oldest entries to `dst`, as many as exist and fit, and consumes them; returns their number.
    ///
    /// # Errors
    /// [`RingError`] if the memory fails, or a length or counter is wrong; nothing is consumed, `dst` may have been
    /// overwritten.
    pub fn consume(&mut self, dst: &mut [u8]) -> Result<u32, RingError> {
        let count = self.snapshot(dst)?;
        if count > 0 {
            self.advance(count)?;
        }
        Ok(count)
    }

    /// Returns the number of consumed entries, wrapping.
    pub fn head(&self) -> u32 {
        self.head
    }
}

impl<'m> Producer<'m> {
    /// Makes the producer of a ring, which begins at the tail in the shared memory: the tail is trusted this once.
    ///
    /// # Errors
    /// Those of [`Consumer::new`].
    pub fn new(map: &'m SharedMap, layout: RingLayout) -> Result<Self, RingError> {
        let ring = Ring::new(map, layout)?;
        map.prepare();
        let tail = ring.load(layout.tail)?;
        ring.look()?;
        Ok(Producer { ring, tail })
    }

    /// Puts the entries of `src` into the ring, as many as there is room for, and then publishes them to the consumer;
    /// returns their number. `src` is a whole number of entries.
    ///
    /// # Errors
    /// [`RingError`] if the memory fails, or a length or counter is wrong; nothing is produced.
    pub fn push(&mut self, src: &[u8]) -> Result<u32, RingError> {
        let ring = &self.ring;
        ring.map.prepare();
        let wanted = ring.entries(src.len())?;
        let head = ring.load(ring.layout.head)?;
        let room = ring.layout.capacity - ring.filled(head, self.tail, Counter::Head)?;
        let count = room.min(wanted);
        for (place, from, len) in ring.pieces(self.tail, count) {
            let copied = ring.map.copy_out(place, &src[from..from + len]);
            copied.map_err(|stop| ring.error(place as u64, stop))?;
        }
        ring.look()?;
        if count > 0 {
            let tail = self.tail.wrapping_add(count);
            ring.store(ring.layout.tail, tail)?;
            self.tail = tail;
        }
        Ok(count)
    }

    /// Returns the number of produced entries, wrapping.
    pub fn tail(&self) -> u32 {
        self.tail
    }
}

/// The data of both sides: a layout that was checked, and its map.
#[derive(Debug)]
struct Ring<'m> {
    map: &'m SharedMap,
    layout: RingLayout,
    /// End in the map of the ring's last part.
    end: usize,
}

impl<'m> Ring<'m> {
    fn new(map: &'m SharedMap, layout: RingLayout) -> Result<Self, RingError> {
        let ring = Ring { map, layout, end: layout.check(map.len())? };
        match map.rights() {
            Rights::ReadWrite => Ok(ring),
            Rights::Read => Err(ring.error(0, OperationError::new(0, Reason::Unsupported("a ring in a map to read")))),
        }
    }

    /// Loads the peer's counter: what the peer stored before it is seen after it.
    fn load(&self, at: u64) -> Result<u32, RingError> {
        let before = self.map.epoch();
        let load = |place: *mut u32| {
            // SAFETY: `place` is within the mapping, whose invariants are the preconditions.
            let value = unsafe { scalar::load_atomic(place, Ordering::Acquire) }?;
            self.map.whole_since(before, place).map(|()| value)
        };
        self.map.atomic_at(at as usize, 4, load).map_err(|stop| self.error(at, stop))
    }

    /// Stores our counter: earlier loads and stores are done.
    fn store(&self, at: u64, value: u32) -> Result<(), RingError> {
        // SAFETY: as above.
        let store = |place: *mut u32| unsafe { scalar::store_atomic(place, value, Ordering::Release) };
        self.map.atomic_at(at as usize, 4, store).map_err(|stop| self.error(at, stop))
    }

    /// Checks that the whole ring is still the file's: bytes loaded from a truncated one are zeros.
    fn look(&self) -> Result<(), RingError> {
        self.map.look(0, self.end).map_err(|stop| self.error(0, OperationError { done: 0, ..stop }))
    }

    /// Returns the number of entries in the ring, if the counters are possible.
    fn filled(&self, head: u32, tail: u32, peer: Counter) -> Result<u32, RingError> {
        let filled = tail.wrapping_sub(head);
        if filled <= self.layout.capacity {
            return Ok(filled);
        }
        // A truncated ring reads as zeros: then the truncation is the error.
        self.look()?;
        Err(self.impossible(head, tail, peer))
    }

    #[cold]
    fn impossible(&self, head: u32, tail: u32, peer: Counter) -> RingError {
        RingError::Indices { head, tail, capacity: self.layout.capacity, peer }
    }

    /// Returns the number of entries of a buffer, up to the ring's capacity.
    fn entries(&self, len: usize) -> Result<u32, RingError> {
        let entry = self.layout.entry as usize;
        match len % entry {
            0 => Ok(u32::try_from(len / entry).unwrap_or(u32::MAX)),
            _ => Err(RingError::Buffer(len)),
        }
    }

    /// Returns the places of `count` entries from the `first`: position in the map, position in a buffer, and length of
    /// both pieces, in bytes.
    fn pieces(&self, first: u32, count: u32) -> impl Iterator<Item = (usize, usize, usize)> {
        let RingLayout { data, entry, capacity, .. } = self.layout;
        let place = first & (capacity - 1);
        let before = count.min(capacity - place);
        let bytes = move |entries: u32| entries as usize * entry as usize;
        let pieces =
            [(data as usize + bytes(place), 0, bytes(before)), (data as usize, bytes(before), bytes(count - before))];
        pieces.into_iter().filter(|piece| piece.2 > 0)
    }

    fn error(&self, at: u64, stop: OperationError) -> RingError {
        RingError::Map(self.map.error(at, stop))
    }
}
