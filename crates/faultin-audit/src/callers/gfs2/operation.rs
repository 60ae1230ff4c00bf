//! One operation, a read or a write, buffered or direct, on a cached file.
//!
//! The lock that gfs2 takes for the operation and, once more, for a page fault of a mapped file is the inode lock here. *As
//! found* it is held while the buffer faults: a buffered copy is made with page faults enabled under it, and for a direct
//! one, whose pages the kernel faults in for gfs2, they are faulted in under it; an error is reported whatever was moved
//! before. *Fixed* copies with page faults disabled under the lock, drops it, faults in, and continues where it stopped.
//!
//! The product of a write is the file: the bytes that were moved, at their place, and everything else unchanged; in the
//! cache, and in the store once it is written back. That of a read is the buffer, and the file unchanged. As found an error
//! is not without effect: the bytes that were moved are there, and no more.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use faultin::Cause;
use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::mutation::{Bug as WriteBug, Mutated};
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};

use super::disk::Disk;
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Loops;
use crate::caller::{Code, Ended, Halt};
use crate::callers::looker::{Beside, Looker};
use crate::callers::product::{STRADDLING, compare};
use crate::log::{Log, Stuck};
use crate::user::{Object, Registers, Scale, User};

/// Everything was moved.
pub(super) const OK: &str = "ok";
/// Some bytes were written.
pub(super) const SHORT: &str = "short";
/// Nothing, because of the buffer; as found by direct I/O: any number.
pub(super) const EFAULT: &str = "EFAULT";

/// The contents of the buffer before a read.
const STALE: u8 = 0x77;

/// One of the four operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    BufferedWrite,
    BufferedRead,
    DirectRead,
    DirectWrite,
}

impl Operation {
    pub(super) const fn writes(self) -> bool {
        matches!(self, Operation::BufferedWrite | Operation::DirectWrite)
    }

    const fn is_direct(self) -> bool {
        matches!(self, Operation::DirectRead | Operation::DirectWrite)
    }

    /// Returns the observer that logs this operation.
    fn looker<'a, 'l>(self, variant: Variant, log: &'a mut Log<'l>) -> Looker<'a, 'l> {
        match (variant, self.is_direct()) {
            (AsFound, false) => Looker::new(
                log,
                "copy with page faults enabled under the lock",
                "page fault of the copy, served with the lock held",
            ),
            (AsFound, true) => Looker::new(
                log,
                "take the pages of the buffer as they are, copy",
                "page fault of the buffer, served with the lock held",
            ),
            (Fixed, _) => Looker::new(log, "copy with page faults disabled", "fault-in without the lock"),
        }
    }
}

/// Positions in bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) block: usize,
    /// The store's unit.
    pub(super) unit: usize,
    /// The position of the read or write.
    pub(super) pos: usize,
    /// The end of the file.
    pub(super) end: usize,
}

impl Layout {
    /// A write ends past the end of the file, a read before it.
    pub(super) fn of(operation: Operation, scale: Scale) -> Layout {
        let (block, len) = match scale {
            Scale::Full => (64, 256),
            Scale::Small => (8, 16),
        };
        let pos = 4 * block;
        let end = if operation.writes() { pos + len / 2 + block / 4 } else { pos + len + block + block / 4 };
        Layout { block, unit: block, pos, end }
    }

    /// Returns the initial contents of the file: they differ from the buffer's everywhere.
    pub(super) fn contents(&self) -> Vec<u8> {
        (0..self.end).map(|at| (at % 101) as u8 | 0x80).collect()
    }

    pub(super) fn open(&self, contents: &[u8]) -> io::Result<Opened> {
        let disk = Arc::new(Disk::new(contents.to_vec(), self.unit));
        let cache = CacheOptions::new().block(self.block).limit(64 * self.block).build();
        let file = open(&cache, &disk, self.block)?;
        Ok(Opened { cache, disk, file })
    }
}

/// An open file, and its layout.
pub(super) struct Opened {
    pub(super) cache: Cache,
    pub(super) disk: Arc<Disk>,
    pub(super) file: CachedFile,
}

