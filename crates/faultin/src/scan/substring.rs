//! Finding a string of bytes: two of its bytes at once, wherever they stand as they should, and then the others. Where
//! that goes wrong too often, an automaton that looks at every byte once (Knuth, Morris, Pratt).

use super::bytes::Bytes;
use super::look::{AnyOf, StartOf};
use super::widest;
use crate::fault::{Fault, Short};

/// The first occurrence of `needle`, as [`scan::find`](super::find).
///
/// # Safety
/// The range has `len` bytes.
pub(crate) unsafe fn find<B: Bytes>(bytes: B, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    let positions = match (needle, len.checked_sub(needle.len())) {
        ([], _) => return Ok(Some(0)),
        // SAFETY: forwarded.
        ([byte], _) => return unsafe { widest::first(&AnyOf(bytes, [*byte]), len) },
        // Too short, and yet a byte that cannot be loaded is worth an error.
        // SAFETY: forwarded.
        (_, None) => return unsafe { widest::first(&nothing_in(bytes), len) },
        (_, Some(last)) => last + 1,
    };
    let look = StartOf::new(bytes, len, needle);
    let [before, behind] = look.margins();
    // SAFETY: forwarded: the margins are parts of the range, positions have a needle's bytes.
    unsafe {
        widest::first(&nothing_in(bytes), before)?;
        match widest::first(&look, positions)? {
            Some(position) if look.gave_up() => automaton(bytes, position, len, needle),
            None => widest::first(&nothing_in(bytes.behind(len - behind)), behind)
                .map_err(|short| Short { done: len - behind + short.done, ..short }),
            found => Ok(found),
        }
    }
}

/// The last occurrence of `needle`, as [`scan::rfind`](super::rfind); an error has the offset of the byte.
///
/// # Safety
/// The range has `len` bytes.
pub(crate) unsafe fn rfind<B: Bytes>(bytes: B, len: usize, needle: &[u8]) -> Result<Option<usize>, (usize, Fault)> {
    let positions = match (needle, len.checked_sub(needle.len())) {
        ([], _) => return Ok(Some(len)),
        // SAFETY: forwarded.
        ([byte], _) => return unsafe { widest::last(&AnyOf(bytes, [*byte]), len) },
        // SAFETY: forwarded.
        (_, None) => return unsafe { widest::last(&nothing_in(bytes), len) },
        (_, Some(last)) => last + 1,
    };
    let look = StartOf::new(bytes, len, needle);
    let [before, behind] = look.margins();
    // SAFETY: as in `find`.
    unsafe {
        widest::last(&nothing_in(bytes.behind(len - behind)), behind)
            .map_err(|(at, fault)| (len - behind + at, fault))?;
        match widest::last(&look, positions)? {
            Some(position) if look.gave_up() => automaton_backwards(bytes, position + needle.len(), needle),
            None => widest::last(&nothing_in(bytes), before),
            found => Ok(found),
        }
    }
}

/// A look that only loads: what no occurrence can lie in has to be there as well.
fn nothing_in<B: Bytes>(bytes: B) -> AnyOf<B, 0> {
    AnyOf(bytes, [])
}

/// How much of a needle is left after each part of it that is not followed by its next byte: the longest start of the
/// needle that the part ends with.
fn borders(needle: impl Iterator<Item = u8> + Clone, byte: impl Fn(usize) -> u8) -> Vec<usize> {
    let mut borders = vec![0];
    let mut border = 0;
    for this in needle.skip(1) {
        while border > 0 && byte(border) != this {
            border = borders[border - 1];
        }
        border += usize::from(byte(border) == this);
        borders.push(border);
    }
    borders
}

/// One byte further: how much of the needle the bytes so far end with.
fn step(borders: &[usize], byte: impl Fn(usize) -> u8, mut matched: usize, this: u8) -> usize {
    while matched > 0 && byte(matched) != this {
        matched = borders[matched - 1];
    }
    matched + usize::from(byte(matched) == this)
}

/// The first occurrence at or behind `from`.
///
/// # Safety
/// As [`find`].
#[cold]
unsafe fn automaton<B: Bytes>(bytes: B, from: usize, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    let byte = |i: usize| needle[i];
    let borders = borders(needle.iter().copied(), byte);
    let mut matched = 0;
    for at in from..len {
        // SAFETY: forwarded.
        let this = unsafe { bytes.byte(at) }.map_err(|fault| Short { done: at, fault })?;
        matched = step(&borders, byte, matched, this);
        if matched == needle.len() {
            return Ok(Some(at + 1 - matched));
        }
    }
    Ok(None)
}

/// The last occurrence that ends at or before `end`.
///
/// # Safety
/// As [`rfind`].
#[cold]
unsafe fn automaton_backwards<B: Bytes>(bytes: B, end: usize, needle: &[u8]) -> Result<Option<usize>, (usize, Fault)> {
    let byte = |i: usize| needle[needle.len() - 1 - i];
    let borders = borders(needle.iter().rev().copied(), byte);
    let mut matched = 0;
    for at in (0..end).rev() {
        // SAFETY: forwarded.
        let this = unsafe { bytes.byte(at) }.map_err(|fault| (at, fault))?;
        matched = step(&borders, byte, matched, this);
        if matched == needle.len() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
