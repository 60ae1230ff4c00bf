//! Reads of ranges: in the thread that wants them, or in a task.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use faultin_cache::pager::without_signals;
use tokio::time::Instant;

use super::fly::read_block;
use super::plan::{Join, Request, Round};
use super::{BATCH, Engine, LOOK};
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
    terms: Terms,
    begun: Instant,
    waiter: Arc<Waiter>,
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
        let mut reading = Reading::new(self, object, access, wants);
        for mut todo in reading.batches() {
            let mut is_first = true;
            while !todo.is_empty() {
                let (mut round, mut until) = without_signals(|| {
                    let mut round = reading.round(&todo, access, is_first);
                    let until = reading.waits_until(&mut round);
                    (round, until)
                });
                is_first = false;
                while let Some(end) = until {
                    let begun = Instant::now();
                    reading.waiter.wait(end);
                    add(&object.counters.waited, nanoseconds(begun.elapsed()));
                    until = without_signals(|| reading.waits_until(&mut round));
                }
                todo = without_signals(|| reading.rest(round));
            }
        }
        without_signals(|| reading.results())
    }

    /// Reads ranges as [`read`](Self::read) does, in a task.
    #[allow(dead_code, reason = "for simulations")]
    pub(crate) async fn read_async(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        access: Access,
        wants: &mut [Want<'_>],
    ) -> Vec<Result<usize, Error>> {
        let mut reading = Reading::new(self, object, access, wants);
        for mut todo in reading.batches() {
            let mut is_first = true;
            while !todo.is_empty() {
                let mut round = reading.round(&todo, access, is_first);
                is_first = false;
                while let Some(until) = reading.waits_until(&mut round) {
                    let waiter = Arc::clone(&reading.waiter);
                    waiter.wait_async(until).await;
                }
                todo = reading.rest(round);
            }
        }
        reading.results()
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
    fn new(engine: &'r Arc<Engine>, object: &'r Arc<Pinned>, access: Access, wants: &'r mut [Want<'b>]) -> Self {
        add(&object.counters.reads, wants.len() as u64);
        let begun = Instant::now();
        let terms = Terms { deadline: begun + access.deadline, retries: access.retries };
        Reading { engine, object, wants, terms, begun, waiter: Waiter::new() }
    }

    /// Returns the blocks in ascending order, each once, in parts that memory has room for.
    fn batches(&self) -> Vec<Vec<u64>> {
        let blocks: BTreeSet<u64> = self
            .wants
            .iter()
            .filter(|want| !want.buf.is_empty())
            .flat_map(|want| self.object.blocks_of(&want.range()))
            .collect();
        let blocks: Vec<u64> = blocks.into_iter().collect();
        blocks.chunks((self.engine.pool.limit() / BATCH).max(1)).map(<[u64]>::to_vec).collect()
    }

    /// Copies what is in memory and on disk, and joins or begins flights for the rest.
    fn round(&mut self, todo: &[u64], access: Access, is_first: bool) -> Round {
        let (low, high) = (todo.first().copied().unwrap_or(0), todo.last().copied().unwrap_or(0));
        // Of this batch.
        let accesses: Vec<Range<u64>> = if is_first {
            let blocks = |want: &Want<'_>| self.object.blocks_of(&want.range());
            let within = |run: Range<u64>| run.start.max(low)..run.end.min(high + 1);
            self.wants.iter().filter(|want| !want.buf.is_empty()).map(|want| within(blocks(want))).collect()
        } else {
            Vec::new()
        };
        let accesses: Vec<_> = accesses.into_iter().filter(|run| !run.is_empty()).collect();
        let waiter = Arc::clone(&self.waiter);
        let has_disk = self.engine.disk.is_some();
        let (terms, engine) = (self.terms, self.engine);
        let request = |blocks, accesses, may_request| Request {
            waiter: &waiter,
            terms,
            blocks,
            accesses,
            may_request,
            reads_ahead: access.reads_ahead && engine.options.read_ahead,
        };
        let mut round = self.engine.plan(self.object, &request(todo, &accesses, !(has_disk && is_first)));
        for (block, bytes) in std::mem::take(&mut round.ready) {
            self.take(block, &bytes);
        }
        let absent = std::mem::take(&mut round.absent);
        let missing: Vec<u64> = absent.into_iter().filter(|&block| !self.take_from_disk(block)).collect();
        if !missing.is_empty() {
            // The streams learn of it as of a miss.
            let missed: Vec<Range<u64>> =
                accesses.iter().filter(|run| missing.iter().any(|block| run.contains(block))).cloned().collect();
            let mut second = self.engine.plan(self.object, &request(&missing, &missed, true));
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
        round
    }

    /// Copies what has arrived. Returns until when to wait for more; `None` if there is no more to wait for.
    fn waits_until(&mut self, round: &mut Round) -> Option<Instant> {
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
        if Instant::now() >= self.terms.deadline {
            self.give_up(std::mem::take(&mut rest));
        }
        rest.sort_unstable();
        rest
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
            let cause = match self.object.backend.health.is_down(self.begun, self.terms.deadline) {
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
    fn take_from_disk(&mut self, block: u64) -> bool {
        let Some(disk) = &self.engine.disk else { return false };
        let key = self.object.disk_key(block);
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
            let is_there = disk.get(&key, &mut want.buf[within.clone()]) == Some(within.len());
            add(&self.object.counters.disk_hits, u64::from(is_there));
            return is_there;
        }
        let Some(mut buffer) = self.engine.pool.try_room(1).and_then(|mut room| room.take()) else {
            // Besides the limit: a block of this thread, for the moment.
            let mut bytes = vec![0; (key.range.end - key.range.start) as usize];
            let is_there = disk.get(&key, &mut bytes) == Some(bytes.len());
            if is_there {
                add(&self.object.counters.disk_hits, 1);
                self.take(block, &bytes);
            }
            return is_there;
        };
        if !read_block(disk, &key, &mut buffer) {
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

    fn results(self) -> Vec<Result<usize, Error>> {
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
