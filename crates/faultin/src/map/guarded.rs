//! [`Guarded`]: maps whose mapping foreign code reads, with zeros in place of what fails; and [`Damaged`], its error.

use core::fmt;
use core::ops::Range;
use std::fs::File;

use super::engine::Engine;
use super::error::{Change, MapError, OperationError, Reason};
use super::mapping::Mapping;
use crate::arch;
use crate::fault::{Access, Cause, Fault};
use crate::signal;

/// The result of a closure whose bytes were not all the file's, or not all of one time.
///
/// It ran to its end (unless there was no memory to run it on), and saw zeros where the file had no page.
#[derive(Debug)]
#[non_exhaustive]
pub struct Damaged<T> {
    /// What the closure returned, `None` if it was not called.
    pub value: Option<T>,
    /// Position in the map of the first byte that was not the file's; the bytes before it were. `None` if the file has
    /// changed in a way that leaves no trace in memory: then the position is unknown.
    pub first_bad: Option<u64>,
    /// The ranges in the map that may have been zeros instead of the file's bytes, within the requested range: ascending
    /// and not adjacent. They are whole pages, except where the file ended; after very many of them, they may include bytes
    /// between two.
    pub ranges: Vec<Range<u64>>,
    /// The change that was detected, if that is the reason.
    pub change: Option<Change>,
    /// The reason.
    pub error: MapError,
    /// Whether another mode would report no error if other processes only append.
    may_be_a_log: bool,
}

impl<T> Damaged<T> {
    pub(in crate::map) fn new(value: Option<T>, ranges: Vec<Range<u64>>, error: MapError) -> Self {
        let first_bad = ranges.first().map(|range| range.start);
        let change = error.change();
        Damaged { value, first_bad, ranges, change, error, may_be_a_log: false }
    }

    /// Returns the same damage with the result of another closure.
    pub(in crate::map) fn of<U>(self, value: Option<U>) -> Damaged<U> {
        let Damaged { first_bad, ranges, change, error, may_be_a_log, .. } = self;
        Damaged { value, first_bad, ranges, change, error, may_be_a_log }
    }
}

impl<T> From<Damaged<T>> for std::io::Error {
    /// As its [`MapError`]: what the closure returned, and which bytes were bad, stay behind.
    fn from(damaged: Damaged<T>) -> Self {
        MapError::from(damaged).into_io()
    }
}

impl<T> fmt::Display for Damaged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        match self.may_be_a_log {
            true => {
                f.write_str(" while its mapping was read; if others only append to it, map it with Watch::Appending")
            }
            false => Ok(()),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for Damaged<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<Damaged<T>> for MapError {
    fn from(damaged: Damaged<T>) -> Self {
        damaged.error
    }
}

/// What is known of the bytes of a [`Scan`] when it has ended.
pub(super) struct Scanned {
    /// The ranges in the map that were zeros instead, [`joined`].
    pub bad: Vec<Range<u64>>,
    /// The length to which a fault has found the file truncated.
    pub cut_to: Option<u64>,
    address: usize,
}

impl Scanned {
    /// Returns the number of bytes from `start` to the first bad one, and the fault there.
    pub(super) fn first_fault(&self, start: u64) -> (usize, Fault) {
        let done = (self.bad.first().map_or(start, |first| first.start) - start) as usize;
        (done, Fault::rejected(Access::Read, Cause::Backing, self.address + done))
    }
}

/// A part of a mapping that foreign code reads: until this ends or is dropped, also by a panic, pages that fail are replaced
/// by zeros.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    mapping: &'a Mapping,
    file: &'a File,
    lead: usize,
    from: usize,
    bytes: *const [u8],
}

impl<'a> Scan<'a> {
    /// Begins a scan of `len` bytes of a mapping of `file`, from position `start` of its map, which begins `lead` bytes into
    /// the mapping. Where that is not possible, and for an empty range, returns `None`: a copy is to be read.
    pub(super) fn begin(
        mapping: Option<&'a Mapping>,
        file: &'a File,
        lead: usize,
        start: usize,
        len: usize,
    ) -> Option<Self> {
        // (An empty range may begin anywhere.)
        let mapping = mapping.filter(|_| len > 0 && arch::HAS_TABLE && !bus_is_blocked())?;
        let from = lead + start;
        let place = mapping.range(from, len).ok().filter(|_| mapping.enter(file))?.0;
        Some(Scan { mapping, file, lead, from, bytes: core::ptr::slice_from_raw_parts(place, len) })
    }

    /// Returns the bytes: mapped and readable until the scan ends, whatever happens to the file.
    pub(super) fn bytes(&self) -> *const [u8] {
        self.bytes
    }

    /// Ends the scan.
    pub(super) fn end(self) -> Scanned {
        let damage = self.mapping.damage(self.from, self.bytes.len());
        let in_map = |bad: Range<usize>| (bad.start - self.lead) as u64..(bad.end - self.lead) as u64;
        let bad = joined(damage.into_iter().map(in_map).collect());
        Scanned { bad, cut_to: self.mapping.cut_to(), address: self.bytes.addr() }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        self.mapping.leave(self.file);
    }
}

/// Returns zeroed memory for a copy of `len` bytes.
pub(super) fn zeros(len: usize) -> Result<Vec<u8>, OperationError> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(len).map_err(|_| OperationError::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM)))?;
    copy.resize(len, 0);
    Ok(copy)
}

/// Where the bytes are that foreign code reads.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Mapped(Scan<'a>),
    /// A copy, and whether its bytes are the file's.
    Copy(Vec<u8>, Box<Result<(), Damaged<()>>>),
}

