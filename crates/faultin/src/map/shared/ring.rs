//! Rings of bytes in shared memory, of which one side is ours and the other's indices are not believed.
//!
//! A ring has one producer and one consumer. Each owns an index, a `u32` that counts bytes for ever and wraps around; the
//! bytes between the two are full. It is what audio servers, virtual machines and kernels share with those who may not
//! be trusted, and where the classic mistakes are made: to read an index twice, to take a peer's word for one's own
//! index, to copy as much as it says.

use core::fmt;
use core::sync::atomic::Ordering;

use super::SharedMap;
use crate::fault::{Fault, Short};

/// Where in a [`SharedMap`] a ring is: positions in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Of the consumer's index, a `u32`: bytes taken out so far, modulo 2³².
    pub head: usize,
    /// Of the producer's index, a `u32`: bytes put in so far, modulo 2³².
    pub tail: usize,
    /// Of the bytes.
    pub data: usize,
    /// Bytes: a power of two, at most 2³¹.
    pub capacity: u32,
}

impl RingLayout {
    fn check(self, map: &SharedMap) -> Result<Self, RingError> {
        let apart = |a: usize, b: usize, len: usize| a.checked_add(4).is_some_and(|end| end <= b) || a >= b + len;
        let said = if !self.capacity.is_power_of_two() {
            "its capacity is no power of two"
        } else if !self.head.is_multiple_of(4) || !self.tail.is_multiple_of(4) {
            "its indices are not aligned to 4 bytes"
        } else if [(self.head, 4), (self.tail, 4), (self.data, self.capacity as usize)]
            .into_iter()
            .any(|(at, len)| at > map.len() || len > map.len() - at)
        {
            "it ends behind the map"
        } else if !apart(self.head, self.tail, 4)
            || !apart(self.head, self.data, self.capacity as usize)
            || !apart(self.tail, self.data, self.capacity as usize)
        {
            "its parts overlap"
        } else {
            return Ok(self);
        };
        Err(RingError::Layout(said))
    }

    /// The two pieces of `len` bytes from `index`: positions in the map, and bytes.
    fn pieces(self, index: u32, len: usize) -> [(usize, usize); 2] {
        let into = (index & (self.capacity - 1)) as usize;
        let first = len.min(self.capacity as usize - into);
        [(self.data + into, first), (self.data, len - first)]
    }
}

/// Why a ring did not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// The layout is no ring in this map.
    Layout(&'static str),
    /// The peer's index cannot be: more bytes are full than the ring has.
    Index {
        /// Our index.
        ours: u32,
        /// What the peer's was, the one time it was read.
        theirs: u32,
        /// Bytes in the ring.
        capacity: u32,
    },
    /// The memory failed. So many bytes were moved, and neither index was.
    Short(Short),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Layout(said) => write!(f, "not a ring: {said}"),
            RingError::Index { ours, theirs, capacity } => {
                write!(f, "the peer's index is {theirs}, ours {ours}: more than the ring's {capacity} bytes apart")
            }
            RingError::Short(short) => short.fmt(f),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RingError::Short(short) => Some(short),
            _ => None,
        }
    }
}

impl From<Short> for RingError {
    fn from(short: Short) -> Self {
        RingError::Short(short)
    }
}

impl From<Fault> for RingError {
    fn from(fault: Fault) -> Self {
        RingError::Short(Short { done: 0, fault })
    }
}

/// The reading side. Its index is kept here; what stands in the memory is for the peer.
#[derive(Debug)]
pub struct Consumer<'a> {
    map: &'a SharedMap,
    layout: RingLayout,
    head: u32,
    /// Bytes of the last snapshot that were not taken out.
    seen: u32,
}

impl<'a> Consumer<'a> {
    /// Begins at the index 0, as a new ring does.
    ///
    /// # Errors
    /// [`RingError::Layout`].
    pub fn new(map: &'a SharedMap, layout: RingLayout) -> Result<Self, RingError> {
        Ok(Consumer { map, layout: layout.check(map)?, head: 0, seen: 0 })
    }

    /// Copies what is full into `dst`, as much as fits; returns how many bytes. Takes nothing out: that is
    /// [`advance`](Self::advance), after the copy was checked.
    ///
    /// The producer's index is loaded once (acquire); so is each byte. The work is bounded by the smaller of `dst` and the
    /// ring.
    ///
    /// # Errors
    /// [`RingError::Index`], [`RingError::Short`].
    pub fn snapshot(&mut self, dst: &mut [u8]) -> Result<usize, RingError> {
        let RingLayout { tail, capacity, .. } = self.layout;
        let theirs: u32 = self.map.view().load_atomic(tail, Ordering::Acquire)?;
        let full = theirs.wrapping_sub(self.head);
        if full > capacity {
            return Err(RingError::Index { ours: self.head, theirs, capacity });
        }
        let len = dst.len().min(full as usize);
        let mut done = 0;
        for (at, part) in self.layout.pieces(self.head, len) {
            let copied = self.map.read_at(&mut dst[done..done + part], at);
            copied.map_err(|short| Short { done: done + short.done, ..short })?;
            done += part;
        }
        self.seen = len as u32;
        Ok(len)
    }

    /// Takes out `len` bytes of the last [`snapshot`](Self::snapshot), all of them if it had fewer: the producer may use
    /// their place (release).
    ///
    /// # Errors
    /// [`RingError::Short`] if the index could not be stored; nothing was taken out.
    pub fn advance(&mut self, len: usize) -> Result<(), RingError> {
        let len = len.min(self.seen as usize) as u32;
        let head = self.head.wrapping_add(len);
        self.map.view_mut().store_atomic(self.layout.head, head, Ordering::Release)?;
        (self.head, self.seen) = (head, self.seen - len);
        Ok(())
    }
}

/// The writing side. Its index is kept here; what stands in the memory is for the peer.
#[derive(Debug)]
pub struct Producer<'a> {
    map: &'a SharedMap,
    layout: RingLayout,
    tail: u32,
}

impl<'a> Producer<'a> {
    /// Begins at the index 0, as a new ring does.
    ///
    /// # Errors
    /// [`RingError::Layout`].
    pub fn new(map: &'a SharedMap, layout: RingLayout) -> Result<Self, RingError> {
        Ok(Producer { map, layout: layout.check(map)?, tail: 0 })
    }

    /// Puts in as many bytes of `src` as there is room for; returns how many.
    ///
    /// # Errors
    /// [`RingError::Index`], [`RingError::Short`]; the consumer has been told of nothing.
    pub fn push(&mut self, src: &[u8]) -> Result<usize, RingError> {
        let RingLayout { head, tail, capacity, .. } = self.layout;
        let theirs: u32 = self.map.view().load_atomic(head, Ordering::Acquire)?;
        let full = self.tail.wrapping_sub(theirs);
        if full > capacity {
            return Err(RingError::Index { ours: self.tail, theirs, capacity });
        }
        let len = src.len().min((capacity - full) as usize);
        let mut done = 0;
        for (at, part) in self.layout.pieces(self.tail, len) {
            let copied = self.map.write_at(&src[done..done + part], at);
            copied.map_err(|short| Short { done: done + short.done, ..short })?;
            done += part;
        }
        let now = self.tail.wrapping_add(len as u32);
        self.map.view_mut().store_atomic(tail, now, Ordering::Release)?;
        self.tail = now;
        Ok(len)
    }
}
