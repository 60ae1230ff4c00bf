//! Reading several ranges at once.
//!
//! A batch is *planned* under the shared inode lock: what each range lacks. The missing parts of all of them are read
//! together, without a lock. Then each range is read as usual, from what was filled. So counts, errors and everything that
//! happens in between (evictions, truncations, a store that fails) are those of an ordinary read.
//!
//! A long part for which the cache would have to evict something is read *straight* into the caller's buffer, and what is
//! cached of the range is copied over it afterwards. If the file has changed meanwhile, the range is read as usual. The
//! second time that such a part is read within half of the limit, it enters the cache.
//!
//! The store fills memory of the arena. Of a mapped file it fills buffers, which are copied, under the lock, to the memory
//! that mappings show: there is one place for the bytes, and another thread may have brought in a folio there meanwhile.

#![forbid(unsafe_code)]

pub(crate) mod recent;

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use faultin::WriteView;
use faultin::iov::IovDest;
use recent::STRAIGHT;

use crate::bounce::Bounce;
use crate::copy::MayWait;
use crate::error::{Error, Partial};
use crate::folio::arena::Account;
use crate::folio::{Extent, Folio, Memory, Table};
use crate::inode::Inode;
use crate::mutation::Sound;
use crate::read;
use crate::stats::{Counters, Operation};
use crate::store::ReadRequest;

/// Maximum number of ranges that are planned at once.
const BATCH: usize = 64;

/// Cached parts of at most this number of bytes are read from the store, too, if they are between missing ones.
const GAP: u64 = STRAIGHT / 2;

/// The part of the limit that threads may fill at the same time, before they insert anything: a divisor.
const FILLING: usize = 4;