impl Bytes<'_> {
    pub(super) fn get(&self) -> *const [u8] {
        match self {
            Bytes::Mapped(scan) => scan.bytes(),
            Bytes::Copy(copy, _) => &raw const **copy,
        }
    }
}

/// A map whose bytes foreign code reads.
pub(super) trait Guarded {
    /// What is known of the file when that begins.
    type Known;

    fn engine(&self) -> &Engine;

    fn mapping(&self) -> Option<&Mapping>;

    /// Makes an error of an operation that began at `at`.
    fn error(&self, at: u64, stop: OperationError) -> MapError;

    /// Returns the size of the file that was known.
    fn size(&self, known: &Self::Known) -> u64;

    /// Reads bytes from the file.
    fn read(&self, known: &Self::Known, at: u64, dst: &mut [u8]) -> Result<(), OperationError>;

    /// Checks after `len` bytes from `at` were read that they were the file's.
    fn check(&self, known: &Self::Known, at: u64, len: usize) -> Result<(), OperationError>;

    /// Returns whether a file that only grows would be no error in another mode.
    fn may_be_a_log(&self) -> bool;

    /// Calls `read` with the bytes of a range.
    fn run<T>(
        &self,
        known: &Self::Known,
        range: &Range<u64>,
        read: impl FnOnce(*const [u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let bytes = self.begin(known, range).map_err(|damaged| damaged.of(None))?;
        let value = read(bytes.get());
        match self.end(known, range, bytes) {
            Ok(()) => Ok(value),
            Err(damaged) => Err(damaged.of(Some(value))),
        }
    }

    /// Begins with the mapping itself, or a copy where that is not possible.
    ///
    /// # Errors
    /// [`Damaged`] if there is no memory for a copy.
    fn begin(&self, known: &Self::Known, range: &Range<u64>) -> Result<Bytes<'_>, Damaged<()>> {
        let (engine, len) = (self.engine(), (range.end - range.start) as usize);
        let scan = Scan::begin(self.mapping(), engine.file(), engine.lead(), range.start as usize, len);
        if let Some(scan) = scan {
            return Ok(Bytes::Mapped(scan));
        }
        let mut copy = zeros(len).map_err(|stop| Damaged::new(None, Vec::new(), self.error(range.start, stop)))?;
        // The copy does not change any more: changes of the file while it is read do not matter.
        let copied = self.read(known, range.start, &mut copy).and_then(|()| self.check(known, range.start, len));
        let checked = copied.map_err(|stop| {
            copy[stop.done.min(len)..].fill(0);
            let bad = range.start + stop.done as u64..range.end;
            self.damaged(range, vec![bad], stop)
        });
        Ok(Bytes::Copy(copy, Box::new(checked)))
    }

    /// Ends it, and checks the bytes.
    fn end(&self, known: &Self::Known, range: &Range<u64>, bytes: Bytes<'_>) -> Result<(), Damaged<()>> {
        let scan = match bytes {
            Bytes::Mapped(scan) => scan,
            Bytes::Copy(_, checked) => return *checked,
        };
        let len = scan.bytes().len();
        let scanned = scan.end();
        let checked = self.check(known, range.start, len);
        let (done, fault) = scanned.first_fault(range.start);
        let Scanned { bad, cut_to, .. } = scanned;
        if bad.is_empty() {
            return checked.map_err(|stop| self.damaged(range, bad, stop));
        }
        let stop = match (cut_to, checked) {
            // Whatever its size is by now: it ended there when it was read.
            (Some(to), _) if to < self.engine().offset(range.end) => {
                OperationError::new(done, Reason::Changed(Change::Shrunk { from: self.size(known), to }))
            }
            (_, Err(stop)) => stop,
            (_, Ok(())) => match self.read(known, range.start + done as u64, &mut [0]) {
                Err(stop) => OperationError { done, ..stop },
                // The file recovered, or the mapping needed memory that reading does not: only the fault is known.
                Ok(()) => OperationError::new(done, Reason::Fault(fault)),
            },
        };
        Err(self.damaged(range, bad, OperationError { fault: Some(fault), ..stop }))
    }

    /// Makes the result for a `range` in which these `ranges` were zeros.
    #[cold]
    fn damaged(&self, range: &Range<u64>, mut ranges: Vec<Range<u64>>, mut stop: OperationError) -> Damaged<()> {
        if let Reason::Changed(Change::Shrunk { to, .. }) = stop.reason {
            // The rest of the file's last page reads as zeros without a fault.
            let end = to.saturating_sub(self.engine().window().start).max(range.start);
            ranges.push(end..range.end);
        }
        let ranges = joined(ranges);
        if let Some(first) = ranges.first() {
            stop.done = (first.start - range.start) as usize;
        }
        let may_be_a_log = self.may_be_a_log()
            && ranges.is_empty()
            && matches!(stop.reason, Reason::Changed(Change::Grown { .. } | Change::Rewritten));
        Damaged { may_be_a_log, ..Damaged::new(Some(()), ranges, self.error(range.start, stop)) }
    }
}

/// Returns the same ranges: ascending, not adjacent, and without empty ones.
pub(super) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let joined = next.start <= last.end;
        if joined {
            last.end = last.end.max(next.end);
        }
        joined
    });
    ranges
}

/// Returns whether a fault in this thread would kill the process.
fn bus_is_blocked() -> bool {
    let [_, bus] = signal::blocked();
    bus
}
