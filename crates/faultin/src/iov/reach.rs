//! The number of bytes on a few pages: for loops that bound what they fault in by what can stay resident.

use super::segment::Segment;
use super::state::IovState;
use super::{IovDest, IovSource};
use crate::memory::{ReadMemory, WriteMemory};

impl<M: ReadMemory> IovSource<'_, '_, M> {
    /// Counts the next bytes that are on at most `pages` pages, at most `limit` bytes. Each segment counts its own pages,
    /// also a page that it shares with the previous segment; plain slices count none.
    pub fn reach(&self, pages: usize, limit: usize) -> usize {
        reach(&self.state, self.list.as_ref(), pages, limit)
    }
}

impl<M: WriteMemory> IovDest<'_, '_, M> {
    /// Counts the next bytes that are on at most `pages` pages, at most `limit` bytes. Each segment counts its own pages,
    /// also a page that it shares with the previous segment; plain slices count none.
    pub fn reach(&self, pages: usize, limit: usize) -> usize {
        reach(&self.state, self.list.as_ref(), pages, limit)
    }
}

fn reach<S: Segment>(state: &IovState, segments: &[S], mut pages: usize, limit: usize) -> usize {
    let mut bytes = 0;
    for piece in state.pieces(segments, limit) {
        let segment = &segments[piece.index];
        if segment.may_fault() {
            let page = segment.page_size();
            let before = segment.addr().wrapping_add(piece.offset) % page;
            let most = pages.saturating_mul(page).saturating_sub(before);
            if piece.len > most {
                return bytes + most;
            }
            pages -= (before + piece.len).div_ceil(page);
        }
        bytes += piece.len;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{IovDest, IovSource};
    use crate::iov::{ReadSegment, WriteSegment};
    use crate::{ReadView, WriteView, page_size};

    #[test]
    fn pages_are_counted_by_segment() {
        let page = page_size();
        let mut memory = vec![0_u8; 5 * page];
        let start = memory.as_ptr().addr().next_multiple_of(page) - memory.as_ptr().addr();
        let plain = vec![0; 3 * page];
        // SAFETY: the memory is plain, and nothing else accesses it.
        let view = unsafe { WriteView::new(memory.as_mut_ptr().wrapping_add(start), 4 * page) }.unwrap();
        let read = view.as_read();
        let parts: [ReadSegment<'_, ReadView<'_>>; 4] = [
            read.subslice(page - 10..page + 10).unwrap().into(),
            plain[..].into(),
            read.subslice(page + 10..page + 20).unwrap().into(),
            read.subslice(2 * page..4 * page).unwrap().into(),
        ];
        let iov = IovSource::new(&parts);
        let reached = [0, 1, 2, 3, 4, 5, 6].map(|pages| iov.reach(pages, usize::MAX));
        let before = 20 + plain.len();
        assert_eq!(reached, [0, 10, before, before + 10, before + 10 + page, iov.count(), iov.count()]);
        assert_eq!([iov.reach(6, 15), iov.reach(1, 0)], [15, 0]);
        let mut parts: [WriteSegment<'_, WriteView<'_>>; 1] = [view.subslice(10..3 * page).unwrap().into()];
        assert_eq!(IovDest::new(&mut parts).reach(2, usize::MAX), 2 * page - 10);
    }
}
