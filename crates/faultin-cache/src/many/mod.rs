//! Reading several ranges at once.
//!
//! A batch is *planned* under the shared inode lock: what each range lacks. The missing parts of all of them are
//! [fetched](crate::fetch) together. Then each range is read as usual, from what was filled. So counts, errors and everything that
//! happens in between (evictions, truncations, a store that fails) are those of an ordinary read.
//!
//! A long part for which the cache would have to evict something is read *straight* into the caller's buffer, and what is
//! cached of the range is copied over it afterwards. If the range has changed meanwhile, it is read as usual. The
//! second time that such a part is read within half of the limit, it enters the cache.

#![forbid(unsafe_code)]

pub(crate) mod recent;

use std::ops::Range;
use std::sync::Arc;

use faultin::WriteView;
use faultin::iov::IovDest;
use recent::STRAIGHT;

use crate::copy::MayWait;
use crate::error::Partial;
use crate::folio::{Table, Watch};
use crate::inode::Inode;
use crate::mutation::Sound;
use crate::read;
use crate::stats::{Counters, Operation};
use crate::store::ReadRequest;

/// Maximum number of ranges that are planned at once.
const BATCH: usize = 64;

/// Cached parts of at most this number of bytes are read from the store, too, if they are between missing ones.
const GAP: u64 = STRAIGHT / 2;

/// How a range is read.
#[derive(Debug)]
enum Plan {
    /// Nothing is missing, or it is not known what.
    Usual,
    /// These parts are filled first.
    Filled(Vec<Range<u64>>),
    /// These parts are read straight into the buffer.
    Straight(Vec<Range<u64>>, Arc<Watch>),
}

