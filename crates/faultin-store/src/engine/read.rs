//! Reads of ranges: in the thread that wants them, or in a task.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use faultin_cache::pager::without_signals;
use tokio::time::Instant;

use super::fly::read_block;
use super::plan::{Join, Request, Round};
use super::{BATCH, Engine, LOOK};
use crate::disk::Disk;
use crate::error::{Cause, Error};
use crate::flight::table::Place;
use crate::flight::{Failure, Terms, Waiter};
use crate::pinned::Pinned;
use crate::stats::{add, nanoseconds};

/// What the accesses of a handle may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) deadline: Duration,
    pub(crate) retries: u32,
    pub(crate) reads_ahead: bool,
}

/// A range that is wanted.
#[derive(Debug)]
pub(crate) struct Want<'b> {
    pos: u64,
    buf: &'b mut [u8],
    /// The first byte that cannot be had, and why.
    error: Option<(u64, Failure)>,
}

impl<'b> Want<'b> {
    /// Wants the bytes from `pos` on, as far as the object has them.
    pub(crate) fn new(object: &Pinned, pos: u64, buf: &'b mut [u8]) -> Want<'b> {
        let left = usize::try_from(object.len().saturating_sub(pos)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        Want { pos, buf: &mut buf[..len], error: None }
    }

    fn range(&self) -> Range<u64> {
        self.pos..self.pos + self.buf.len() as u64
    }

    /// Returns the block that it wants, if that is a single one, as a whole.
    fn block(&self, object: &Pinned) -> Option<u64> {
        let block = self.pos / object.block;
        (!self.buf.is_empty() && self.range() == object.bytes_of(&(block..block + 1))).then_some(block)
    }

    /// Returns whether it wants some of these bytes, and has them if they can be had.
    fn has_use_for(&self, bytes: &Range<u64>) -> bool {
        let range = self.range();
        let end = self.error.as_ref().map_or(range.end, |(at, _)| *at);
        range.start < bytes.end && bytes.start < end
    }

    /// Copies what a block has of it. Returns the number of bytes.
    fn take(&mut self, at: u64, block: &[u8]) -> usize {
        let range = self.range();
        let (start, end) = (at.max(range.start), (at + block.len() as u64).min(range.end));
        if start >= end {
            return 0;
        }
        let part = &block[(start - at) as usize..(end - at) as usize];
        self.buf[(start - range.start) as usize..(end - range.start) as usize].copy_from_slice(part);
        part.len()
    }

    fn fail(&mut self, bytes: &Range<u64>, failure: &Failure) {
        let range = self.range();
        let at = bytes.start.max(range.start);
        if at < bytes.end.min(range.end) && self.error.as_ref().is_none_or(|(first, _)| at < *first) {
            self.error = Some((at, failure.clone()));
        }
    }
}

/// A read of some ranges.
struct Reading<'r, 'b> {
    engine: &'r Arc<Engine>,
    object: &'r Arc<Pinned>,
    wants: &'r mut [Want<'b>],
    access: Access,
    terms: Terms,
    begun: Instant,
    waiter: Arc<Waiter>,
    /// Whether the disk tier is asked for blocks before the store is.
    asks_disk: bool,
    /// The blocks that come after those of the current batch, in ascending order: a batch is what memory has room for.
    batches: std::vec::IntoIter<Vec<u64>>,
    /// What is left to be planned of the current batch, and whether none of it was before.
    todo: Vec<u64>,
    is_first: bool,
    asking: Option<Asking>,
    /// What was planned, and has not arrived.
    round: Option<Round>,
}

/// A round in which the disk tier is asked for blocks, one after the other.
struct Asking {
    /// What memory has had.
    round: Round,
    accesses: Vec<Range<u64>>,
    /// The blocks that it has not been asked for yet.
    absent: std::vec::IntoIter<u64>,
    /// Those that it does not have.
    missing: Vec<u64>,
    /// How long it may still be waited for.
    patience: Duration,
}

impl Engine {
    /// Reads ranges, in the thread that wants them, which may wait until the deadline. Returns a result for each: the number
    /// of bytes, or why there are none.
    ///
    /// Handlers of signals run only while it waits, where it holds no lock: one may read a mapping, whose pager needs the
    /// same locks.
    pub(crate) fn read(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        access: Access,
        wants: &mut [Want<'_>],
    ) -> Vec<Result<usize, Error>> {
        if !self.is_ours() {
            let closed = |want: &Want<'_>| Err(object.error(want.range(), 0, Cause::Closed));
            return wants.iter().map(closed).collect();
        }
        let begun = Instant::now();
        let at_hand = match &mut *wants {
            [want] => self.read_block_on_disk(object, access, want),
            _ => None,
        };
        if let Some(Some(len)) = at_hand {
            return Vec::from([Ok(len)]);
        }
        let mut reading = Reading::new(self, object, access, wants, begun);
        // It was asked just now.
        reading.asks_disk &= at_hand.is_none();
        loop {
            // As a whole: each change of the signals that are blocked is a system call.
            let step = without_signals(|| reading.advance().ok_or_else(|| reading.results()));
            let until = match step {
                Ok(until) => until,
                Err(results) => return results,
            };
            let begun = Instant::now();
            reading.waiter.wait(until);
            add(&object.counters.waited, nanoseconds(begun.elapsed()));
        }
    }

    /// Reads ranges as [`read`](Self::read) does, in a task.
    #[allow(dead_code, reason = "for simulations")]
    pub(crate) async fn read_async(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        access: Access,
        wants: &mut [Want<'_>],
    ) -> Vec<Result<usize, Error>> {
        let mut reading = Reading::new(self, object, access, wants, Instant::now());
        while let Some(until) = reading.advance() {
            let waiter = Arc::clone(&reading.waiter);
            waiter.wait_async(until).await;
        }
        reading.results()
    }

    /// Reads a block from the disk tier to a range that wants all of it, and nothing else: as [`Reading`] does, without what
    /// only waiting for requests takes, a twentieth of the time. Returns `None` if the disk tier was not asked, and otherwise
    /// the number of bytes that it has returned.
    fn read_block_on_disk(&self, object: &Pinned, access: Access, want: &mut Want<'_>) -> Option<Option<usize>> {
        let (disk, block) = (self.disk.as_ref()?, want.block(object)?);
        let key = object.disk_key(block)?;
        without_signals(|| {
            if self.table.lock().has((object.number, block)) {
                return None;
            }
            let len = disk.get_within(&key, want.buf, patience(disk, access.deadline));
            if let Some(len) = len {
                let counters = &object.counters;
                add(&counters.reads, 1);
                add(&counters.disk_hits, 1);
                add(&counters.read, len as u64);
            }
            Some(len)
        })
    }

    /// Copies bytes from `pos` on that are in memory. Returns their number.
    pub(crate) fn read_now(&self, object: &Pinned, pos: u64, buf: &mut [u8]) -> usize {
        without_signals(|| self.read_ready(object, pos, buf))
    }

    fn read_ready(&self, object: &Pinned, pos: u64, buf: &mut [u8]) -> usize {
        let mut want = Want::new(object, pos, buf);
        let mut done = 0;
        let mut block = pos / object.block;
        while done < want.buf.len() && self.is_ours() {
            let Some(table) = self.table.try_lock() else { break };
            let id = (object.number, block);
            let bytes = match table.find(id) {
                Place::Ready(bytes) => bytes,
                Place::Flying(flight) => match flight.get(block) {
                    Some(Ok(bytes)) => bytes,
                    _ => break,
                },
                Place::Nowhere => break,
            };
            drop(table);
            let taken = want.take(block * object.block, &bytes);
            done += taken;
            if let Some(mut table) = self.table.try_lock() {
                table.eat(id, u32::try_from(taken).unwrap_or(u32::MAX));
            }
            add(&object.counters.memory_hits, 1);
            block += 1;
        }
        done
    }
}

impl<'r, 'b> Reading<'r, 'b> {
    /// Makes one that began at `begun`.
    fn new(
        engine: &'r Arc<Engine>,
        object: &'r Arc<Pinned>,
        access: Access,
        wants: &'r mut [Want<'b>],
        begun: Instant,
    ) -> Self {
        add(&object.counters.reads, wants.len() as u64);
        let mut batches = batches(object, wants, (engine.pool.limit() / BATCH).max(1)).into_iter();
        Reading {
            engine,
            object,
            todo: batches.next().unwrap_or_default(),
            is_first: true,
            batches,
            wants,
            access,
            terms: Terms { deadline: begun + access.deadline, time: access.deadline, retries: access.retries },
            begun,
            waiter: Waiter::new(),
            asks_disk: engine.disk.is_some() && object.key.is_some(),
            asking: None,
            round: None,
        }
    }

    /// Does what need not be waited for, of one batch. Returns until when to wait before it is called again; `None` once all
    /// is done.
    fn advance(&mut self) -> Option<Instant> {
        loop {
            let mut round = match self.round.take() {
                Some(round) => round,
                None => {
                    let asking = self.asking.take().unwrap_or_else(|| self.begin());
                    match self.ask(asking) {
                        Some(round) => round,
                        None => return Some(self.begun),
                    }
                }
            };
            if let Some(until) = self.waits_until(&mut round) {
                self.round = Some(round);
                return Some(until);
            }
            self.todo = self.rest(round);
            if self.todo.is_empty() {
                while self.todo.is_empty() {
                    let batch = self.batches.next()?;
                    self.todo = self.of_use(batch);
                }
                self.is_first = true;
                // At once: signals are not to be blocked for long.
                return Some(self.begun);
            }
        }
    }

    /// Returns the blocks that a range still wants: none behind its first byte that cannot be had.
    fn of_use(&self, mut blocks: Vec<u64>) -> Vec<u64> {
        if self.wants.iter().any(|want| want.error.is_some()) {
            let bytes_of = |block| self.object.bytes_of(&(block..block + 1));
            blocks.retain(|&block| self.wants.iter().any(|want| want.has_use_for(&bytes_of(block))));
        }
        blocks
    }

    /// Begins a round: copies what is in memory, and joins or begins flights for the rest, unless the disk tier is asked for it first.
    fn begin(&mut self) -> Asking {
        let todo = std::mem::take(&mut self.todo);
        let is_first = std::mem::take(&mut self.is_first);
        let (low, high) = (todo.first().copied().unwrap_or(0), todo.last().copied().unwrap_or(0));
        let accesses = if is_first { self.accesses(low..high + 1) } else { Vec::new() };
        let disk = self.engine.disk.as_ref().filter(|_| self.asks_disk && is_first);
        let left = || self.terms.deadline.saturating_duration_since(Instant::now());
        let patience = disk.map_or(Duration::ZERO, |disk| patience(disk, left()));
        let mut round = self.plan(&todo, &accesses, disk.is_none());
        for (block, bytes) in std::mem::take(&mut round.ready) {
            self.take(block, &bytes);
        }
        let absent = std::mem::take(&mut round.absent).into_iter();
        Asking { round, accesses, absent, missing: Vec::new(), patience }
    }

    fn plan(&self, blocks: &[u64], accesses: &[Range<u64>], may_request: bool) -> Round {
        let reads_ahead = self.access.reads_ahead && self.engine.options.read_ahead;
        let request = Request { waiter: &self.waiter, terms: self.terms, blocks, accesses, may_request, reads_ahead };
        self.engine.plan(self.object, &request)
    }

    /// Copies what is on disk, and joins or begins flights for the rest. `None` if it is not done: it has waited for the disk, and handlers
    /// of signals may run before it does again.
    fn ask(&mut self, mut asking: Asking) -> Option<Round> {
        while let Some(block) = asking.absent.next() {
            let before = asking.patience;
            if !self.take_from_disk(block, &mut asking.patience) {
                asking.missing.push(block);
            }
            if asking.patience < before {
                self.asking = Some(asking);
                return None;
            }
        }
        let Asking { mut round, accesses, missing, .. } = asking;
        if !missing.is_empty() {
            // The streams learn of it as of a miss.
            let missed: Vec<Range<u64>> =
                accesses.iter().filter(|run| missing.iter().any(|block| run.contains(block))).cloned().collect();
            let mut second = self.plan(&missing, &missed, true);
            for (block, bytes) in std::mem::take(&mut second.ready) {
                self.take(block, &bytes);
            }
            round.joins.append(&mut second.joins);
            if let Some((blocks, cause)) = second.failed {
                round.fail(blocks, cause);
            }
            round.looks = !second.later.is_empty();
            round.later.append(&mut second.later);
        }
        if let Some((blocks, cause)) = round.failed.take() {
            for block in blocks {
                self.fail(block, &Failure { cause: Box::new(cause.clone()), attempts: 0, blocks: block..block + 1 });
            }
        }
        Some(round)
    }

    /// Returns the runs of blocks that are wanted, as far as they are within a batch. Ranges that one request has are one access:
    /// a cache that lacks a part of its file in several places wants that once, and does not scan.
    fn accesses(&self, batch: Range<u64>) -> Vec<Range<u64>> {
        let gap = self.engine.options.gap / self.object.block;
        let mut accesses: Vec<Range<u64>> = Vec::new();
        for want in self.wants.iter().filter(|want| !want.buf.is_empty()) {
            let blocks = self.object.blocks_of(&want.range());
            let run = blocks.start.max(batch.start)..blocks.end.min(batch.end);
            match accesses.last_mut() {
                _ if run.is_empty() => {}
                Some(last) if (last.start..=last.end + gap).contains(&run.start) => last.end = last.end.max(run.end),
                _ => accesses.push(run),
            }
        }
        accesses
    }

    /// Copies what has arrived. Returns until when to wait for more; `None` if there is no more to wait for.
    fn waits_until(&mut self, round: &mut Round) -> Option<Instant> {
        if round.joins.is_empty() && !round.looks {
            return None;
        }
        let now = Instant::now();
        for join in &mut round.joins {
            let flight = Arc::clone(&join.flight);
            join.wanted.retain(|&block| match flight.get(block) {
                None => true,
                Some(Ok(bytes)) => {
                    self.take(block, &bytes);
                    false
                }
                // The deadline of another access, which it had begun with.
                Some(Err(failure)) if matches!(*failure.cause, Cause::Deadline { .. }) && now < self.terms.deadline => {
                    round.anew.push(block);
                    false
                }
                Some(Err(failure)) => {
                    self.fail(block, &failure);
                    false
                }
            });
        }
        // A flight that is over would keep its blocks in memory, for which the flights that are left may wait.
        round.joins.retain(|join| !join.wanted.is_empty());
        if now >= self.terms.deadline {
            return None;
        }
        if !round.joins.is_empty() {
            return Some(self.terms.deadline);
        }
        // Once, before the next round.
        let looks = std::mem::take(&mut round.looks);
        looks.then(|| (now + LOOK).min(self.terms.deadline))
    }

    /// Leaves the flights. Returns the blocks that have to be requested anew.
    fn rest(&mut self, mut round: Round) -> Vec<u64> {
        for join in &round.joins {
            if !join.wanted.is_empty() {
                self.late(join);
            }
        }
        let mut rest = std::mem::take(&mut round.later);
        rest.append(&mut round.anew);
        if !rest.is_empty() && Instant::now() >= self.terms.deadline {
            self.give_up(std::mem::take(&mut rest));
        }
        rest.sort_unstable();
        self.of_use(rest)
    }

    /// Fails what a flight has not delivered before the deadline.
    fn late(&mut self, join: &Join) {
        let (attempts, last) = join.flight.so_far();
        let after = self.terms.deadline.saturating_duration_since(self.begun);
        let cause = Cause::Deadline { after, last: last.map(Box::new) };
        if attempts > 0 {
            // A probe began later than the access that became it.
            let begun = if join.flight.is_probe { join.flight.begun } else { self.begun };
            self.engine.down(self.object, &join.flight, begun, &cause);
        }
        let failure = Failure { cause: Box::new(cause), attempts, blocks: join.flight.blocks.clone() };
        for &block in &join.wanted {
            self.fail(block, &failure);
        }
    }

    fn give_up(&mut self, blocks: Vec<u64>) {
        let after = self.terms.deadline.saturating_duration_since(self.begun);
        for block in blocks {
            let cause = match self.object.backend.health.is_down(self.begun, self.terms.deadline, self.terms.retries) {
                Some(down) => down,
                None => Cause::Deadline { after, last: None },
            };
            self.fail(block, &Failure { cause: Box::new(cause), attempts: 0, blocks: block..block + 1 });
        }
    }

    /// Copies a block to the ranges that want it.
    fn take(&mut self, block: u64, bytes: &[u8]) {
        let at = block * self.object.block;
        let taken: usize = self.wants.iter_mut().map(|want| want.take(at, bytes)).sum();
        let evicted = {
            let mut table = self.engine.table.lock();
            table.eat((self.object.number, block), u32::try_from(taken).unwrap_or(u32::MAX));
            self.engine.make_room(&mut table)
        };
        drop(evicted);
    }

    /// Reads a block from the disk tier, straight to the range that wants all of it. Returns whether it is there.
    fn take_from_disk(&mut self, block: u64, patience: &mut Duration) -> bool {
        let (Some(disk), Some(key)) = (&self.engine.disk, self.object.disk_key(block)) else { return false };
        let overlaps = |want: &&mut Want<'_>| {
            let range = want.range();
            range.start < key.range.end && key.range.start < range.end
        };
        let mut all = self.wants.iter_mut().filter(overlaps);
        if let (Some(want), None) = (all.next(), all.next())
            && want.pos <= key.range.start
            && key.range.end <= want.range().end
        {
            let within = (key.range.start - want.pos) as usize..(key.range.end - want.pos) as usize;
            let is_there = disk.get_spending(&key, &mut want.buf[within.clone()], patience) == Some(within.len());
            add(&self.object.counters.disk_hits, u64::from(is_there));
            return is_there;
        }
        let pool = &self.engine.pool;
        let room = pool.try_room(1).or_else(|| {
            // Others get what comes free before this.
            if !pool.is_wanted() {
                drop(self.engine.table.lock().evict(1, false));
            }
            pool.try_room(1)
        });
        // Without memory it is missed: the request for it waits for some.
        let Some(mut buffer) = room.and_then(|mut room| room.take()) else { return false };
        if !read_block(disk, &key, &mut buffer, patience) {
            return false;
        }
        add(&self.object.counters.disk_hits, 1);
        let bytes = buffer.freeze();
        self.engine.table.lock().keep((self.object.number, block), bytes.clone(), 0, false);
        self.take(block, &bytes);
        true
    }