pub(super) fn open(cache: &Cache, disk: &Arc<Disk>, max_folio: usize) -> io::Result<CachedFile> {
    cache.open_with(Arc::clone(disk), FileOptions::new().max_folio(max_folio))
}

/// Returns the switch that makes it as found, or a bug.
fn loops(variant: Variant, log: &Log) -> Loops {
    let as_found = (variant == AsFound).then_some(WriteBug::FaultsInUnderTheLock);
    Loops(as_found.or(log.write_bug()))
}

/// Makes the buffer: half of it on each page, in several segments one of which is empty; its tail begins within a unit of
/// the store.
pub(super) fn object(operation: Operation, scale: Scale) -> Object {
    let byte = |byte: u8| if operation.writes() { byte } else { STALE };
    match scale {
        Scale::Full => {
            Object::new((0..=255).map(|at: u8| byte(at >> 1)).collect(), 128).with_tail(208).with_restart(128)
        }
        Scale::Small => Object::new((1..=16).map(byte).collect(), 8).with_tail(12).with_restart(8),
    }
}

/// Returns the segments of the buffer.
fn cuts(len: usize) -> [std::ops::Range<usize>; 3] {
    [0..len / 4, len / 4..len / 4, len / 4..len]
}

impl Code for Operation {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        object(*self, scale)
    }

    /// With any user's memory.
    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let layout = Layout::of(*self, user.scale());
        let before = layout.contents();
        let opened = layout.open(&before)?;
        let moved = match self.writes() {
            true => write(*self, variant, &opened.file, user.source()?, layout.pos, log, &mut ())?,
            false => read(*self, variant, &opened.file, user.dest()?, layout.pos, log, &mut ())?,
        };
        let buffer = user.contents()?;
        let product = if self.writes() {
            check_file(&opened, before, layout.pos, &buffer[..moved.done])
        } else {
            let stale = vec![STALE; buffer.len()];
            check_buffer(&buffer, &before[layout.pos..], &stale, moved.done)
                .and_then(|()| check_file(&opened, before, layout.pos, &[]))
        };
        Ok(moved.ended(product))
    }
}

/// The result of an operation.
pub(super) struct Moved {
    /// Number of bytes that were moved.
    pub(super) done: usize,
    /// Number of bytes that are reported.
    pub(super) reported: usize,
    pub(super) status: &'static str,
}

impl Moved {
    pub(super) fn ended(self, product: Result<(), String>) -> Ended {
        Ended { status: self.status, moved: self.reported, product }
    }
}

/// Writes from a buffer.
pub(super) fn write<M: ReadMemory + ReadNoWait>(
    operation: Operation,
    variant: Variant,
    file: &CachedFile,
    buffer: M,
    pos: usize,
    log: &mut Log,
    beside: &mut dyn Beside,
) -> Result<Moved, Halt> {
    let parts = cuts(buffer.len()).map(|cut| ReadSegment::Memory(buffer.subslice(cut).expect("within the buffer")));
    let mut from = IovSource::new(&parts);
    let file = Mutated::new(file, loops(variant, log));
    let mut looker = operation.looker(variant, log).beside(beside);
    let result = match (operation.is_direct(), variant) {
        (true, _) => file.write_direct_with::<_, NoWait>(&mut from, pos as u64, &mut looker),
        (false, AsFound) => file.write_iter_with::<_, MayWait>(&mut from, pos as u64, &mut looker),
        (false, Fixed) => file.write_iter_with::<_, NoWait>(&mut from, pos as u64, &mut looker),
    };
    ended(operation, variant, result, (from.moved(), buffer.len()), looker)
}

