//! What an access does about its blocks: takes those that are in memory, joins the flights of others, and begins flights for
//! the rest, all under one lock, so that each block is requested once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{AHEAD_ROOM, Engine};
use crate::ahead::{Limits, Plan};
use crate::error::Cause;
use crate::flight::table::{Place, Table};
use crate::flight::{Flight, Terms, Waiter};
use crate::health::Admission;
use crate::pinned::Pinned;
use crate::pool::Room;
use crate::stats::add;

/// Smallest limit of a window, in blocks: before anything was measured, and for scans that wait for each other.
const LEAST: u64 = 8;

/// How long a block that was read ahead and no access has read stays, if other readahead needs its room: the scan may be over.
const STALE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Default)]
pub(super) struct Round {
    /// Blocks that are in memory.
    pub(super) ready: Vec<(u64, Bytes)>,
    /// Flights to wait for.
    pub(super) joins: Vec<Join>,
    /// Blocks that are nowhere, if the disk tier has to be asked first.
    pub(super) absent: Vec<u64>,
    /// Blocks that cannot be requested now, and why.
    pub(super) failed: Option<(Vec<u64>, Cause)>,
    /// Blocks that wait until it is known whether the store works again.
    pub(super) later: Vec<u64>,
    /// Whether to wait a little before that is asked again.
    pub(super) looks: bool,
    /// Blocks that are requested anew.
    pub(super) anew: Vec<u64>,
}

impl Round {
    /// Adds blocks that cannot be requested now.
    pub(super) fn fail(&mut self, mut blocks: Vec<u64>, cause: Cause) {
        match &mut self.failed {
            Some((failed, _)) => failed.append(&mut blocks),
            None => self.failed = Some((blocks, cause)),
        }
    }
}

/// An access that waits for a flight, until this is dropped.
pub(super) struct Join {
    engine: Arc<Engine>,
    object: Arc<Pinned>,
    waiter: Arc<Waiter>,
    pub(super) flight: Arc<Flight>,
    /// The blocks of the flight that the access wants, and has not got yet.
    pub(super) wanted: Vec<u64>,
}

impl Drop for Join {
    fn drop(&mut self) {
        let is_cancelled = self.engine.table.lock().leave(self.object.number, &self.flight, &self.waiter);
        if is_cancelled {
            self.engine.was_cancelled(&self.object, &self.flight);
        }
    }
}

/// How an access is planned.
pub(super) struct Request<'a> {
    pub(super) waiter: &'a Arc<Waiter>,
    pub(super) terms: Terms,
    /// The blocks, in ascending order, each once.
    pub(super) blocks: &'a [u64],
    /// The ranges of blocks that are new to the streams; empty after the first round.
    pub(super) accesses: &'a [Range<u64>],
    /// Whether blocks that are nowhere are to be requested. Otherwise the disk tier comes first.
    pub(super) may_request: bool,
    pub(super) reads_ahead: bool,
}

impl Engine {
    pub(super) fn plan(self: &Arc<Self>, object: &Arc<Pinned>, request: &Request<'_>) -> Round {
        let mut round = Round::default();
        let mut missing = Vec::new();
        let mut down = None;
        let mut table = self.table.lock();
        for &block in request.blocks {
            match table.find((object.number, block)) {
                Place::Ready(bytes) => round.ready.push((block, bytes)),
                Place::Flying(flight) => {
                    let Terms { deadline, retries, .. } = request.terms;
                    let ask = || object.backend.health.is_down(Instant::now(), deadline, retries);
                    match down.get_or_insert_with(ask).as_ref().filter(|_| !flight.is_probe) {
                        // It began before, and would hold every access for as long as that may take.
                        Some(cause) => round.fail(vec![block], cause.clone()),
                        None => self.join(object, request, flight, block, &mut round),
                    }
                }
                Place::Nowhere => missing.push(block),
            }
        }
        let is_first = !request.accesses.is_empty();
        if is_first {
            let refused = round.failed.as_ref().map_or(0, |(blocks, _)| blocks.len());
            add(&object.counters.memory_hits, (request.blocks.len() - missing.len() - refused) as u64);
        }
        let mut departing = Vec::new();
        if request.may_request && !missing.is_empty() {
            self.depart(&mut table, object, request, missing, &mut round, &mut departing);
        } else {
            round.absent = missing;
        }
        let dropped = if request.reads_ahead && is_first {
            self.read_ahead(&mut table, object, request, &round, &mut departing)
        } else {
            Vec::new()
        };
        // Before the lock is free: another access could cancel a flight that has no task yet.
        for (flight, room) in departing {
            // Unless the access itself has given it up again, for another of its ranges.
            if !flight.is_over() {
                self.launch(object, &flight, room);
            }
        }
        drop(table);
        drop(dropped);
        round
    }

    fn join(
        self: &Arc<Self>,
        object: &Arc<Pinned>,
        request: &Request<'_>,
        flight: Arc<Flight>,
        block: u64,
        round: &mut Round,
    ) {
        if let Some(join) = round.joins.iter_mut().find(|join| Arc::ptr_eq(&join.flight, &flight)) {
            join.wanted.push(block);
            return;
        }
        flight.join(request.waiter, request.terms);
        round.joins.push(Join {
            engine: Arc::clone(self),
            object: Arc::clone(object),
            waiter: Arc::clone(request.waiter),
            flight,
            wanted: vec![block],
        });
    }

