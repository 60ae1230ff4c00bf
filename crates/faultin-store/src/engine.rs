//! [`Engine`]: what requests, retries, blocks and limits have in common. It belongs to no runtime of its own: a
//! [`Store`](crate::Store) has one, and a simulation another one.

mod fly;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use faultin::events::Notes;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

pub(crate) use read::{Access, Want};

use crate::ahead::Streams;
use crate::backend::Backend;
use crate::disk::Disk;
use crate::error::{Cause, Error};
use crate::events::{Event, What};
use crate::fetch;
use crate::flight::Flight;
use crate::flight::table::Table;
use crate::health::{Admission, Health};
use crate::pin::Version;
use crate::pinned::Pinned;
use crate::pool::{Buffer, Pool, Room};
use crate::rate::Rate;
use crate::retry::Backoff;
use crate::stats::Counters;

/// The part of the requests that may be ahead of what is wanted: seven of eight.
const AHEAD_TURNS: (usize, usize) = (7, 8);

/// Number of flights that ask the disk tier at the same time for what is ahead.
const DISK_TURNS: usize = 4;

/// The part of the memory that blocks may take that were read ahead: three of four.
const AHEAD_ROOM: (usize, usize) = (3, 4);

/// The part of the memory in which blocks stay that were read: a divisor.
const READ_STAYS: usize = 8;

/// The part of the memory that one access waits for at a time: a divisor.
const BATCH: usize = 4;

/// The part of the memory that flights of one backend may take: three of four. So there is room for a request of another one.
const SHARE_ROOM: (usize, usize) = (3, 4);

/// How long an access waits until it looks again whether the store works.
const LOOK: Duration = Duration::from_millis(2);

/// An object is opened to find out whether a store works: given up when this is dropped, unless it has a result.
struct Probe<'b> {
    health: &'b Health,
    begun: Instant,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.health.gave_up(self.begun);
    }
}

/// The longest time for which a file's time of change may stay the same though the file changes: a tick of the clock of any file
/// system, and the seconds of some.
const TICK: Duration = Duration::from_secs(2);

/// Returns whether a file may change without another time of change, as it was changed just now.
fn is_racy(name: &str, modified: Option<SystemTime>) -> bool {
    // Later than now: of a clock that was wrong.
    let age = modified.map(|time| time.elapsed().unwrap_or_default());
    name.starts_with("file:") && age.is_none_or(|age| age < TICK)
}

/// Returns the number of requests at the same time to all backends, of which one may have `requests`: a third more.
fn all_turns(requests: usize) -> usize {
    let requests = requests.max(1);
    requests + requests.div_ceil(3)
}

/// Returns how many of some requests may be ahead of what is wanted.
fn ahead_turns(requests: usize) -> usize {
    (requests * AHEAD_TURNS.0 / AHEAD_TURNS.1).max(1)
}

/// The numbers of a store's options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Bytes of a block, a power of two.
    pub(crate) block: usize,
    /// Bytes of all buffers.
    pub(crate) memory: usize,
    /// Requests at the same time to one backend.
    pub(crate) requests: usize,
    /// Most bytes of a request.
    pub(crate) request_bytes: usize,
    /// Most bytes between two ranges of one request.
    pub(crate) gap: u64,
    pub(crate) deadline: Duration,
    pub(crate) attempt: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) read_ahead: bool,
    pub(crate) accept_unversioned: bool,
    pub(crate) old_versions: bool,
    /// Of the jitter.
    pub(crate) seed: u64,
}

/// What the requests to one backend may take, so that one that hangs leaves some for others.
#[derive(Debug)]
pub(crate) struct Share {
    turns: Semaphore,
    ahead_turns: Semaphore,
    /// Blocks of memory of flights.
    room: Arc<Semaphore>,
}

/// What objects share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: Numbers,
    pub(crate) pool: Arc<Pool>,
    table: Mutex<Table>,
    turns: Semaphore,
    ahead_turns: Semaphore,
    /// Of flights that are ahead and ask the disk tier.
    disk_turns: Semaphore,
    backoff: Backoff,
    rate: Rate,
    pub(crate) events: Arc<Notes<Event>>,
    pub(crate) disk: Option<Arc<Disk>>,
    /// Number of blocks that wait for the disk tier.
    to_disk: Arc<AtomicUsize>,
    /// The sum over objects that were dropped.
    handle: Handle,
    process: u32,
    numbers: AtomicU64,
}

impl Engine {
    pub(crate) fn new(options: Numbers, disk: Option<Arc<Disk>>, handle: Handle) -> Engine {
        let blocks = (options.memory / options.block).max(2);
        let requests = all_turns(options.requests);
        Engine {
            options,
            pool: Pool::new(options.block, blocks),
            table: Mutex::default(),
            turns: Semaphore::new(requests),
            ahead_turns: Semaphore::new(ahead_turns(requests)),
            disk_turns: Semaphore::new(DISK_TURNS),
            backoff: Backoff::new(options.backoff.0, options.backoff.1, options.seed),
            rate: Rate::default(),
            events: Notes::new(),
            disk,
            to_disk: Arc::default(),
            handle,
            process: faultin::process(),
            numbers: AtomicU64::new(0),
        }
    }

