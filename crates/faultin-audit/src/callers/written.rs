//! The common part of rows 8 to 13: a write of the user's segments to a cached file, by one of the loops of
//! `faultin_cache`.
//!
//! The file begins with the bytes of the buffer: a buffer that is a mapping of the written folio shows these. Other bytes
//! follow up to the file's end, across which the write goes; the store has both, the cache nothing yet. Its blocks are
//! small, so that a buffer of 200 bytes spans several of them.
//!
//! The product is the file: the bytes that were counted, at their place, and everything else unchanged; in the cache, and
//! in the store once it is written back; with the right length; and no space reserved or allocated that no byte needs.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use faultin::iov::{IovSource, ReadSegment};
use faultin::memory::ReadMemory;
use faultin::{Fault, Short};
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::mutation::{Bug as WriteBug, Mutated};
use faultin_cache::store::MemoryStore;
use faultin_cache::write::{Decision, Observer, WriteLoop};
use faultin_cache::{CacheOptions, CachedFile, Error, FileOptions, Partial};

use super::copy_page_from_iter_iovec::segments;
use super::{Ended, Halt};
use crate::bug::{Bug, Loops};
use crate::log::{Log, Stuck};
use crate::user::{Object, Scale, User};

/// Everything was written.
pub(super) const WRITTEN: &str = "ok";
/// Some bytes were written.
pub(super) const SHORT: &str = "short";
/// Nothing, because of the buffer.
pub(super) const EFAULT: &str = "EFAULT";

const INODE: &str = "the inode";

/// The contents of the file after the bytes of the buffer.
const BACKGROUND: u8 = 0x77;

/// Positions in bytes.
struct Layout {
    block: usize,
    /// The position of the write.
    pos: usize,
    /// The end of the file, within the write.
    end: usize,
}

impl Layout {
    /// The write begins `before` bytes before a block, and the file ends in the last but one of its blocks.
    fn of(scale: Scale) -> Layout {
        match scale {
            // Pieces of 60, 64, 64 and 12 bytes.
            Scale::Full => Layout { block: 64, pos: 5 * 64 - 60, end: 5 * 64 + 80 },
            // Pieces of 3, 4, 4 and 3.
            Scale::Small => Layout { block: 4, pos: 5 * 4 - 3, end: 5 * 4 + 5 },
        }
    }
}

/// Makes the buffer: 200 bytes, half of them on each page; or 14.
pub(super) fn object(scale: Scale) -> Object {
    match scale {
        Scale::Full => Object::new((1..=200).collect(), 100).with_tail(132).with_restart(100),
        Scale::Small => Object::new((1..=14).collect(), 6).with_tail(10).with_restart(6),
    }
}

/// Does the job by this loop.
pub(super) fn write<U: User>(how: WriteLoop, user: &U, log: &mut Log) -> Result<Ended, Halt> {
    let layout = Layout::of(user.scale());
    let buffer = user.source()?;
    let parts = segments(buffer.len());
    let bug = log.write_bug().map(|bug| match bug {
        WriteBug::StepsBySegment(_) => WriteBug::StepsBySegment(parts.clone().map(|part| part.len())),
        other => other,
    });
    let before = before(&layout, user)?;
    let store = Arc::new(MemoryStore::new(before.clone()));
    let cache = CacheOptions::new().block(layout.block).limit(16 * layout.block).build();
    let options = FileOptions::new().max_folio(layout.block).write_loop(how);
    let file = cache.open_with(Arc::clone(&store), options)?;

    let [first, empty, last] = parts.map(|range| buffer.subslice(range).expect("within the buffer"));
    let parts = [first, empty, last].map(ReadSegment::Memory);
    let mut from = IovSource::new(&parts);
    let mut looker = Looker::new(log, "copy with page faults disabled", "fault-in (some is enough)");
    let loops = Mutated::new(&file, Loops(bug));
    let written = if looker.log.has(Bug::CopiesUnderTheLock) {
        loops.write_iter_with::<_, MayWait>(&mut from, layout.pos as u64, &mut looker)
    } else {
        loops.write_iter_with::<_, NoWait>(&mut from, layout.pos as u64, &mut looker)
    };
    if let Some(stuck) = looker.stuck {
        // An unfinished write is not checked, nor written back.
        return Err(Halt::Stuck(stuck));
    }
    let (moved, status) = match written {
        Ok(all) => (all, WRITTEN),
        Err(Partial { error: Error::Deadlock(_), .. }) => return Err(Halt::Stuck(Stuck::Deadlock)),
        Err(Partial { done: 0, error: Error::Fault(_) | Error::NoProgress(_) }) => (0, EFAULT),
        Err(Partial { done, error: Error::Fault(_) | Error::NoProgress(_) }) => (done, SHORT),
        Err(Partial { error, .. }) => return Err(Halt::Machine(error.into())),
    };
    let contents = user.contents()?;
    let mut product = check(&layout, &file, &store, before, contents.get(..moved).unwrap_or_default());
    if product.is_ok() && from.moved() != moved {
        product = Err(format!("the position moved by {} bytes, the count says {moved}", from.moved()));
    }
    Ok(Ended { status, moved, product })
}

