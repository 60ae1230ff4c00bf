//! A flight: its turn, its memory, its attempts.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::Engine;
use crate::disk::{Disk, Key};
use crate::error::Cause;
use crate::events::What;
use crate::fetch::{self, Sink, read_body};
use crate::flight::{Failure, Flight};
use crate::pinned::Pinned;
use crate::pool::{Buffer, Room};
use crate::stats::{add, nanoseconds};

/// The part of the memory that may wait for the disk tier: a divisor.
const DISK_QUEUE: usize = 8;

/// A flight that ends when this is dropped, whatever has happened to its task.
struct Landing {
    engine: Arc<Engine>,
    object: Arc<Pinned>,
    flight: Arc<Flight>,
    outcome: Option<Result<(), Failure>>,
}

impl Landing {
    async fn fly(mut self, room: Option<Room>) {
        let outcome = self.engine.fly(&self.object, &self.flight, room).await;
        self.outcome = Some(outcome);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(self.flight.failure(Cause::Closed)));
        if self.flight.is_probe {
            // One that has found out nothing: its deadline came before its turn, for example.
            self.object.backend.health.gave_up(self.flight.begun);
        }
        self.engine.land(&self.object, &self.flight, outcome);
    }
}

impl Engine {
    /// Sends a flight off, which is in the table.
    pub(super) fn launch(self: &Arc<Self>, object: &Arc<Pinned>, flight: &Arc<Flight>, room: Option<Room>) {
        let landing =
            Landing { engine: Arc::clone(self), object: Arc::clone(object), flight: Arc::clone(flight), outcome: None };
        let task = self.handle.spawn(landing.fly(room));
        let _ = flight.task.set(task.abort_handle());
    }

    /// Flies, until the latest deadline of those that wait.
    async fn fly(self: &Arc<Self>, object: &Pinned, flight: &Flight, room: Option<Room>) -> Result<(), Failure> {
        let mut work = pin!(self.work(object, flight, room));
        loop {
            let deadline = flight.deadline();
            match timeout_at(deadline, &mut work).await {
                Ok(result) => return result,
                // Another access has joined meanwhile.
                Err(_) if flight.deadline() > deadline => {}
                Err(_) => {
                    let (attempts, last) = flight.so_far();
                    let cause = Cause::Deadline { after: flight.time(), last: last.map(Box::new) };
                    if attempts > 0 {
                        self.down(object, flight, flight.begun, &cause);
                    }
                    let range = object.bytes_of(&flight.blocks);
                    self.note(&object.name, range, attempts, What::Failed(cause.clone()));
                    return Err(flight.failure(cause));
                }
            }
        }
    }

    async fn work(self: &Arc<Self>, object: &Pinned, flight: &Flight, room: Option<Room>) -> Result<(), Failure> {
        let mut room = room;
        if flight.is_ahead && self.take_from_disk(object, flight, &mut room).await {
            return Ok(());
        }
        // Never fails: the semaphores are not closed.
        let share = self.share(&object.backend);
        let _own = if flight.is_ahead { share.ahead_turns.acquire().await.ok() } else { None };
        let _ahead = if flight.is_ahead { self.ahead_turns.acquire().await.ok() } else { None };
        // Memory before the turn, as for what is read ahead: flights that each have what the other one waits for would wait
        // forever.
        let room = match room {
            Some(room) => Some(room),
            None => self.room(share, flight.blocks.clone().count()).await,
        };
        let Some(room) = room else { return Err(flight.failure(Cause::NoMemory)) };
        let mut sink = Sink::new(flight, room, self.options.block);
        loop {
            let turn = self.turn(share).await;
            // It has waited for its turn since before the store went down.
            let (deadline, retries) = flight.terms();
            if !flight.is_probe
                && flight.so_far().0 == 0
                && let Some(cause) = object.backend.health.is_down(Instant::now(), deadline, retries)
            {
                return Err(flight.failure(cause));
            }
            let Err(cause) = self.attempt(object, flight, &mut sink).await else { return Ok(()) };
            drop(turn);
            let (attempt, range) = (flight.so_far().0, object.bytes_of(&flight.blocks));
            let wants = cause.wants_pause();
            let is_in_time = |_: &u32| wants.is_zero() || Instant::now() + wants < flight.deadline();
            let retry = flight.failed(&cause).filter(is_in_time);
            let Some(retry) = retry else {
                if cause.is_transient() {
                    self.down(object, flight, flight.begun, &cause);
                } else {
                    self.answered(&object.backend, &object.name);
                }
                self.note(&object.name, range, attempt, What::Failed(cause.clone()));
                return Err(flight.failure(cause));
            };
            self.note(&object.name, range, attempt, What::Retried(cause));
            add(&object.counters.retries, 1);
            sleep(self.backoff.pause(retry).max(wants)).await;
        }
    }

