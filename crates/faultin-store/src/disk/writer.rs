//! [`Writer`]: the thread that opens a tier and writes to it.
//!
//! Blocks wait for it in a queue of limited size; what does not fit is not stored. It writes a block's bytes first and its record
//! after them, and makes the block available when both are written. Nothing is synchronised with the disk: what a loss of power leaves
//! unwritten fails its check.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::device::Device;
use super::format::{self, Digest, RECORD, Record, sum};
use super::index::{Index, Reserved};
use super::{DiskState, Key, Shared, Tier, pieces};

/// A tier that cannot be opened is tried again after this time, when there is a block to store.
const RETRY: Duration = Duration::from_secs(1);

/// A disk without space is not asked for more for this time. Blocks are evicted instead.
const FULL: Duration = Duration::from_secs(60);

/// The first and the longest time for which nothing is stored after an error.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// What the thread is asked to do.
pub enum Command {
    Put(Key, Bytes),
    /// Drops the sender when everything before it was done.
    Flush(Sender<()>),
}

/// The index and the data of a tier.
pub type Files = (Box<dyn Device>, Arc<dyn Device>);

/// Opens the files of a tier.
pub type Open = Box<dyn Fn() -> io::Result<Files> + Send>;

/// The number and the size of slots.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub slots: u32,
    pub slot: u32,
}

/// The state of the thread.
pub struct Writer {
    shared: Arc<Shared>,
    open: Open,
    index: Option<Box<dyn Device>>,
    tried: Option<Instant>,
    full_until: Option<Instant>,
    paused_until: Option<Instant>,
    failures: u32,
    /// Slots that could not be written since the last write.
    failed: Vec<Reserved>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, open: Open) -> Writer {
        Writer {
            shared,
            open,
            index: None,
            tried: None,
            full_until: None,
            paused_until: None,
            failures: 0,
            failed: Vec::new(),
        }
    }

    /// Works until the other end of the queue is gone and the queue is empty.
    pub fn run(mut self, commands: &Receiver<Command>) {
        self.start();
        while let Ok(command) = commands.recv() {
            if self.index.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
                self.start();
            }
            match command {
                Command::Put(key, bytes) => {
                    let cost = Shared::cost(&bytes);
                    if self.store(&key, &bytes).is_none() {
                        self.shared.counters.dropped.add(1);
                    }
                    drop(bytes);
                    self.shared.queued.fetch_sub(cost, Relaxed);
                }
                Command::Flush(done) => drop(done),
            }
        }
    }

    /// Opens the tier, if that is possible now.
    fn start(&mut self) {
        self.tried = Some(Instant::now());
        let opened = (self.open)().and_then(|(index, data)| {
            let records = load(&*index, &*data, self.shared.sizes)?;
            Ok((index, Tier::new(data, Index::new(records, self.shared.sizes.slots))))
        });
        let state = match opened {
            Ok((index, tier)) => {
                self.index = Some(index);
                let _ = self.shared.tier.set(tier);
                DiskState::Ready
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => DiskState::InUse,
            Err(error) => {
                self.shared.counters.errors.add(1);
                DiskState::Failed(error.kind())
            }
        };
        self.shared.set_state(state);
    }

    /// Stores a block, and returns `None` if it could not.
    fn store(&mut self, key: &Key, bytes: &Bytes) -> Option<()> {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let mut rest = bytes.clone();
        for piece in pieces(&key.range, self.shared.sizes.slot) {
            let len = usize::try_from(piece.end - piece.start).ok().filter(|len| *len <= rest.len())?;
            self.store_piece(Digest::of(key, &piece), &rest.split_to(len))?;
        }
        Some(())
    }

    fn store_piece(&mut self, digest: Digest, bytes: &[u8]) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let tier = shared.tier.get()?;
        if tier.index.read().has(digest) {
            return Some(());
        }
        let len = u32::try_from(bytes.len()).ok().and_then(std::num::NonZero::new)?;
        let sum = sum(digest, bytes);
        // Twice: the second time, if there is no space for a slot more, in the slot of another block.
        for _ in 0..2 {
            let may_grow = self.full_until.is_none_or(|until| Instant::now() >= until);
            let (reserved, sequence) = {
                let mut index = tier.index.write();
                (index.reserve(may_grow)?, index.next_sequence())
            };
            shared.counters.evicted.add(u64::from(reserved.evicted));
            let record = Record { digest, sum, sequence, len };
            match self.write(tier, reserved.slot, &record, bytes) {
                Ok(()) => {
                    let mut index = tier.index.write();
                    index.insert(reserved.slot, record);
                    // Of several slots, the disk could write none. Of a single one, it may be the slot that is damaged.
                    if self.failed.len() > 1 {
                        self.failed.drain(..).for_each(|failed| index.release(failed));
                    }
                    self.failed.clear();
                    drop(index);
                    shared.counters.stored.add(1);
                    self.failures = 0;
                    return Some(());
                }
                Err(error) if is_full(&error) => {
                    tier.index.write().release(reserved);
                    if reserved.is_fresh {
                        self.full_until = Instant::now().checked_add(FULL);
                        continue;
                    }
                    self.pause();
                    return None;
                }
                // The slot stays reserved until the disk can write others.
                Err(_) => {
                    self.failed.push(reserved);
                    self.pause();
                    return None;
                }
            }
        }
        None
    }

    fn write(&self, tier: &Tier, slot: u32, record: &Record, bytes: &[u8]) -> io::Result<()> {
        let index = self.index.as_ref().ok_or(io::ErrorKind::NotFound)?;
        tier.data.write(bytes, self.shared.sizes.pos(slot))?;
        index.write(&record.encode(slot), record_pos(slot))
    }

    fn pause(&mut self) {
        self.shared.counters.errors.add(1);
        let [first, longest] = PAUSE;
        let pause = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Instant::now().checked_add(pause);
    }
}

