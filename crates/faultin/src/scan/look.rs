//! [`Look`]: the predicate that a search tests at each position of a range.

use core::cell::Cell;

use super::bytes::{Bytes, Plain};
use crate::arch::{Block, Vector};
use crate::fault::Fault;

/// A predicate on each position of a range. Answers for many positions may have false positives; [`accept`] decides.
///
/// [`accept`]: Self::accept
pub(super) trait Look {
    /// Returns the answers for `4 * V::BYTES` positions, as masks.
    ///
    /// # Safety
    /// As [`Bytes::four`].
    unsafe fn four<V: Vector>(&self, at: usize) -> Result<[V; 4], Fault>;

    /// Returns the answers for sixteen positions, as a mask.
    ///
    /// # Safety
    /// As [`Bytes::block`].
    unsafe fn block(&self, at: usize) -> Result<Block, Fault>;

    /// Returns the answer for one position, from the bytes that [`block`](Self::block) loads.
    ///
    /// # Safety
    /// As [`Bytes::byte`].
    #[inline(always)]
    unsafe fn one(&self, at: usize) -> Result<bool, Fault> {
        // SAFETY: forwarded.
        unsafe { self.settle(at) }.map_err(|(_, fault)| fault)
    }

    /// Returns whether a position with a positive answer is accepted.
    ///
    /// # Safety
    /// As [`Bytes::byte`].
    #[inline(always)]
    unsafe fn accept(&self, at: usize) -> Result<bool, Fault> {
        let _ = at;
        Ok(true)
    }

    /// Returns the answer for one position, byte by byte: an error has the fault of the first byte that could not be
    /// loaded, and the number of bytes between it and the position.
    ///
    /// # Safety
    /// As [`Bytes::byte`].
    unsafe fn settle(&self, at: usize) -> Result<bool, (usize, Fault)>;

    /// Loads one byte.
    ///
    /// # Safety
    /// As [`Bytes::byte`].
    unsafe fn touch(&self, at: usize) -> Result<(), Fault>;

    /// Returns the distance from a position to the last of the bytes that its answer loads first.
    #[inline(always)]
    fn reach(&self) -> usize {
        0
    }

    /// Returns where the first byte that could not be loaded may be, after a fault: positions that end before need not be
    /// tested again for it. At most `len`, the number of bytes of the range.
    fn clear(&self, fault: &Fault, len: usize) -> usize;

    /// Returns the number of bytes that each position needs.
    #[inline(always)]
    fn width(&self) -> usize {
        1
    }

    /// Returns the number of positions from the first one to where loads are aligned.
    fn to_multiple_of(&self, size: usize, at: usize) -> usize;
}

/// Any of `N` bytes. With `N` = 0 it finds nothing, and only loads.
pub(super) struct AnyOf<B, const N: usize>(pub B, pub [u8; N]);

impl<B: Bytes, const N: usize> Look for AnyOf<B, N> {
    #[inline(always)]
    unsafe fn four<V: Vector>(&self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded.
        unsafe { Ok(self.0.four::<V>(at)?.map(|bytes| any_of(bytes, &self.1))) }
    }

    #[inline(always)]
    unsafe fn block(&self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded.
        unsafe { Ok(any_of(self.0.block(at)?, &self.1)) }
    }

    unsafe fn settle(&self, at: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at) }.map(|byte| self.1.contains(&byte)).map_err(|fault| (0, fault))
    }

    unsafe fn touch(&self, at: usize) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at) }.map(|_| ())
    }

    fn clear(&self, fault: &Fault, len: usize) -> usize {
        self.0.worth_trying(fault, len)
    }

    fn to_multiple_of(&self, size: usize, at: usize) -> usize {
        self.0.to_multiple_of(size, at)
    }
}

/// # Safety
/// The CPU has these registers.
#[inline(always)]
unsafe fn any_of<V: Vector, const N: usize>(bytes: V, needles: &[u8; N]) -> V {
    // SAFETY: forwarded.
    unsafe {
        let Some((first, more)) = needles.split_first() else { return bytes.sub(bytes) };
        more.iter().fold(bytes.eq(V::splat(*first)), |found, needle| found.or(bytes.eq(V::splat(*needle))))
    }
}

