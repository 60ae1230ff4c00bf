//! Chooses the way through a range block by block, by the cost of the blocks before.
//!
//! * The first page was resident: touch, in growing blocks.
//! * It was not: touch one more. If that faults as well, a fault does not bring in neighbours (as it does for files, and
//!   for huge pages): populate.
//! * Where huge pages are possible and worth it, populate a few pages. If that costs no more than one page would, they are
//!   one huge page: populate everything, and trust the kernel, because touching costs many times more.
//! * From then on the cheaper of both, by the last block that went each way. Touching is tried again where populating costs
//!   as much as for resident pages; populating is tried where touching costs more than that.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::cost::PopulateCost;
use super::populate::can_populate;
use crate::arch;

/// The way through a block of pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Touched one by one.
    Touch,
    /// Populated by the kernel.
    Populate,
}

/// Number of pages in the first block, and the factor by which blocks grow.
const FIRST_BLOCK: usize = 16;
const GROWTH: usize = 4;
const HUGE_GROWTH: usize = 64;

/// Number of pages in the largest block: 64 MiB of 4 KiB pages, so that a signal waits no longer than such a call takes.
const LARGEST_BLOCK: usize = 1 << 14;

/// The number of pages from which a test for huge pages is worth its time: at once where the first page was not resident,
/// and only for many more where touching them all takes little longer than the test.
const LOOK_IF_COLD: usize = 1 << 9;
const LOOK_IF_WARM: usize = 3 << 10;

/// Start of the last range of huge pages: a range that begins there again is assumed to have huge pages without a test,
/// until that proves wrong, which costs one block.
static LAST_HUGE: AtomicUsize = AtomicUsize::new(0);

/// The way through one range: see the module.
pub(super) struct Meter {
    stage: Stage,
    start: usize,
    /// Number of pages after the first.
    count: usize,
    may_populate: bool,
    /// Whether populating is the better guess as long as nothing is measured.
    cold: bool,
    /// Ticks per page of the last block that went each way, times 16.
    touch: Option<u64>,
    populate: Option<u64>,
    /// Number of pages in the next block.
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first page was cold: touches one more.
    Second,
    /// Populates a few pages, to see whether they are huge.
    Look,
    /// They are huge: populates everything.
    Huge,
    /// Takes the cheaper way.
    Cheaper,
}

impl Meter {
    pub(super) fn new(start: usize, count: usize, first: u64) -> Self {
        let may_populate = can_populate();
        let stage = if count >= LOOK_IF_COLD && LAST_HUGE.load(Ordering::Relaxed) == start {
            Stage::Huge
        } else if first > arch::cpu::cold_ticks() {
            Stage::Second
        } else if count >= LOOK_IF_WARM {
            Stage::Look
        } else {
            Stage::Cheaper
        };
        let size = if stage == Stage::Huge { LARGEST_BLOCK } else { FIRST_BLOCK };
        Meter { stage, start, count, may_populate, cold: false, touch: None, populate: None, size }
    }

    /// Returns the way and the size of the next block.
    pub(super) fn next(&mut self, left: usize) -> (Way, usize) {
        if !self.may_populate {
            return (Way::Touch, left);
        }
        match self.stage {
            Stage::Second => (Way::Touch, 1),
            Stage::Look => (Way::Populate, FIRST_BLOCK),
            Stage::Huge => (Way::Populate, self.size),
            Stage::Cheaper => (self.cheaper(), self.size),
        }
    }

    /// Never populates again: the kernel's answers are of no use for this memory.
    pub(super) fn never_populate(&mut self) {
        self.may_populate = false;
    }

    fn cheaper(&self) -> Way {
        let populate = match (self.touch, self.populate) {
            (None, None) => self.cold,
            (Some(touch), Some(populate)) => populate < touch,
            // Well above the cost of populating resident pages.
            (Some(touch), None) => touch > 2 * PopulateCost::here().page,
            // Well above, too: populating did more than find resident pages.
            (None, Some(populate)) => populate > 2 * PopulateCost::here().page,
        };
        if populate { Way::Populate } else { Way::Touch }
    }

    pub(super) fn took(&mut self, way: Way, pages: usize, ticks: u64) {
        match self.stage {
            Stage::Second => {
                self.cold = ticks > arch::cpu::cold_ticks();
                let look = !self.cold && self.count >= LOOK_IF_COLD;
                self.stage = if look { Stage::Look } else { Stage::Cheaper };
            }
            Stage::Look | Stage::Huge => {
                // As one page would, or at most one page more for every huge one.
                let cost = PopulateCost::here();
                let huge = ticks < cost.call + cost.call / 2 + pages as u64 * cost.page / 16 / 8;
                LAST_HUGE.store(if huge { self.start } else { 0 }, Ordering::Relaxed);
                self.stage = if huge { Stage::Huge } else { Stage::Cheaper };
                self.size = if huge { (self.size * HUGE_GROWTH).min(LARGEST_BLOCK) } else { FIRST_BLOCK };
            }
            Stage::Cheaper => {
                let rate = Some(ticks * 16 / pages as u64);
                match way {
                    Way::Touch => self.touch = rate,
                    Way::Populate => self.populate = rate,
                }
                self.size = (self.size * GROWTH).min(LARGEST_BLOCK);
            }
        }
    }
}