    /// Returns whether this is the process that has made the engine. A child of `fork` has none of its threads.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == faultin::process()
    }

    /// Returns the number of requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        all_turns(self.options.requests).saturating_sub(self.turns.available_permits())
    }

    /// Returns the share of a backend.
    fn share<'b>(&self, backend: &'b Backend) -> &'b Share {
        backend.share.get_or_init(|| {
            let requests = self.options.requests.max(1);
            let blocks = self.pool.limit() * SHARE_ROOM.0 / SHARE_ROOM.1;
            Share {
                turns: Semaphore::new(requests),
                ahead_turns: Semaphore::new(ahead_turns(requests)),
                room: Arc::new(Semaphore::new(blocks.max(1))),
            }
        })
    }

    /// Most blocks of a request.
    fn request_blocks(&self) -> u64 {
        // One request has all of its memory at once.
        let most = self.pool.limit() / BATCH;
        (self.options.request_bytes / self.options.block).min(most).max(1) as u64
    }

    /// Opens an object, within the deadline of an access that began at `asked`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn open(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        path: &Path,
        name: &Arc<str>,
        access: Access,
        asked: Instant,
    ) -> Result<Arc<Pinned>, Error> {
        let opened = self.pin(backend, path, name, access, asked).await;
        if let Err(error) = &opened
            && error.attempts() > 0
        {
            self.note(name, 0..self.options.block as u64, error.attempts(), What::Failed(error.cause().clone()));
        }
        opened
    }

    async fn pin(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        path: &Path,
        name: &Arc<str>,
        access: Access,
        asked: Instant,
    ) -> Result<Arc<Pinned>, Error> {
        let deadline = asked + access.deadline;
        let counters = Arc::new(Counters::default());
        let (mut attempts, mut last) = (0, None);
        let failed = |attempts, cause| Error::new(name, None, attempts, cause);
        let (begun, probe) = match self.admit(backend, deadline, access.retries).await {
            Ok(admitted) => admitted,
            Err(cause) => return Err(failed(0, cause)),
        };
        let retries = if probe.is_some() { 0 } else { access.retries };
        let first = 0..self.options.block as u64;
        let is_down = |attempts, cause: &Cause| {
            if backend.health.failed(begun, Instant::now(), attempts, cause) {
                self.note(name, first.clone(), attempts, What::Down(cause.clone()));
            }
        };
        let too_late = |last: Option<Cause>| Cause::Deadline { after: access.deadline, last: last.map(Box::new) };
        let share = self.share(backend);
        // Memory before the turn, as flights do.
        let Ok(room) = timeout_at(deadline, self.room(share, 1)).await else {
            return Err(failed(0, too_late(None)));
        };
        let Some(mut buffer) = room.and_then(|mut room| room.take()) else { return Err(failed(0, Cause::NoMemory)) };
        let found = loop {
            let Ok(turn) = timeout_at(deadline, self.turn(share)).await else {
                return Err(failed(attempts, too_late(last)));
            };
            // It has waited since before the store went down.
            if probe.is_none()
                && attempts == 0
                && let Some(cause) = backend.health.is_down(Instant::now(), deadline, retries)
            {
                return Err(failed(0, cause));
            }
            attempts += 1;
            let opening = fetch::open(self, backend, path, &counters, buffer.bytes_mut());
            let cause = match timeout_at(deadline, opening).await {
                Ok(Ok(found)) => {
                    self.answered(backend, name);
                    break found;
                }
                Ok(Err(cause)) => cause,
                Err(_) => {
                    let cause = too_late(last);
                    is_down(attempts, &cause);
                    return Err(failed(attempts, cause));
                }
            };
            drop(turn);
            let pause = self.backoff.pause(attempts).max(cause.wants_pause());
            let may_retry = cause.is_transient() && attempts <= retries && Instant::now() + pause < deadline;
            if !may_retry {
                if cause.is_transient() {
                    is_down(attempts, &cause);
                } else {
                    self.answered(backend, name);
                }
                return Err(failed(attempts, cause));
            }
            self.note(name, first.clone(), attempts, What::Retried(cause.clone()));
            counters.retries.fetch_add(1, Ordering::Relaxed);
            last = Some(cause);
            tokio::time::sleep(pause).await;
        };
        // Of two objects of one length without a time, nothing tells one from the other.
        let has_time = found.version.modified.is_some();
        if found.version.etag.is_none() && !(self.options.accept_unversioned && has_time) {
            return Err(failed(attempts, Cause::Unversioned));
        }
        if i64::try_from(found.version.len).is_err() {
            let what = "the store says that the object is longer than a file may be";
            return Err(failed(attempts, Cause::Unsupported(what.into())));
        }
        // Both are told in messages, and compared as they are.
        let Version { etag, id, .. } = &found.version;
        let texts = [etag, id, &found.kind, &found.encoding];
        if texts.into_iter().flatten().any(|text| backend.redactor.has_secret(text)) {
            let what = "the store's answer has a credential in its entity tag, its content type or its encoding";
            return Err(failed(attempts, Cause::Unsupported(what.into())));
        }
        let key: Arc<str> = match &*backend.endpoint {
            "" => Arc::clone(name),
            endpoint => format!("{name} at {endpoint}").into(),
        };
        // A counter of a store in memory begins anew with each, and would find the bytes of another one on disk.
        let is_lasting = backend.is_server || !found.version.is_number() && !is_racy(name, found.version.modified);
        let object = Arc::new(Pinned {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            name: Arc::clone(name),
            backend: Arc::clone(backend),
            path: path.clone(),
            key: is_lasting.then(|| (key, found.version.key())),
            version: found.version,
            kind: found.kind,
            encoding: found.encoding,
            block: self.options.block as u64,
            streams: Mutex::new(Streams::default()),
            counters,
        });
        self.keep_first(&object, buffer);
        Ok(object)
    }

    /// Waits until an object may be opened: not while a probe is under way. Returns the time, and the probe if it is one.
    async fn admit<'b>(
        &self,
        backend: &'b Backend,
        deadline: Instant,
        retries: u32,
    ) -> Result<(Instant, Option<Probe<'b>>), Cause> {
        loop {
            let now = Instant::now();
            match backend.health.admit(now, deadline, retries) {
                Admission::Go => return Ok((now, None)),
                Admission::Probe => return Ok((now, Some(Probe { health: &backend.health, begun: now }))),
                Admission::Fail(cause) => return Err(cause),
                Admission::Wait => {
                    if now >= deadline
                        && let Some(cause) = backend.health.is_down(now, deadline, retries)
                    {
                        return Err(cause);
                    }
                    tokio::time::sleep_until((now + LOOK).min(deadline)).await;
                }
            }
        }
    }

    /// Keeps the first block, with which the object was opened.
    fn keep_first(&self, object: &Pinned, first: Buffer) {
        if object.len() == 0 {
            return;
        }
        let evicted = {
            let mut table = self.table.lock();
            table.keep((object.number, 0), first.freeze(), 0, false);
            // Since it has got its room, a flight may have come that waits for some.
            self.make_room(&mut table)
        };
        drop(evicted);
    }

    /// Adds an event to those of the process.
    fn note(&self, object: &Arc<str>, range: Range<u64>, attempt: u32, what: What) {
        self.events.add(Event { object: Arc::clone(object), range, attempt, what });
    }

    /// Notes that a backend has answered.
    pub(crate) fn answered(&self, backend: &Backend, name: &Arc<str>) {
        if backend.health.answered(Instant::now()) {
            self.note(name, 0..0, 0, What::Up);
        }
    }

    /// Gives up everything of an object that is no longer used.
    pub(crate) fn close(&self, object: &Pinned) {
        if !self.is_ours() {
            return;
        }
        object.streams.lock().clear();
        let (cancelled, evicted) = {
            let mut table = self.table.lock();
            let (cancelled, evicted) = table.close(object.number);
            self.pool.evicted(&evicted);
            (cancelled, evicted)
        };
        drop(evicted);
        cancelled.iter().for_each(|flight| self.was_cancelled(object, flight));
    }

    /// Counts a flight that was cancelled.
    fn was_cancelled(&self, object: &Pinned, flight: &Flight) {
        object.counters.cancelled.fetch_add(1, Ordering::Relaxed);
        if flight.is_probe {
            object.backend.health.gave_up(flight.begun);
        }
        let range = object.bytes_of(&flight.blocks);
        self.note(&object.name, range, flight.so_far().0, What::Cancelled);
    }

    /// Waits for a turn to send a request to a backend.
    async fn turn<'e>(&'e self, share: &'e Share) -> (Option<SemaphorePermit<'e>>, Option<SemaphorePermit<'e>>) {
        // Never fails: the semaphores are not closed.
        (share.turns.acquire().await.ok(), self.turns.acquire().await.ok())
    }

    /// Waits for the memory of a request. `None` if there will never be as much.
    async fn room(&self, share: &Share, blocks: usize) -> Option<Room> {
        let permit = Arc::clone(&share.room).acquire_many_owned(u32::try_from(blocks).ok()?).await.ok()?;
        let room = match self.pool.try_room(blocks) {
            Some(room) => room,
            None => {
                let evict = || {
                    let evicted = self.make_room(&mut self.table.lock());
                    drop(evicted);
                };
                self.pool.room(blocks, evict).await?
            }
        };
        Some(room.of_share(permit))
    }

    /// Makes room where requests wait for it, and keeps only so much of what was read. Returns blocks, to be dropped without a
    /// lock.
    fn make_room(&self, table: &mut Table) -> Vec<Bytes> {
        let mut evicted = table.trim(self.pool.limit() / READ_STAYS);
        self.pool.evicted(&evicted);
        let missing = self.pool.missing();
        if missing > 0 {
            let more = table.evict(missing, true);
            self.pool.evicted(&more);
            evicted.extend(more);
        }
        evicted
    }
}
