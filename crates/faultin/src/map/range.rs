//! Ranges of bytes in arguments.

use core::ops::{Bound, Range, RangeBounds};

/// Returns the first position of a range.
fn start(range: &impl RangeBounds<u64>) -> u64 {
    match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    }
}

/// Returns the part of a range that a map of `len` bytes has. A range that begins past its own end, or the map's, has no
/// bytes.
pub(super) fn within(range: impl RangeBounds<u64>, len: u64) -> Range<u64> {
    let start = start(&range);
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    start..end.min(len).max(start)
}

/// Returns the start of a range and its length, even if it ends past a map of `len` bytes. Only a range without an end ends
/// with the map. A range that ends before it begins has no bytes.
pub(super) fn asked(range: impl RangeBounds<u64>, len: u64) -> (u64, u64) {
    let start = start(&range);
    let len = match range.end_bound() {
        Bound::Included(&end) => end.checked_sub(start).map_or(0, |len| len.saturating_add(1)),
        Bound::Excluded(&end) => end.saturating_sub(start),
        Bound::Unbounded => len.saturating_sub(start),
    };
    (start, len)
}

/// Converts to a length in memory, at most the largest possible one.
pub(super) fn in_memory(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use core::ops::Bound;

    use super::{asked, within};

    #[test]
    fn ranges_with_and_without_ends() {
        assert_eq!((within(.., 10), asked(.., 10)), (0..10, (0, 10)));
        assert_eq!((within(3..20, 10), asked(3..20, 10)), (3..10, (3, 17)));
        assert_eq!((within(3..=3, 10), asked(3..=3, 10)), (3..4, (3, 1)));
        assert_eq!((within(12.., 10), asked(12.., 10)), (12..12, (12, 0)));
        assert_eq!(asked(5..=u64::MAX, 10), (5, u64::MAX - 4));
        assert_eq!(asked(..=u64::MAX, 10), (0, u64::MAX));
        assert_eq!(asked((Bound::Excluded(1), Bound::Excluded(1)), 10), (2, 0));
    }
}