/// Reads to a buffer.
pub(super) fn read<M: WriteMemory + WriteNoWait>(
    operation: Operation,
    variant: Variant,
    file: &CachedFile,
    buffer: M,
    pos: usize,
    log: &mut Log,
    beside: &mut dyn Beside,
) -> Result<Moved, Halt> {
    let len = buffer.len();
    let mut parts = cuts(len).map(|cut| WriteSegment::Memory(buffer.subslice(cut).expect("within the buffer")));
    let mut to = IovDest::new(&mut parts);
    let file = Mutated::new(file, loops(variant, log));
    let mut looker = operation.looker(variant, log).beside(beside);
    let result = match (operation.is_direct(), variant) {
        (true, _) => file.read_direct_with::<_, NoWait>(&mut to, pos as u64, &mut looker),
        (false, AsFound) => file.read_iter_with::<_, MayWait>(&mut to, pos as u64, &mut looker),
        (false, Fixed) => file.read_iter_with::<_, NoWait>(&mut to, pos as u64, &mut looker),
    };
    ended(operation, variant, result, (to.moved(), len), looker)
}

/// Returns the result, and checks it against the list of segments.
fn ended(
    operation: Operation,
    variant: Variant,
    result: Result<usize, Partial>,
    (position, all): (usize, usize),
    looker: Looker<'_, '_>,
) -> Result<Moved, Halt> {
    if let Some(stuck) = looker.stuck {
        return Err(Halt::Stuck(stuck));
    }
    let (done, status) = match result {
        Ok(done) if done == all => (done, OK),
        Ok(done) => return Err(failed(format!("{done} of {all} bytes, and no reason"))),
        Err(Partial { error, .. }) if is_deadlock(&error) => {
            if let Error::Deadlock(circle) = &error {
                looker.log.decide(circle.to_string());
            }
            return Err(Halt::Stuck(Stuck::Deadlock));
        }
        Err(Partial { done: 0, error: Error::Fault(_) | Error::NoProgress(_) }) => (0, EFAULT),
        Err(Partial { done, error: Error::Fault(_) | Error::NoProgress(_) }) => (done, SHORT),
        Err(Partial { error, .. }) => return Err(Halt::Machine(error.into())),
    };
    if position != done {
        return Err(failed(format!("the position moved by {position} bytes, the count says {done}")));
    }
    if status == SHORT && variant == AsFound && operation.is_direct() {
        looker.log.decide(format!("return the error: the {done} bytes that were moved are not reported"));
        return Ok(Moved { done, reported: 0, status: EFAULT });
    }
    Ok(Moved { done, reported: done, status })
}

/// Returns whether a fault could not be resolved because of a lock that is held, or the operation itself could not get its
/// lock.
fn is_deadlock(error: &Error) -> bool {
    match error {
        Error::Deadlock(_) => true,
        Error::Fault(fault) | Error::NoProgress(fault) => fault.cause() == Cause::Deadlock,
        _ => false,
    }
}

pub(super) fn failed(what: String) -> Halt {
    Halt::Machine(io::Error::other(what))
}

/// Checks that `moved` at `pos`, and nothing else, has changed in the `expected` file.
pub(super) fn check_file(opened: &Opened, mut expected: Vec<u8>, pos: usize, moved: &[u8]) -> Result<(), String> {
    if !moved.is_empty() {
        expected.resize(expected.len().max(pos + moved.len()), 0);
        expected[pos..pos + moved.len()].copy_from_slice(moved);
    }
    let mut cached = vec![0; expected.len() + 1];
    let read = opened.file.read_at(&mut cached, 0).map_err(|error| error.to_string())?;
    compare("in the cache", &cached[..read], &expected)?;
    opened.file.sync_all().map_err(|error| error.to_string())?;
    compare("in the store", &opened.disk.contents(), &expected)
}

/// Checks that the first `moved` bytes of a buffer are those that were `read`, and the others are unchanged.
pub(super) fn check_buffer(buffer: &[u8], read: &[u8], before: &[u8], moved: usize) -> Result<(), String> {
    compare("in front of what the count says", &buffer[..moved], &read[..moved])?;
    let straddling = |at: usize| at < moved + STRADDLING && buffer[at] == read[at];
    match (moved..buffer.len()).find(|&at| buffer[at] != before[at] && !straddling(at)) {
        None => Ok(()),
        Some(at) => Err(format!("{:#x} at {at} behind the count of {moved}", buffer[at])),
    }
}
