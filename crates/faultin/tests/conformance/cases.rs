//! The table: layouts × offsets × lengths, in units of pages.

use super::layout::{Backend, Kind};

const LAYOUTS: [&[Kind]; 15] = {
    use Kind::{Good, NoAccess, PastEnd, ReadOnly, Unmapped};
    [
        &[Good],
        &[Good, Good, Good],
        &[Good, NoAccess],
        &[NoAccess, Good],
        &[Good, Unmapped],
        &[Unmapped, Good],
        &[Good, Unmapped, Good],
        &[ReadOnly, ReadOnly],
        &[Good, ReadOnly, Good],
        &[ReadOnly, NoAccess, Good],
        &[Good, PastEnd],
        &[PastEnd, Good],
        &[Good, Good, PastEnd],
        &[Good, NoAccess, Unmapped],
        &[Unmapped, PastEnd, NoAccess],
    ]
};

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kinds: &'static [Kind],
    pub offset: usize,
    pub len: usize,
}

/// Runs `check` on the memory of every layout.
pub fn layouts<B: Backend>(backend: &B, mut check: impl FnMut(&B::Memory, &'static [Kind])) {
    for kinds in LAYOUTS {
        check(&backend.memory(kinds), kinds);
    }
}

/// Bytes around each page's boundaries and in its middle, within `pages` pages.
pub fn offsets(pages: usize, page: usize) -> Vec<usize> {
    let around = |edge: usize| [edge.wrapping_sub(1), edge, edge + 1, edge + page / 2];
    let mut offsets: Vec<usize> = (0..=pages).flat_map(|n| around(n * page)).filter(|o| *o < pages * page).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// Runs `check` on every layout, offset and length of at least one byte; the memory is a new one for each layout.
pub fn ranges<B: Backend>(backend: &B, mut check: impl FnMut(&B::Memory, Case)) {
    let page = backend.page_size();
    let lens = [1, 2, 3, page / 2, page - 1, page, page + 1, 2 * page, 3 * page];
    layouts(backend, |memory, kinds| {
        for offset in offsets(kinds.len(), page) {
            let rest = kinds.len() * page - offset;
            let mut lens: Vec<usize> = lens.into_iter().chain([rest]).filter(|len| (1..=rest).contains(len)).collect();
            lens.sort_unstable();
            lens.dedup();
            for len in lens {
                check(memory, Case { kinds, offset, len });
            }
        }
    });
}
