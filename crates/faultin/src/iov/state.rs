//! The position of a list: all of its arithmetic, for both directions.

use core::fmt;
use core::ops::Range;

use super::segment::Segment;
use crate::fault::Short;

/// A position of a list, to return to with `restore`. Valid only for the list that returned it.
///
/// # Invariants
///
/// 1. `index` names a segment with more than `offset` bytes; or no segment is left, and `offset` is 0. So the position is
///    never on a zero-length segment, and never past the end of one.
/// 2. `moved` bytes of the list are before the position.
/// 3. `moved + count <= total`, the number of bytes of all segments (at most `usize::MAX`: bytes past that are never
///    reached).
#[doc(alias = "iov_iter_state")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovState {
    index: usize,
    offset: usize,
    moved: usize,
    count: usize,
    total: usize,
}

/// A position outside of the list, or a state of another list. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovRangeError;

impl fmt::Display for IovRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outside of the list of segments")
    }
}

impl core::error::Error for IovRangeError {}

#[cfg(feature = "std")]
impl From<IovRangeError> for std::io::Error {
    fn from(error: IovRangeError) -> Self {
        crate::errno::whole(Some(error.errno()), error)
    }
}

impl IovRangeError {
    /// Returns `EINVAL`.
    pub const fn errno(&self) -> i32 {
        22
    }
}

/// A part of one segment: `len` bytes from `offset`, at least one.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub index: usize,
    pub offset: usize,
    pub len: usize,
}

impl Piece {
    /// Returns the range of the piece within its segment.
    pub(super) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

impl IovState {
    /// Makes the position at the start of a list.
    #[inline]
    pub(super) fn start<S: Segment>(segments: &[S]) -> Self {
        let total = segments.iter().fold(0, |sum: usize, segment| sum.saturating_add(segment.len()));
        let mut state = IovState { index: 0, offset: 0, moved: 0, count: total, total };
        state.settle(segments);
        state
    }

    /// Returns the number of bytes left.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the number of bytes before the position.
    #[inline]
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Returns the index of the current segment, and the offset in it.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.index, self.offset)
    }

    /// Establishes invariant 1: moves on to the segment that has the byte at `offset`.
    #[inline]
    fn settle<S: Segment>(&mut self, segments: &[S]) {
        while let Some(segment) = segments.get(self.index)
            && self.offset >= segment.len()
        {
            self.offset -= segment.len();
            self.index += 1;
        }
    }

    /// Moves forward by `n`, at most `count`.
    #[inline]
    pub(super) fn advance<S: Segment>(&mut self, segments: &[S], n: usize) {
        let n = n.min(self.count);
        self.offset += n;
        self.moved += n;
        self.count -= n;
        self.settle(segments);
    }

    /// Moves back by `n`.
    pub(super) fn revert<S: Segment>(&mut self, segments: &[S], n: usize) -> Result<(), IovRangeError> {
        self.moved = self.moved.checked_sub(n).ok_or(IovRangeError)?;
        self.count += n;
        let mut left = n;
        while left > self.offset {
            left -= self.offset;
            self.index -= 1;
            self.offset = segments[self.index].len();
        }
        self.offset -= left;
        Ok(())
    }

    pub(super) fn truncate(&mut self, limit: usize) {
        self.count = self.count.min(limit);
    }

    /// Sets the number of bytes left.
    pub(super) fn reexpand(&mut self, count: usize) -> Result<(), IovRangeError> {
        if count > self.total - self.moved {
            return Err(IovRangeError);
        }
        self.count = count;
        Ok(())
    }

    /// Returns whether it can be a state of this list: checks every segment before it.
    pub(super) fn belongs_to<S: Segment>(&self, segments: &[S], current: &IovState) -> bool {
        let in_range = match segments.get(self.index) {
            Some(segment) => self.offset < segment.len(),
            None => self.index == segments.len() && self.offset == 0,
        };
        in_range && self.total == current.total && {
            let before =
                segments[..self.index].iter().fold(self.offset, |sum, segment| sum.saturating_add(segment.len()));
            before == self.moved
        }
    }

    /// Returns the next piece, of at most `limit` bytes; both `limit` and `count` are more than 0.
    #[inline]
    fn next<S: Segment>(&self, segments: &[S], limit: usize) -> Piece {
        let left = segments[self.index].len() - self.offset;
        Piece { index: self.index, offset: self.offset, len: left.min(limit) }
    }

    /// Returns the pieces that are left, at most `limit` bytes of them.
    pub(super) fn pieces<S: Segment>(&self, segments: &[S], limit: usize) -> impl Iterator<Item = Piece> {
        let mut ahead = *self;
        ahead.truncate(limit);
        core::iter::from_fn(move || {
            let piece = (ahead.count > 0).then(|| ahead.next(segments, ahead.count))?;
            ahead.advance(segments, piece.len);
            Some(piece)
        })
    }

    /// Moves at most `len` bytes, piece by piece, and advances by exactly what moved. `step` gets each piece and its offset
    /// in the operation. The first piece that is short ends it.
    #[inline]
    pub(super) fn transfer<S: Segment, L: AsRef<[S]>>(
        &mut self,
        list: &mut L,
        len: usize,
        mut step: impl FnMut(&mut L, Piece, Range<usize>) -> Result<(), Short>,
    ) -> Result<usize, Short> {
        let goal = len.min(self.count);
        let mut done = 0;
        while done < goal {
            let piece = self.next(list.as_ref(), goal - done);
            let result = step(list, piece, done..done + piece.len);
            let moved = result.map_or_else(|short| short.done, |()| piece.len);
            self.advance(list.as_ref(), moved);
            done += moved;
            result.map_err(|short| Short { done, fault: short.fault })?;
        }
        Ok(done)
    }
}