/// Returns the initial contents of the file.
fn before(layout: &Layout, user: &impl User) -> Result<Vec<u8>, Halt> {
    let mut before = user.contents()?;
    before.truncate(layout.pos);
    before.resize(layout.end, BACKGROUND);
    Ok(before)
}

/// Checks that `moved`, and nothing else, is in the file.
fn check(
    layout: &Layout,
    file: &CachedFile,
    store: &MemoryStore,
    mut expected: Vec<u8>,
    moved: &[u8],
) -> Result<(), String> {
    let end = layout.pos + moved.len();
    expected.resize(expected.len().max(end), 0);
    expected[layout.pos..end].copy_from_slice(moved);
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (reserved, dirty) = (store.reserved(), file.dirty());
    // A loop that does not reserve has nothing reserved.
    if reserved != dirty && reserved != 0 {
        return Err(format!("{reserved} bytes are reserved, {dirty} are dirty"));
    }
    let blocks = expected.len().next_multiple_of(layout.block) as u64;
    if store.allocated() > blocks {
        return Err(format!("allocated up to {}, where the file's last block ends at {blocks}", store.allocated()));
    }
    let mut cached = vec![0; expected.len() + 1];
    let read = file.read_at(&mut cached, 0).map_err(|error| said(&error))?;
    compare("in the cache", &cached[..read], &expected)?;
    file.sync_all().map_err(|error| said(&error))?;
    compare("in the store", &store.contents(), &expected)?;
    match (store.reserved(), file.dirty()) {
        (0, 0) => Ok(()),
        (reserved, dirty) => Err(format!("written back, and {reserved} bytes are reserved, {dirty} dirty")),
    }
}

/// Compares bytes with the expected ones; an error has the first difference.
pub(super) fn compare(place: &str, bytes: &[u8], expected: &[u8]) -> Result<(), String> {
    if bytes.len() != expected.len() {
        return Err(format!("{} bytes {place}, where {} must be", bytes.len(), expected.len()));
    }
    match bytes.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{:#x} at {at} {place}, where {:#x} must be", bytes[at], expected[at])),
    }
}

/// Logs the steps of the loop.
pub(super) struct Looker<'a, 'l> {
    pub(super) log: &'a mut Log<'l>,
    /// The reason why it was ended.
    pub(super) stuck: Option<Stuck>,
    /// The name of a copy.
    copy: &'static str,
    /// The name of a fault-in.
    fault_in: &'static str,
    beside: Option<&'a mut dyn Beside>,
}

/// An action during a loop, at certain points of it.
pub(super) trait Beside {
    /// A copy was attempted, and was short or not.
    fn copied(&mut self, short: bool) {
        let _ = short;
    }

    /// The inode lock was taken.
    fn locked(&mut self) {}
}

impl Beside for () {}

impl<'a, 'l> Looker<'a, 'l> {
    pub(super) fn new(log: &'a mut Log<'l>, copy: &'static str, fault_in: &'static str) -> Looker<'a, 'l> {
        Looker { log, stuck: None, copy, fault_in, beside: None }
    }

    pub(super) fn beside(self, beside: &'a mut dyn Beside) -> Looker<'a, 'l> {
        Looker { beside: Some(beside), ..self }
    }
}

impl Observer for Looker<'_, '_> {
    fn locked(&mut self) {
        self.log.lock(INODE);
        if let Some(beside) = &mut self.beside {
            beside.locked();
        }
    }

    fn unlocked(&mut self) {
        self.log.unlock(INODE);
    }

    fn faulted_in(&mut self, len: usize, result: &Result<NonZeroUsize, Fault>) {
        match result {
            Ok(bytes) if bytes.get() < len => {
                self.log.decide(format!("{}: {bytes} of {len} bytes", self.fault_in));
            }
            result => self.log.accessed(self.fault_in, len, result),
        }
        if result.is_ok() {
            self.log.faulted_in();
        }
    }

    fn copied(&mut self, len: usize, result: &Result<usize, Short>) {
        self.log.copied(self.copy, len, &result.map(drop));
        if let Some(beside) = &mut self.beside {
            beside.copied(result.is_err());
        }
    }

    fn decided(&mut self, what: Decision) {
        self.log.decide(match what {
            Decision::Reject(bytes) => {
                Cow::from(format!("write_end: the block is not up to date, {bytes} bytes refused"))
            }
            Decision::Complete => "bring the rest of the block up to date".into(),
            Decision::AskFor(bytes) => format!("ask for at most {bytes} bytes").into(),
            Decision::Reserve(bytes) => format!("reserve {bytes} bytes").into(),
            Decision::Release(bytes) => format!("release {bytes} bytes of that").into(),
            Decision::Preallocate => "allocate the whole range".into(),
            Decision::DoNotPreallocate => "allocate nothing: not every byte could be faulted in".into(),
            Decision::Trim => "give back what was allocated behind the end".into(),
            Decision::WriteThrough => "send what was copied".into(),
            other => format!("{other:?}").into(),
        });
    }

    fn again(&mut self) -> ControlFlow<()> {
        match self.log.again() {
            Ok(()) => ControlFlow::Continue(()),
            Err(stuck) => {
                self.stuck = Some(stuck);
                ControlFlow::Break(())
            }
        }
    }
}
