//! Questions about where the pieces of a list lie.

use super::segment::Segment;
use super::state::IovState;

pub(super) fn first<S: Segment>(state: &IovState, segments: &[S]) -> usize {
    state.pieces(segments, usize::MAX).next().map_or(0, |piece| piece.len)
}

/// Address and length of every piece that is left.
fn spans<S: Segment>(state: &IovState, segments: &[S]) -> impl Iterator<Item = (usize, usize)> {
    state.pieces(segments, usize::MAX).map(|piece| (segments[piece.index].addr().wrapping_add(piece.offset), piece.len))
}

pub(super) fn is_aligned<S: Segment>(state: &IovState, segments: &[S], addr_mask: usize, len_mask: usize) -> bool {
    spans(state, segments).all(|(addr, len)| addr & addr_mask == 0 && len & len_mask == 0)
}

pub(super) fn alignment<S: Segment>(state: &IovState, segments: &[S]) -> usize {
    spans(state, segments).fold(0, |bits, (addr, len)| bits | addr | len)
}

pub(super) fn gap_alignment<S: Segment>(state: &IovState, segments: &[S]) -> usize {
    let mut ends = spans(state, segments).map(|(addr, len)| addr.wrapping_add(len));
    spans(state, segments).skip(1).fold(0, |bits, (addr, _)| bits | addr | ends.next().unwrap_or(0))
}

pub(super) fn npages<S: Segment>(state: &IovState, segments: &[S], max: usize) -> usize {
    let mut pages: usize = 0;
    for piece in state.pieces(segments, usize::MAX) {
        let segment = &segments[piece.index];
        let page = segment.page_size();
        let before = segment.addr().wrapping_add(piece.offset) % page;
        pages = pages.saturating_add((piece.len - 1 + before) / page + 1);
        if pages >= max {
            return max;
        }
    }
    pages
}