/// # Safety
/// The CPU has these registers.
#[inline(always)]
unsafe fn not<V: Vector>(mask: V) -> V {
    // SAFETY: forwarded.
    unsafe { mask.eq(V::splat(0)) }
}

/// Any byte except one.
pub(super) struct NoneOf<B>(pub B, pub u8);

impl<B: Bytes> Look for NoneOf<B> {
    #[inline(always)]
    unsafe fn four<V: Vector>(&self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded.
        unsafe { Ok(self.0.four::<V>(at)?.map(|bytes| not(bytes.eq(V::splat(self.1))))) }
    }

    #[inline(always)]
    unsafe fn block(&self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded.
        unsafe { Ok(not(self.0.block(at)?.eq(Block::splat(self.1)))) }
    }

    unsafe fn settle(&self, at: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at) }.map(|byte| byte != self.1).map_err(|fault| (0, fault))
    }

    unsafe fn touch(&self, at: usize) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at) }.map(|_| ())
    }

    fn clear(&self, fault: &Fault, len: usize) -> usize {
        self.0.worth_trying(fault, len)
    }

    fn to_multiple_of(&self, size: usize, at: usize) -> usize {
        self.0.to_multiple_of(size, at)
    }
}

/// A byte that differs in two ranges.
pub(super) struct Differing<A, B>(pub A, pub B);

impl<A: Bytes, B: Bytes> Look for Differing<A, B> {
    #[inline(always)]
    unsafe fn four<V: Vector>(&self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded.
        unsafe {
            let [a, b, c, d] = self.0.four::<V>(at)?;
            let [e, f, g, h] = self.1.four::<V>(at)?;
            Ok([not(a.eq(e)), not(b.eq(f)), not(c.eq(g)), not(d.eq(h))])
        }
    }

    #[inline(always)]
    unsafe fn block(&self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded.
        unsafe { Ok(not(self.0.block(at)?.eq(self.1.block(at)?))) }
    }

    unsafe fn settle(&self, at: usize) -> Result<bool, (usize, Fault)> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at).and_then(|a| Ok(a != self.1.byte(at)?)) }.map_err(|fault| (0, fault))
    }

    unsafe fn touch(&self, at: usize) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe { self.0.byte(at).and_then(|_| self.1.byte(at)) }.map(|_| ())
    }

    fn clear(&self, fault: &Fault, len: usize) -> usize {
        // The fault was in one of the ranges; the result of the other one is not smaller.
        self.0.worth_trying(fault, len).min(self.1.worth_trying(fault, len))
    }

    fn to_multiple_of(&self, size: usize, at: usize) -> usize {
        self.0.to_multiple_of(size, at)
    }
}

/// The start of a needle: two of its bytes at their positions, and then the others.
pub(super) struct StartOf<'n, B> {
    bytes: B,
    needle: &'n [u8],
    /// Positions of the two bytes in the needle, the first one first. Both are among the first 256.
    pair: [usize; 2],
    /// Number of bytes that may still be compared fruitlessly before [`gave_up`](Self::gave_up).
    patience: Cell<usize>,
}

impl<'n, B: Bytes> StartOf<'n, B> {
    /// `needle` has at least two bytes, and the range `len`.
    pub(super) fn new(bytes: B, len: usize, needle: &'n [u8]) -> Self {
        StartOf { bytes, needle, pair: rarest(needle), patience: Cell::new(len.saturating_mul(2).saturating_add(4096)) }
    }

    /// Returns the number of positions before the first byte that answers load, and of bytes after the last one.
    pub(super) fn margins(&self) -> [usize; 2] {
        [self.pair[0], self.needle.len() - 1 - self.pair[1]]
    }

    /// Returns whether so much was compared fruitlessly that positions are accepted unchecked.
    pub(super) fn gave_up(&self) -> bool {
        self.patience.get() == 0
    }
}

