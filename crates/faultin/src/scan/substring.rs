//! Finding a needle: two of its bytes at once, at their distance, and then the others. Where that fails too often, an
//! automaton that reads every byte once (Knuth, Morris, Pratt).

use super::bytes::Bytes;
use super::look::{AnyOf, StartOf};
use super::widest;
use crate::fault::{Fault, Short};

/// Returns the first occurrence of `needle`, as [`scan::find`](super::find).
///
/// # Safety
/// The range has `len` bytes.
pub(crate) unsafe fn find<B: Bytes>(bytes: B, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    let positions = match (needle, len.checked_sub(needle.len())) {
        ([], _) => return Ok(Some(0)),
        // SAFETY: forwarded.
        ([byte], _) => return unsafe { widest::first(&AnyOf(bytes, [*byte]), len) },
        // Too short, but a byte that cannot be loaded is still an error.
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

/// Returns the last occurrence of `needle`, as [`scan::rfind`](super::rfind); an error has the offset of the byte.
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

/// Returns a predicate that only loads: bytes that no occurrence can include must be loadable as well.
fn nothing_in<B: Bytes>(bytes: B) -> AnyOf<B, 0> {
    AnyOf(bytes, [])
}

/// The longest needle, in bytes, whose search allocates nothing.
pub(crate) const SHORT_NEEDLE: usize = 1 << 10;

/// For each prefix of a needle the part that remains when the next byte does not match: the longest start of the needle that
/// the prefix ends with.
// On the stack, so that short needles allocate nothing.
#[allow(clippy::large_enum_variant)]
enum Borders {
    Short([u16; SHORT_NEEDLE]),
    Long(Vec<usize>),
}

impl Borders {
    /// Returns the borders of a needle that is not empty.
    fn of(needle: impl ExactSizeIterator<Item = u8>, byte: impl Fn(usize) -> u8) -> Borders {
        let mut borders = match needle.len() {
            len if len <= SHORT_NEEDLE => Borders::Short([0; SHORT_NEEDLE]),
            len => Borders::Long(vec![0; len]),
        };
        let mut border = 0;
        for (at, this) in needle.enumerate().skip(1) {
            while border > 0 && byte(border) != this {
                border = borders.get(border - 1);
            }
            border += usize::from(byte(border) == this);
            match &mut borders {
                // Less than the length of the needle.
                Borders::Short(list) => list[at] = border as u16,
                Borders::Long(list) => list[at] = border,
            }
        }
        borders
    }

    fn get(&self, at: usize) -> usize {
        match self {
            Borders::Short(list) => list[at].into(),
            Borders::Long(list) => list[at],
        }
    }

    /// Advances by one byte: returns how much of the needle the bytes so far end with.
    fn step(&self, byte: impl Fn(usize) -> u8, mut matched: usize, this: u8) -> usize {
        while matched > 0 && byte(matched) != this {
            matched = self.get(matched - 1);
        }
        matched + usize::from(byte(matched) == this)
    }
}

/// Returns the first occurrence at or after `from`.
///
/// # Safety
/// As [`find`].
#[cold]
unsafe fn automaton<B: Bytes>(bytes: B, from: usize, len: usize, needle: &[u8]) -> Result<Option<usize>, Short> {
    let byte = |i: usize| needle[i];
    let borders = Borders::of(needle.iter().copied(), byte);
    let mut matched = 0;
    for at in from..len {
        // SAFETY: forwarded.
        let this = unsafe { bytes.byte(at) }.map_err(|fault| Short { done: at, fault })?;
        matched = borders.step(byte, matched, this);
        if matched == needle.len() {
            return Ok(Some(at + 1 - matched));
        }
    }
    Ok(None)
}

/// Returns the last occurrence that ends at or before `end`.
///
/// # Safety
/// As [`rfind`].
#[cold]
unsafe fn automaton_backwards<B: Bytes>(bytes: B, end: usize, needle: &[u8]) -> Result<Option<usize>, (usize, Fault)> {
    let byte = |i: usize| needle[needle.len() - 1 - i];
    let borders = Borders::of(needle.iter().rev().copied(), byte);
    let mut matched = 0;
    for at in (0..end).rev() {
        // SAFETY: forwarded.
        let this = unsafe { bytes.byte(at) }.map_err(|fault| (at, fault))?;
        matched = borders.step(byte, matched, this);
        if matched == needle.len() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
