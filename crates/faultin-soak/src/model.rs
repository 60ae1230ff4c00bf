//! The expected bytes of a file, while several threads change them.
//!
//! The first part of a file, its *base*, is divided into *stripes* of all lengths, most of them shorter than a page, each
//! of which belongs to one thread: it alone changes and checks those bytes, so it knows them exactly, whatever other
//! threads do to the same pages. The part after the base, the *tail*, belongs to the thread that holds its lock, as does
//! the length of the file.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use faultin_test::Random;

/// A hole that has failed may have zeroed it.
const OR_ZERO: u16 = 1 << 8;

/// The bytes of one file.
#[derive(Debug)]
pub struct Model {
    bytes: Box<[AtomicU16]>,
}

impl Model {
    /// Makes a model of `bytes`, and zeros up to `most`.
    pub fn new(bytes: &[u8], most: usize) -> Model {
        let bytes = bytes.iter().copied().chain(std::iter::repeat(0)).take(most);
        Model { bytes: bytes.map(|byte| AtomicU16::new(byte.into())).collect() }
    }

    pub fn set(&self, at: usize, bytes: &[u8]) {
        for (to, byte) in self.bytes[at..at + bytes.len()].iter().zip(bytes) {
            to.store(u16::from(*byte), Relaxed);
        }
    }

    pub fn zero(&self, range: Range<usize>) {
        self.bytes[range].iter().for_each(|byte| byte.store(0, Relaxed));
    }

    /// Records that each byte has its old value, or is zero.
    pub fn doubt(&self, range: Range<usize>) {
        self.bytes[range].iter().for_each(|byte| byte.store(byte.load(Relaxed) | OR_ZERO, Relaxed));
    }

    /// Records that `len` bytes at `from` of another file were copied to `at`.
    pub fn copy(&self, at: usize, other: &Model, from: usize, len: usize) {
        for index in 0..len {
            self.bytes[at + index].store(other.bytes[from + index].load(Relaxed), Relaxed);
        }
    }

    /// Returns the difference, as text. A byte in doubt has the found value from now on.
    pub fn difference(&self, at: usize, is: &[u8]) -> Option<String> {
        let wrong = |(index, byte): (usize, &u8)| {
            let ought = self.bytes[at + index].load(Relaxed);
            let right = ought & 0xff == u16::from(*byte) || (ought & OR_ZERO != 0 && *byte == 0);
            if right && ought & OR_ZERO != 0 {
                self.bytes[at + index].store(u16::from(*byte), Relaxed);
            }
            !right
        };
        let differ: Vec<usize> = is.iter().enumerate().filter(|it| wrong(*it)).map(|(index, _)| index).collect();
        let (first, last) = (*differ.first()?, *differ.last()?);
        let end = is.len().min(first + 16);
        let ought: Vec<u8> = self.bytes[at + first..at + end].iter().map(|byte| byte.load(Relaxed) as u8).collect();
        Some(format!(
            "{} of {} bytes at {at}, the first at {} and the last at {}: there is {:02x?}, where {ought:02x?} ought to be",
            differ.len(),
            is.len(),
            at + first,
            at + last,
            &is[first..end]
        ))
    }
}

/// Divides a base into stripes: returns each thread's own.
pub fn stripes(base: usize, threads: usize, page: usize, random: &Random) -> Vec<Vec<Range<usize>>> {
    let mut owned = vec![Vec::new(); threads];
    let (mut start, mut turn) = (0, 0);
    while start < base {
        let len = match random.below(8) {
            0 => page + random.below(4 * page),
            1 => 1 + random.below(16),
            _ => 16 + random.below(page / 2),
        };
        let end = (start + len).min(base);
        // Each thread has one, then a random one.
        let owner = if turn < threads { turn } else { random.below(threads) };
        owned[owner].push(start..end);
        (start, turn) = (end, turn + 1);
    }
    owned
}