    /// Begins flights for blocks that are nowhere, unless the store is down.
    fn depart(
        self: &Arc<Self>,
        table: &mut Table,
        object: &Arc<Pinned>,
        request: &Request<'_>,
        missing: Vec<u64>,
        round: &mut Round,
        departing: &mut Vec<(Arc<Flight>, Option<Room>)>,
    ) {
        let now = Instant::now();
        let mut runs = self.runs(table, object, &missing);
        let is_probe = match object.backend.health.admit(now, request.terms.deadline, request.terms.retries) {
            Admission::Go => false,
            Admission::Probe => {
                // One request is enough to find out.
                runs.truncate(1);
                true
            }
            Admission::Wait => {
                round.later = missing;
                round.looks = true;
                return;
            }
            Admission::Fail(cause) => {
                round.fail(missing, cause);
                return;
            }
        };
        for run in runs {
            let flight = Flight::new(run.clone(), now, request.terms, false, is_probe);
            table.depart(object.number, &flight);
            let wanted: Vec<u64> = missing.iter().copied().filter(|block| run.contains(block)).collect();
            add(&object.counters.misses, wanted.len() as u64);
            for block in wanted {
                self.join(object, request, Arc::clone(&flight), block, round);
            }
            departing.push((flight, None));
        }
        let is_covered = |block: &u64| round.joins.iter().any(|join| join.flight.blocks.contains(block));
        round.later = missing.into_iter().filter(|block| !is_covered(block)).collect();
    }

    /// Joins blocks to runs of at most one request each. Blocks between two of them are fetched, too, if they are few and
    /// nowhere.
    fn runs(&self, table: &Table, object: &Pinned, missing: &[u64]) -> Vec<Range<u64>> {
        let most = self.request_blocks();
        let gap = self.options.gap / self.options.block as u64;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &block in missing {
            if let Some(last) = runs.last_mut()
                && block - last.end <= gap
                && block + 1 - last.start <= most
                && (last.end..block).all(|between| !table.has((object.number, between)))
            {
                last.end = block + 1;
            } else {
                runs.push(block..block + 1);
            }
        }
        runs
    }

    /// Begins flights for what is expected to be wanted next, as far as there is memory for them without taking any from
    /// what others will want. Returns blocks to be dropped without a lock.
    fn read_ahead(
        self: &Arc<Self>,
        table: &mut Table,
        object: &Arc<Pinned>,
        request: &Request<'_>,
        round: &Round,
        departing: &mut Vec<(Arc<Flight>, Option<Room>)>,
    ) -> Vec<Bytes> {
        let now = Instant::now();
        let mut dropped = Vec::new();
        // What is on disk, or fails, needs no request.
        let waits = !round.joins.is_empty();
        let has_ready = !round.ready.is_empty();
        let is_down = || object.backend.health.is_down(now, now + self.options.deadline, request.terms.retries);
        if !waits && !has_ready || is_down().is_some() {
            return dropped;
        }
        let most = self.pool.limit() * AHEAD_ROOM.0 / AHEAD_ROOM.1;
        let block = self.options.block as u64;
        let limits = Limits {
            end: object.len().div_ceil(block),
            window: (self.rate.window() / block).max(LEAST),
            all: most as u64,
            request: self.request_blocks(),
        };
        let mut streams = object.streams.lock();
        for access in request.accesses {
            let plan = streams.access(access.clone(), waits, limits);
            if let Some(range) = &plan.forgotten {
                let (cancelled, evicted) = table.forget(object.number, range.clone());
                self.pool.evicted(&evicted);
                dropped.extend(evicted);
                cancelled.iter().for_each(|flight| self.was_cancelled(object, flight));
            }
            if let Some(refused) = self.depart_ahead(table, object, &plan, most, now, request.terms, departing) {
                streams.refused(&plan, refused);
            }
        }
        dropped
    }

    /// Begins the flights of a plan. Returns the block for which there is no memory.
    #[allow(clippy::too_many_arguments, reason = "all of them are of one access")]
    fn depart_ahead(
        self: &Arc<Self>,
        table: &mut Table,
        object: &Arc<Pinned>,
        plan: &Plan,
        most: usize,
        now: Instant,
        terms: Terms,
        departing: &mut Vec<(Arc<Flight>, Option<Room>)>,
    ) -> Option<u64> {
        // Its own deadline, as no access waits for it yet.
        let terms =
            Terms { deadline: now + self.options.deadline, time: self.options.deadline, retries: terms.retries };
        for wanted in &plan.wanted {
            let mut at = wanted.start;
            while at < wanted.end {
                if table.has((object.number, at)) {
                    at += 1;
                    continue;
                }
                let end = (at..wanted.end).find(|&block| table.has((object.number, block))).unwrap_or(wanted.end);
                let count = (end - at) as usize;
                if self.pool.is_wanted() {
                    return Some(at);
                }
                let over = (table.ahead() + count).saturating_sub(most);
                if let Some(before) = now.checked_sub(STALE).filter(|_| over > 0) {
                    drop(table.evict_stale(over, before));
                }
                if table.ahead() + count > most {
                    return Some(at);
                }
                let share = Arc::clone(&self.share(&object.backend).room);
                let Ok(permit) = share.try_acquire_many_owned(count as u32) else { return Some(at) };
                let room = self.pool.try_room(count).or_else(|| {
                    // Only what was read before.
                    drop(table.evict(count, false));
                    self.pool.try_room(count)
                });
                let Some(room) = room else { return Some(at) };
                let flight = Flight::new(at..end, now, terms, true, false);
                table.depart(object.number, &flight);
                add(&object.counters.ahead, count as u64);
                departing.push((flight, Some(room.of_share(permit))));
                at = end;
            }
        }
        None
    }
}