/// Reads the ranges, and returns a result for each.
pub(crate) fn perform(
    inode: &Inode,
    counters: &Counters,
    reads: &mut [ReadRequest<'_>],
) -> Vec<Result<usize, Partial>> {
    let mut results = Vec::with_capacity(reads.len());
    let mut rest = reads;
    while !rest.is_empty() {
        let plans = plan(inode, rest);
        let (now, later) = rest.split_at_mut(plans.len());
        read_batch(inode, counters, now, plans, &mut results);
        rest = later;
    }
    results
}

/// Plans the first ranges, at least one.
fn plan(inode: &Inode, reads: &[ReadRequest<'_>]) -> Vec<Plan> {
    let mut plans = Vec::new();
    // A deadlock is an error of the usual read.
    let Ok(table) = inode.table().shared() else {
        plans.push(Plan::Usual);
        return plans;
    };
    let share = inode.cache().share() as u64;
    let can_be_straight = inode.store().alignment() == 1;
    let mut to_fill = 0;
    for read in reads.iter().take(BATCH) {
        let range = read.pos..read.pos.saturating_add(read.bytes.len() as u64).min(table.size());
        let missing = table.missing(range.clone(), GAP);
        let bytes: u64 = missing.iter().map(|run| run.end - run.start).sum();
        if bytes == 0 {
            plans.push(Plan::Usual);
            continue;
        }
        if can_be_straight && bytes >= STRAIGHT && !inode.admits(&table, &missing, to_fill + bytes) {
            plans.push(Plan::Straight(missing, table.watch(range)));
            continue;
        }
        to_fill += bytes;
        if to_fill > share && !plans.is_empty() {
            break;
        }
        table.want(range);
        plans.push(Plan::Filled(missing));
    }
    plans
}

fn read_batch(
    inode: &Inode,
    counters: &Counters,
    reads: &mut [ReadRequest<'_>],
    plans: Vec<Plan>,
    results: &mut Vec<Result<usize, Partial>>,
) {
    // The wait is that of the first range that has needed it.
    let mut waited = Some(counters.read());
    let begun = counters.read();
    let filled = |plan: &Plan| match plan {
        Plan::Filled(runs) => runs.clone(),
        _ => Vec::new(),
    };
    let to_fill: Vec<_> = plans.iter().flat_map(filled).collect();
    if !to_fill.is_empty() {
        inode.fill_many(to_fill);
    }
    let mut requests = Vec::new();
    for (read, plan) in reads.iter_mut().zip(&plans) {
        if let Plan::Straight(runs, _) = plan {
            split(read, runs, &mut requests);
        }
    }
    let answers = if requests.is_empty() { Vec::new() } else { inode.store().read_many(requests) };
    let mut answers = answers.into_iter();
    for (read, plan) in reads.iter_mut().zip(plans) {
        let operation = match plan {
            Plan::Usual => counters.read(),
            _ => waited.take().unwrap_or_else(|| begun.another()),
        };
        let straight = match plan {
            Plan::Straight(runs, watch) => {
                let is_whole =
                    answers.by_ref().take(runs.len()).fold(true, |whole, (_, result)| whole && result.is_ok());
                if is_whole { inode.overlay(read, &runs, &watch) } else { None }
            }
            _ => None,
        };
        results.push(match straight {
            Some(done) => {
                operation.count(done, true);
                Ok(done)
            }
            None => usual(inode, read, operation),
        });
    }
}

fn usual(inode: &Inode, read: &mut ReadRequest<'_>, operation: Operation<'_>) -> Result<usize, Partial> {
    let mut to = IovDest::<WriteView<'_>>::one(&mut *read.bytes);
    read::perform::<_, MayWait>(inode, &mut to, read.pos, operation, Sound, &mut ())
}

/// Makes a request for each part of a range.
fn split<'a>(read: &'a mut ReadRequest<'_>, runs: &[Range<u64>], requests: &mut Vec<ReadRequest<'a>>) {
    let mut at = read.pos;
    let mut rest = &mut *read.bytes;
    for run in runs {
        let (_, from) = rest.split_at_mut((run.start - at) as usize);
        let (part, later) = from.split_at_mut((run.end - run.start) as usize);
        requests.push(ReadRequest::new(run.start, part));
        (rest, at) = (later, run.end);
    }
}

impl Table {
    /// Returns the parts of a range that are not valid, as far as the file has it. Valid parts of at most `gap` bytes between
    /// them are included.
    pub(crate) fn missing(&self, range: Range<u64>, gap: u64) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut add = |run: Range<u64>| match missing.last_mut() {
            _ if run.is_empty() => {}
            Some(last) if run.start - last.end <= gap => last.end = run.end,
            _ => missing.push(run),
        };
        let (mut at, end) = (range.start, range.end.min(self.size()));
        self.valid_runs(range, |_, run| {
            add(at..run.start);
            at = run.end;
            true
        });
        add(at..end.max(at));
        missing
    }

    /// Notes that what is valid of a range is about to be read.
    pub(crate) fn want(&self, range: Range<u64>) {
        self.valid_runs(range, |key, _| {
            self.get(key).want();
            true
        });
    }
}

impl Inode {
    /// Copies what is valid of a range over bytes that were read from the store while it was watched, of the parts `read_parts`.
    /// Returns the number of bytes of the range that the file has; `None` if these have changed, or if bytes are in neither.
    fn overlay(&self, read: &mut ReadRequest<'_>, read_parts: &[Range<u64>], watch: &Watch) -> Option<usize> {
        let table = self.table().shared().ok()?;
        // Otherwise what was read may be older than what was there before, and has been evicted since.
        if watch.is_stale() {
            return None;
        }
        let was_read = |gap: Range<u64>| {
            gap.is_empty() || read_parts.iter().any(|part| part.start <= gap.start && gap.end <= part.end)
        };
        let (start, len) = (read.pos, read.bytes.len() as u64);
        let end = start.saturating_add(len).min(table.size()).max(start);
        let (mut at, mut is_whole) = (start, true);
        table.valid_runs(start..end, |key, run| {
            let folio = table.get(key);
            folio.touch();
            let within = (run.start - start) as usize..(run.end - start) as usize;
            is_whole = was_read(at..run.start) && folio.read_to(run.start, &mut read.bytes[within]).is_ok();
            at = run.end;
            is_whole
        });
        (is_whole && was_read(at..end)).then_some((end - start) as usize)
    }

    /// Returns whether `missing` parts are to enter the cache, where `bytes` bytes are about to: if there is room for them,
    /// or most of them were missing before, not long ago.
    fn admits(&self, table: &Table, missing: &[Range<u64>], bytes: u64) -> bool {
        let cache = &self.cache();
        let has_room = cache.used() as u64 + bytes <= cache.limit() as u64;
        has_room || cache.recent.has_most(table, missing, cache.limit())
    }
}
