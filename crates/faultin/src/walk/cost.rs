//! The cost of `MADV_POPULATE_READ` on this system where pages are resident, measured once; [`meter`](super::meter)
//! compares its measurements with it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::cpu::ticks;
use crate::page_size;

/// Both fields are in ticks of [`ticks`].
#[derive(Clone, Copy)]
pub(super) struct PopulateCost {
    /// A call for one resident page.
    pub call: u64,
    /// Each further resident page, times 16.
    pub page: u64,
}

/// Number of pages measured beyond the first.
const MORE: usize = 16;

/// Number of calls, of which the fastest counts.
const TRIES: usize = 5;

impl PopulateCost {
    /// Returns this system's costs, measured by the first caller.
    pub(super) fn here() -> Self {
        static CALL: AtomicU64 = AtomicU64::new(0);
        static PAGE: AtomicU64 = AtomicU64::new(0);
        if CALL.load(Ordering::Relaxed) == 0 {
            let cost = measure().unwrap_or(PopulateCost { call: 1000, page: 16 * 100 });
            PAGE.store(cost.page.max(1), Ordering::Relaxed);
            CALL.store(cost.call.max(1), Ordering::Relaxed);
        }
        // A second thread that measures at the same time stores about the same.
        PopulateCost { call: CALL.load(Ordering::Relaxed), page: PAGE.load(Ordering::Relaxed).max(1) }
    }
}

fn measure() -> Option<PopulateCost> {
    let len = (1 + MORE) * page_size();
    // SAFETY: a new private mapping, used and removed here only.
    unsafe {
        let map = libc::mmap(
            core::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if map == libc::MAP_FAILED {
            return None;
        }
        libc::madvise(map, len, libc::MADV_NOHUGEPAGE);
        let populate = |len: usize| {
            let start = ticks();
            let done = libc::madvise(map, len, libc::MADV_POPULATE_WRITE) == 0;
            done.then(|| ticks().wrapping_sub(start))
        };
        let fastest = |len: usize| (0..TRIES).filter_map(|_| populate(len)).min();
        // The first call makes the pages resident.
        let cost = populate(len).and_then(|_| {
            let (one, all) = (fastest(page_size())?, fastest(len)?);
            Some(PopulateCost { call: one, page: all.saturating_sub(one) * 16 / MORE as u64 })
        });
        libc::munmap(map, len);
        cost
    }
}