impl<B: Bytes> Look for StartOf<'_, B> {
    #[inline(always)]
    unsafe fn four<V: Vector>(&self, at: usize) -> Result<[V; 4], Fault> {
        // SAFETY: forwarded: a position has all bytes of the needle.
        unsafe {
            let [one, two] = self.pair.map(|i| V::splat(self.needle[i]));
            let [a, b, c, d] = self.bytes.four::<V>(at + self.pair[0])?;
            let [e, f, g, h] = self.bytes.four::<V>(at + self.pair[1])?;
            Ok([a.eq(one).and(e.eq(two)), b.eq(one).and(f.eq(two)), c.eq(one).and(g.eq(two)), d.eq(one).and(h.eq(two))])
        }
    }

    #[inline(always)]
    unsafe fn block(&self, at: usize) -> Result<Block, Fault> {
        // SAFETY: forwarded.
        unsafe {
            let [one, two] = self.pair.map(|i| Block::splat(self.needle[i]));
            Ok(self.bytes.block(at + self.pair[0])?.eq(one).and(self.bytes.block(at + self.pair[1])?.eq(two)))
        }
    }

    #[inline(always)]
    unsafe fn one(&self, at: usize) -> Result<bool, Fault> {
        // SAFETY: forwarded.
        let [a, b] = unsafe { [self.bytes.byte(at + self.pair[0])?, self.bytes.byte(at + self.pair[1])?] };
        Ok([a, b] == self.pair.map(|i| self.needle[i]))
    }

    #[inline(always)]
    unsafe fn accept(&self, at: usize) -> Result<bool, Fault> {
        let (len, patience) = (self.needle.len(), self.patience.get());
        if patience == 0 {
            return Ok(true);
        }
        let mut done = 0;
        let mut same = true;
        let needle = Plain(self.needle.as_ptr());
        // SAFETY: forwarded; within the needle.
        unsafe {
            while same && len - done >= 8 {
                same = self.bytes.word(at + done)? == needle.word(done)?;
                done += 8;
            }
            while same && done < len {
                same = self.bytes.byte(at + done)? == needle.byte(done)?;
                done += 1;
            }
        }
        if !same {
            self.patience.set(patience.saturating_sub(done));
        }
        Ok(same)
    }

    unsafe fn settle(&self, at: usize) -> Result<bool, (usize, Fault)> {
        for (i, &want) in self.needle.iter().enumerate() {
            // SAFETY: forwarded.
            match unsafe { self.bytes.byte(at + i) } {
                Ok(byte) if byte == want => {}
                Ok(_) => return Ok(false),
                Err(fault) => return Err((i, fault)),
            }
        }
        Ok(true)
    }

    unsafe fn touch(&self, at: usize) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe { self.bytes.byte(at) }.map(|_| ())
    }

    #[inline(always)]
    fn reach(&self) -> usize {
        self.pair[1]
    }

    fn clear(&self, fault: &Fault, len: usize) -> usize {
        self.bytes.worth_trying(fault, len)
    }

    fn width(&self) -> usize {
        self.needle.len()
    }

    fn to_multiple_of(&self, size: usize, at: usize) -> usize {
        self.bytes.to_multiple_of(size, at + self.pair[0])
    }
}

/// Returns the positions of the two rarest bytes of a needle, ascending; among the first 256.
fn rarest(needle: &[u8]) -> [usize; 2] {
    let among = needle.len().min(256);
    let least = |except: Option<usize>| {
        (0..among)
            .filter(|&i| except.is_none_or(|other| needle[i] != needle[other]))
            .min_by_key(|&i| frequency(needle[i]))
    };
    let first = least(None).unwrap_or(0);
    // A needle of one repeated byte: its ends.
    let (first, second) = match least(Some(first)) {
        Some(second) => (first, second),
        None => (0, among - 1),
    };
    [first.min(second), first.max(second)]
}

/// Returns roughly how frequent a byte is: in text, and in programs and their data.
fn frequency(byte: u8) -> u8 {
    match byte {
        0 | b' ' => 10,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 9,
        0xff | b'\n' | b'l' | b'd' | b'c' | b'u' | b'm' | b'p' | b'f' | b'h' | b'g' => 8,
        b'a'..=b'z' => 7,
        1..=8 | b'0' | b'1' | b'_' | b'.' | b',' | b'/' | b'(' | b')' | b'-' | b'=' | b'"' | b'\t' => 6,
        b'0'..=b'9' => 5,
        b'A'..=b'Z' => 4,
        b'!'..=b'~' => 3,
        0x80..=0xbf => 2,
        _ => 1,
    }
}