/// How a range is read.
#[derive(Debug)]
enum Plan {
    /// Nothing is missing, or it is not known what.
    Usual,
    /// These parts are filled first.
    Filled(Vec<Range<u64>>),
    /// These parts are read straight into the buffer. The generation of the table.
    Straight(Vec<Range<u64>>, u64),
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
    let Ok(table) = inode.table.shared() else {
        plans.push(Plan::Usual);
        return plans;
    };
    let share = inode.cache.share() as u64;
    let can_be_straight = inode.store().alignment() == 1;
    let mut to_fill = 0;
    for read in reads.iter().take(BATCH) {
        let range = read.pos..read.pos.saturating_add(read.bytes.len() as u64).min(table.size());
        let missing = table.missing(range, GAP);
        let bytes: u64 = missing.iter().map(|run| run.end - run.start).sum();
        if bytes == 0 {
            plans.push(Plan::Usual);
            continue;
        }
        if can_be_straight && bytes >= STRAIGHT && !inode.admits(&table, &missing, to_fill + bytes) {
            plans.push(Plan::Straight(missing, table.generation()));
            continue;
        }
        to_fill += bytes;
        if to_fill > share && !plans.is_empty() {
            break;
        }
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
            Plan::Straight(runs, generation) => {
                let is_whole =
                    answers.by_ref().take(runs.len()).fold(true, |whole, (_, result)| whole && result.is_ok());
                if is_whole { inode.overlay(read, &runs, generation) } else { None }
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
}

impl Inode {
    /// Copies what is valid of a range over bytes that were read from the store while the table had `generation`, of the
    /// parts `read_parts`. Returns the number of bytes of the range that the file has; `None` if the file has changed, or if
    /// bytes are in neither.
    fn overlay(&self, read: &mut ReadRequest<'_>, read_parts: &[Range<u64>], generation: u64) -> Option<usize> {
        let table = self.table.shared().ok()?;
        // Otherwise what was read may be older than what was there before, and has been evicted since.
        if table.generation() != generation {
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
        let cache = &self.cache;
        let has_room = cache.used() as u64 + bytes <= cache.limit() as u64;
        has_room || cache.recent.has_most(table, missing, cache.limit())
    }

    /// Reads parts of the file into the cache, all together: what is missing of them and has no folio yet, as far as there is
    /// memory for it without waiting. Returns the number of bytes. Failures are left to the reads that need the bytes.
    pub(crate) fn fill_many(&self, mut runs: Vec<Range<u64>>) -> u64 {
        runs.sort_by_key(|run| run.start);
        let all: u64 = runs.iter().map(|run| run.end - run.start + self.geometry.block as u64).sum();
        let Some(flight) = Flight::begin(self, all) else { return 0 };
        let Ok((mut parts, generation, end)) = self.new_parts(&runs, flight.bytes) else { return 0 };
        let mut ends = Vec::with_capacity(parts.len());
        let requests = parts.iter_mut().filter_map(|part| {
            let range = part.start..end.min(part.start + part.len() as u64);
            ends.push(range.clone());
            Some(ReadRequest::new(range.start, part.bytes_mut((range.end - range.start) as usize)?))
        });
        let requests: Vec<_> = requests.collect();
        if requests.is_empty() {
            return 0;
        }
        let answers = self.store().read_many(requests);
        let (mut table, mut filled) = (self.table.exclusive().ok(), 0);
        for ((part, range), (done, result)) in parts.into_iter().zip(ends).zip(answers) {
            let Some(locked) = &mut table else { break };
            let reached = range.start + done as u64;
            let until = if result.is_ok() { range.end } else { self.geometry.block_down(reached) };
            let is_copied = matches!(part.space, Space::Buffer(..));
            // As in `fill`.
            if until > range.start
                && locked.generation() == generation
                && locked.room(range.start, part.len() as u64) == part.len()
                && locked.find(range.start).is_none()
                && let Some(mut folio) = self.folio_of(part, locked, until)
            {
                folio.set_uptodate(range.start..until);
                filled += until - range.start;
                locked.insert(folio);
                if is_copied {
                    // Faults wait for the lock.
                    drop(table.take());
                    table = self.table.exclusive().ok();
                }
            }
        }
        filled
    }

    /// Makes room for at most `bytes` bytes of what the table has no folio for. Returns it, the generation of the table, and
    /// the end of the file's last block.
    fn new_parts(&self, runs: &[Range<u64>], bytes: usize) -> Result<(Vec<Part>, u64, u64), Error> {
        let mut table = self.table.exclusive()?;
        let (mut parts, mut left, mut done) = (Vec::new(), bytes, 0);
        let size = table.size();
        'runs: for run in runs {
            // The last folio may end after its run.
            let mut pos = run.start.max(done);
            let end = run.end.min(size);
            while pos < end {
                if let Some(key) = table.find(pos) {
                    // What is missing of a folio is filled by the read.
                    pos = table.get(key).end();
                    continue;
                }
                let start = self.geometry.block_down(pos);
                let want = (self.geometry.block_up(end) - start).min(left as u64);
                if want < self.geometry.block as u64 {
                    break 'runs;
                }
                let room = table.room(start, want);
                let Some(space) = self.new_space(&mut table, start, room)? else { break 'runs };
                let part = Part { start, space };
                (pos, done, left) = (start + part.len() as u64, start + part.len() as u64, left - part.len());
                parts.push(part);
            }
        }
        Ok((parts, table.generation(), self.end_of_blocks(&table)))
    }

    fn new_space(&self, table: &mut Table, start: u64, want: usize) -> Result<Option<Space>, Error> {
        if table.mapped().is_none() {
            return Ok(self.cache.memory_at_once(self, table, start, want)?.map(Space::Folio));
        }
        let buffer = |account: Account| Space::Buffer(Bounce::new(account.len(), self.store().alignment()), account);
        Ok(self.cache.account_at_once(self, table, want)?.map(buffer))
    }

    /// Makes the folio of a part that was filled up to `until`, where the table has none. `None` if the kernel has no memory
    /// for a mapped file.
    fn folio_of(&self, part: Part, table: &Table, until: u64) -> Option<Folio> {
        let Part { start, space } = part;
        match space {
            Space::Folio(memory) => Some(Folio::new(memory, start, self.geometry.block)),
            Space::Buffer(bytes, account) => {
                let extent = Extent::new(&table.mapped()?.backing, start, account);
                let mut folio = Folio::new(Memory::Extent(extent), start, self.geometry.block);
                folio.write_plain(start, bytes.bytes((until - start) as usize)).ok()?;
                Some(folio)
            }
        }
    }
}

/// A part of the file that the store fills without the lock, and then becomes a folio.
struct Part {
    start: u64,
    space: Space,
}

enum Space {
    /// The folio's memory.
    Folio(Memory),
    /// Of a mapped file: a buffer, and the part of the limit for the folio.
    Buffer(Bounce, Account),
}

impl Part {
    fn len(&self) -> usize {
        match &self.space {
            Space::Folio(memory) => memory.len(),
            Space::Buffer(_, account) => account.len(),
        }
    }

    /// Returns the first `len` bytes.
    fn bytes_mut(&mut self, len: usize) -> Option<&mut [u8]> {
        match &mut self.space {
            Space::Folio(memory) => Some(&mut memory.stable_mut()?[..len]),
            Space::Buffer(bytes, _) => Some(bytes.bytes_mut(len)),
        }
    }
}

/// A part of the limit that is being filled, and cannot be evicted meanwhile: bounded, so that other threads have the rest.
struct Flight<'a> {
    inode: &'a Inode,
    bytes: usize,
}

impl Flight<'_> {
    fn begin(inode: &Inode, want: u64) -> Option<Flight<'_>> {
        let most = inode.cache.limit() / FILLING;
        let bytes = usize::try_from(want).unwrap_or(usize::MAX).min(inode.cache.share());
        let more = |filling: usize| filling.checked_add(bytes).filter(|&all| all <= most);
        inode.cache.filling.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Flight { inode, bytes })
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.inode.cache.filling.fetch_sub(self.bytes, Relaxed);
    }
}