impl Sizes {
    /// Returns the position of a slot in the data.
    pub fn pos(self, slot: u32) -> u64 {
        u64::from(slot) * u64::from(self.slot)
    }
}

fn record_pos(slot: u32) -> u64 {
    (u64::from(slot) + 1) * RECORD as u64
}

/// No space, a quota, or a limit on the size of files.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Returns the records of a tier. Files with another header are emptied, and files that are longer than these sizes allow are
/// truncated.
fn load(index: &dyn Device, data: &dyn Device, sizes: Sizes) -> io::Result<Vec<Option<Record>>> {
    let header = format::header(sizes.slot);
    let mut found = [0; RECORD];
    let is_known = index.read(&mut found, 0).is_ok() && found == header;
    if !is_known {
        index.set_len(0)?;
        data.set_len(0)?;
        index.write(&header, 0)?;
    }
    // As long as they can become, with holes: a file system that reserves space after the end of a file, as XFS does, would exceed the
    // limit.
    for (file, len) in [(index, record_pos(sizes.slots)), (data, sizes.pos(sizes.slots))] {
        if file.len()? != len {
            file.set_len(len)?;
        }
    }
    let mut records = Vec::new();
    if is_known {
        read_records(index, sizes, &mut records);
    }
    Ok(records)
}

/// Reads the records of all slots up to the last one that has any. Those that cannot be read are missing.
fn read_records(index: &dyn Device, sizes: Sizes, records: &mut Vec<Option<Record>>) {
    const AT_ONCE: u32 = 1 << 14;
    let mut bytes = Vec::new();
    for first in (0..sizes.slots).step_by(AT_ONCE as usize) {
        let slots = first..sizes.slots.min(first + AT_ONCE);
        bytes.resize(slots.len() * RECORD, 0);
        if index.read(&mut bytes, record_pos(first)).is_err() {
            continue;
        }
        for (slot, bytes) in slots.zip(bytes.as_chunks::<RECORD>().0) {
            if let Some(record) = Record::decode(bytes, slot, sizes.slot) {
                records.resize(slot as usize, None);
                records.push(Some(record));
            }
        }
    }
}