    /// Notes that a flight was in vain because of the store.
    pub(super) fn down(&self, object: &Pinned, flight: &Flight, begun: Instant, cause: &Cause) {
        let (attempts, _) = flight.so_far();
        if object.backend.health.failed(begun, Instant::now(), attempts, cause) {
            let range = object.bytes_of(&flight.blocks);
            self.note(&object.name, range, attempts, What::Down(cause.clone()));
        }
    }

    /// Requests what is missing of a flight.
    async fn attempt(&self, object: &Pinned, flight: &Flight, sink: &mut Sink<'_>) -> Result<(), Cause> {
        let missing = flight.blocks.start + flight.arrived()..flight.blocks.end;
        let range: Range<u64> = object.bytes_of(&missing);
        flight.attempt();
        let counters = &object.counters;
        add(&counters.requests, 1);
        let begun = Instant::now();
        let sent = self.rate.sent(begun);
        let result = match fetch::request(self, object, &range, flight.deadline()).await {
            Ok(head) => {
                self.rate.first(&sent, Instant::now());
                self.answered(&object.backend, &object.name);
                read_body(self, object, head, sink).await
            }
            Err(cause) => Err(cause),
        };
        let now = Instant::now();
        if result.is_ok() {
            self.rate.ended(&sent, range.end - range.start, now);
        }
        add(&counters.io_time, nanoseconds(now.saturating_duration_since(begun)));
        result
    }

    /// Takes the blocks of a flight that is ahead from the disk tier. Returns whether it has had all of them.
    async fn take_from_disk(&self, object: &Pinned, flight: &Flight, room: &mut Option<Room>) -> bool {
        let (Some(disk), Some(room)) = (&self.disk, room) else { return false };
        // Each takes a thread of the runtime.
        let _turn = self.disk_turns.acquire().await.ok();
        let mut patience = disk.patience();
        for block in flight.blocks.clone() {
            let Some(key) = object.disk_key(block) else { return false };
            let Some(mut buffer) = room.take() else { return false };
            let disk = Arc::clone(disk);
            let read = tokio::task::spawn_blocking(move || {
                let is_there = read_block(&disk, &key, &mut buffer, &mut patience);
                (buffer, is_there, patience)
            });
            match read.await {
                Ok((buffer, true, left)) => {
                    patience = left;
                    add(&object.counters.disk_hits, 1);
                    flight.push([buffer.freeze()]);
                }
                Ok((buffer, false, _)) => {
                    room.give_back(buffer);
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Ends a flight.
    fn land(&self, object: &Pinned, flight: &Arc<Flight>, outcome: Result<(), Failure>) {
        let (arrived, evicted) = {
            let mut table = self.table.lock();
            let arrived = table.land(object.number, flight, outcome);
            (arrived, self.make_room(&mut table))
        };
        drop(evicted);
        self.to_disk(object, flight, arrived);
    }

    /// Offers the blocks of a flight to the disk tier, which takes what it can without waiting.
    fn to_disk(&self, object: &Pinned, flight: &Flight, arrived: Vec<Bytes>) {
        let (attempts, _) = flight.so_far();
        // Without an attempt, they are from there.
        if let Some(disk) = self.disk.as_ref().filter(|_| attempts > 0) {
            for (block, bytes) in flight.blocks.clone().zip(arrived) {
                let Some(key) = object.disk_key(block) else { return };
                // A disk that hangs may not keep the memory that reads need. A short block has the memory of a whole one.
                let most = (self.pool.limit() / DISK_QUEUE).max(1);
                let waiting = Waiting::new(bytes, &self.to_disk);
                if self.to_disk.load(Ordering::Relaxed) <= most {
                    disk.put(key, Bytes::from_owner(waiting));
                }
            }
        }
    }
}

/// A block that waits for the disk tier until this is dropped.
struct Waiting {
    bytes: Bytes,
    all: Arc<AtomicUsize>,
}

impl Waiting {
    fn new(bytes: Bytes, all: &Arc<AtomicUsize>) -> Waiting {
        all.fetch_add(1, Ordering::Relaxed);
        Waiting { bytes, all: Arc::clone(all) }
    }
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fills an empty buffer with a block of the disk tier. Returns whether it is there.
pub(super) fn read_block(disk: &Disk, key: &Key, buffer: &mut Buffer, patience: &mut Duration) -> bool {
    let Ok(len) = usize::try_from(key.range.end - key.range.start) else { return false };
    buffer.bytes_mut().resize(len, 0);
    disk.get_spending(key, buffer.bytes_mut(), patience) == Some(len)
}