    fn fail(&mut self, block: u64, failure: &Failure) {
        let bytes = self.object.bytes_of(&(block..block + 1));
        self.wants.iter_mut().for_each(|want| want.fail(&bytes, failure));
    }

    fn results(&mut self) -> Vec<Result<usize, Error>> {
        let counters = &self.object.counters;
        let result = |want: &mut Want<'_>| match want.error.take() {
            None => Ok(want.buf.len()),
            // What is before it has arrived.
            Some((at, _)) if at > want.pos => Ok((at - want.pos) as usize),
            Some((_, failure)) => {
                add(&counters.errors, 1);
                Err(self.object.error(self.object.bytes_of(&failure.blocks), failure.attempts, *failure.cause))
            }
        };
        let results: Vec<_> = self.wants.iter_mut().map(result).collect();
        counters.read.fetch_add(results.iter().flatten().map(|&read| read as u64).sum(), Ordering::Relaxed);
        results
    }
}

/// Returns how long an access that has some time left waits for the disk tier: not for all of it, so that the store can still be asked.
fn patience(disk: &Disk, left: Duration) -> Duration {
    disk.patience().min(left / 2)
}

/// Returns the blocks of ranges in ascending order, each once, in parts of at most `most`.
fn batches(object: &Pinned, wants: &[Want<'_>], most: usize) -> Vec<Vec<u64>> {
    let ranges = wants.iter().filter(|want| !want.buf.is_empty()).map(|want| object.blocks_of(&want.range()));
    let mut blocks: Vec<u64> = ranges.flatten().collect();
    blocks.sort_unstable();
    blocks.dedup();
    if blocks.len() <= most {
        return Vec::from([blocks]);
    }
    blocks.chunks(most).map(<[u64]>::to_vec).collect()
}
