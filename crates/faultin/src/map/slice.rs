//! [`FileMap::with_slice`] and [`FileMap::with_raw`]: foreign code over the mapping itself, and [`Damaged`], its error.

use core::fmt;
use core::ops::{Range, RangeBounds};
use std::fs::File;

use super::answer::Answer;
use super::error::{Change, MapError, OperationError, Reason};
use super::file::FileMap;
use super::mapping::{Mapping, Repair};
use super::options::Watch;
use super::range::within;
use super::record::Baseline;
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
    pub(super) fn new(value: Option<T>, ranges: Vec<Range<u64>>, error: MapError) -> Self {
        let first_bad = ranges.first().map(|range| range.start);
        let change = error.change();
        Damaged { value, first_bad, ranges, change, error, may_be_a_log: false }
    }

    /// Returns the same damage with the result of another closure.
    pub(super) fn of<U>(self, value: Option<U>) -> Damaged<U> {
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

/// The bytes of a map that foreign code reads, from [`FileMap::enter`] until it is left or dropped. Not part of the interface.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entered<'a> {
    map: &'a FileMap,
    known: Baseline,
    range: Range<u64>,
    bytes: Bytes<'a>,
}

/// Where the bytes are that foreign code reads.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Mapped(Scan<'a>),
    /// A copy, and whether its bytes are the file's.
    Copy(Vec<u8>, Box<Result<(), Damaged<()>>>),
}

/// A copy for foreign code to read, and whether its bytes are the file's.
pub(super) type Copied = (Vec<u8>, Result<(), Damaged<()>>);

impl Bytes<'_> {
    pub(super) fn get(&self) -> *const [u8] {
        match self {
            Bytes::Mapped(scan) => scan.bytes(),
            Bytes::Copy(copy, _) => &raw const **copy,
        }
    }
}

impl Entered<'_> {
    /// Returns the bytes: readable until the entry is left.
    pub fn bytes(&self) -> *const [u8] {
        self.bytes.get()
    }

    /// Returns whether the bytes are a copy.
    pub fn is_copy(&self) -> bool {
        matches!(self.bytes, Bytes::Copy(..))
    }

    /// Ends the entry.
    ///
    /// # Errors
    /// [`Damaged`] if not all bytes were the file's.
    pub fn leave(self) -> Result<(), Damaged<()>> {
        match self.bytes {
            Bytes::Mapped(scan) => self.map.end_scan(&self.known, &self.range, scan.bytes().len(), scan),
            Bytes::Copy(_, checked) => *checked,
        }
    }
}

impl FileMap {
    /// Calls `read` with the bytes of a range as a slice of the mapping itself: any code, at the speed of a raw mapping. A
    /// range that ends past the map ends with it.
    ///
    /// While it runs, missing pages (the file was truncated, its disk fails) are replaced by zeros, which is reported
    /// afterwards, and the file is checked as after every operation. Bytes that the closure has seen cannot be read again.
    /// So under [`Watch::Reader`] and [`Watch::Contents`] any move of the size or the time of modification is [`Damaged`],
    /// also one before the closure ran that no operation has accepted yet. For a log to which other processes only append,
    /// use [`Watch::Appending`]. A [fresh](super::Watch) stamp waits for the end of the tick before the closure runs.
    ///
    /// The replaced pages stay until the last closure that reads them has returned; then the file is mapped again. Until
    /// then the other operations of the map read from the file, and closures that begin get a copy. A truncated file costs
    /// one signal, an unreadable one about as many as its number of pages has binary digits.
    ///
    /// Several threads may do this, and one inside another, over the same map and others. System calls that are given the
    /// slice fail with `EFAULT` where a page is missing, as on every mapping.
    ///
    /// The closure also gets a copy, as large as the range, over pread, in a thread that blocks SIGBUS, on architectures
    /// without assembly of this crate, and where the handler could not replace a page (the process has the maximum number
    /// of mappings, `mmap` is forbidden, or the mapping is sealed). Changes of the file while the closure reads the copy
    /// are no damage.
    ///
    /// # Errors
    /// [`Damaged`], with the closure's result, and the ranges of bytes that were not the file's.
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// If SIGBUS does not reach our handler: another one that was installed later keeps it for itself, or the closure
    /// blocks it. If the closure forbids `mmap` to the process (seccomp), or seals the mapping.
    ///
    /// # What may be called
    ///
    /// Two questions decide. Does the code stay within memory that it may use, whatever each load returns? Does it make
    /// values whose type promises something (a `str`, an `enum`) from bytes that it has only checked in place? Code with a
    /// `no` here needs a copy of the bytes instead: [`read_at`](Self::read_at), [`chunks`](Self::chunks),
    /// [`reader`](Self::reader).
    ///
    /// | Code | May it be called? | Why |
    /// |---|---|---|
    /// | `memchr`, `memchr::memmem` | yes | Bytes are compared, and bounds come from the length of the slice. A place that was found may hold other bytes by then. |
    /// | `regex::bytes` | yes | Bytes select transitions of tables that have one for each byte. It may panic ("reverse search must match if forward search does"), because it searches twice. |
    /// | `regex` over `str` | no | The slice would have to be a `str`. |
    /// | `aho-corasick` | yes | As `regex::bytes`, with one search. |
    /// | Hashes: `blake3`, `sha2`, `crc32fast`, `xxhash` | yes | Bytes are input of arithmetic; each hash reads each byte once. After [`Damaged`], the hash is of no state of the file. |
    /// | `to_vec`, `copy_from_slice`, `Write::write_all` of the slice | yes | A copy. (A system call that is given the slice may fail with `EFAULT`.) |
    /// | `==`, `cmp`, `iter`, `contains`, `binary_search` | yes | The result is data. |
    /// | `str::from_utf8`, `simdutf8`, `bstr::ByteSlice::to_str` | no | The `&str` is of bytes that may stop being UTF-8. `String::from_utf8(bytes.to_vec())` is right: it checks the copy. |
    /// | `str::from_utf8_unchecked` after any check of the slice | no | The same. Unchecked conversions of a copy that was checked are right. |
    /// | `serde_json::from_slice`, `simd-json` | no | They check that a string is UTF-8 in place, and copy it into a `String` afterwards. |
    /// | Images: `image`, `png`, `zune-jpeg`, `libjpeg`, `libpng` | no | Sizes in headers are checked and then read again, next to `unsafe` or C code that relies on them. |
    /// | Compression: `zstd`, `lz4`, `flate2` with a C library | no | C code that checks a length or a distance, loads it again and copies that much. |
    /// | Decoders without any `unsafe` code, also in what they depend on | yes | They panic, fail, or return wrong data. (They may also allocate as much as a header says.) |
    /// | References to structures: `bytemuck::from_bytes`, `zerocopy::FromBytes::ref_from_bytes` | yes | All bytes are values of such a type. Fields may differ between two loads: copy the structure first, then check it. |
    /// | `rkyv::access`, `flatbuffers::root`, other formats that are checked and then used in place | no | The check does not hold any more when the data are used. |
    /// | Foreign functions that only copy: `memcpy`, uploads to a graphics processor | yes | As a copy. |
    ///
    /// This holds for these crates as of 2026; the remaining risk is code that is compiled to load a byte twice where its
    /// source loads it once, as the first paragraph of *Safety* says.
    ///
    /// # Safety
    ///
    /// The bytes of the `&[u8]` change during its lifetime: other code writes to the file, and pages become zeros and are
    /// restored. **By the letter of Rust's rules that is undefined behaviour, whatever the closure does**:
    /// [`with_raw`](Self::with_raw) is the form that does not break them. This function relies on what compilers do: a load
    /// through the slice is an ordinary load, which may be moved, repeated, merged with another one or left out, and
    /// nothing else is concluded from its value. `memmap2` and every other crate that returns a slice of a shared mapping
    /// relies on the same. Within that, the closure must be right whatever it reads:
    ///
    /// * No byte needs to be the same when it is read twice. A byte that was checked may differ when it is used: it must
    ///   not be passed to `from_utf8_unchecked`, `get_unchecked` and the like after a check of the same bytes, nor to code
    ///   that relies on its own checks (`str::from_utf8` returns a `&str` that may stop being UTF-8). Copy first, and check
    ///   the copy.
    /// * Code that is correct for any bytes, even if they differ between two loads, may be called: sums, hashes,
    ///   byte searches, and comparisons whose result is used as data only. [*What may be called*](#what-may-be-called) has a
    ///   table.
    /// * It must not be written to, through any pointer.
    /// * No pointer derived from it is used after the closure has returned, in any thread.
    /// * The closure returns or unwinds: no `longjmp` out of it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [2; 1000])?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// // SAFETY: a sum of bytes, whatever they are.
    /// let sum = unsafe { map.with_slice(.., |bytes| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()) }?;
    /// assert_eq!(sum, 2000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It cannot be kept: the closure's result does not borrow from it. `memmap2` requires more of its users (no process
    /// changes the file at all), and a truncation kills them.
    pub unsafe fn with_slice<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        // SAFETY: readable while the closure runs. The caller answers for the changes of its bytes, by contract.
        self.with_raw(range, |bytes| read(unsafe { &*bytes }))
    }

    /// Calls `read` as [`with_slice`](Self::with_slice) does, with a pointer instead of a reference: for code that keeps to
    /// Rust's rules and has its own loads that may race with other code (volatile loads, assembly).
    ///
    /// While the closure runs, the pointer is valid for reads, and the memory may change at any time. The bytes are
    /// initialised. They must not be written to, and the pointer is invalid after the closure has returned.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [2; 1000])?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// let sum = map.with_raw(.., |bytes| {
    ///     let first = bytes.cast::<u8>();
    ///     // SAFETY: within the bytes, while the closure runs.
    ///     (0..bytes.len()).map(|at| u64::from(unsafe { first.add(at).read_volatile() })).sum::<u64>()
    /// })?;
    /// assert_eq!(sum, 2000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`with_slice`](Self::with_slice).
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// Those of [`with_slice`](Self::with_slice). A closure that leaves by `longjmp` leaves the guard in force.
    pub fn with_raw<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(*const [u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let (known, range, len) = self.slice_range(range).map_err(|damaged| damaged.of(None))?;
        let (value, ended) = match Scan::begin(self.mapping(), self.file(), self.lead(), range.start as usize, len) {
            Some(scan) => (read(scan.bytes()), self.end_scan(&known, &range, len, scan)),
            None => {
                let (copy, checked) = self.copy_of(&known, &range, len).map_err(|damaged| damaged.of(None))?;
                (read(&raw const *copy), checked)
            }
        };
        match ended {
            Ok(()) => Ok(value),
            Err(damaged) => Err(damaged.of(Some(value))),
        }
    }

    /// Begins what [`with_raw`](Self::with_raw) does, for callers in another language: the caller reads the bytes until
    /// it [leaves](Entered::leave). Not part of the interface.
    ///
    /// # Errors
    /// [`Damaged`] if the range cannot be read at all.
    ///
    /// # Safety
    /// The result is left or dropped before the map is dropped, also where its lifetime was changed.
    #[doc(hidden)]
    pub unsafe fn enter(&self, range: impl RangeBounds<u64>) -> Result<Entered<'_>, Damaged<()>> {
        let (known, range, len) = self.slice_range(range)?;
        let bytes = match Scan::begin(self.mapping(), self.file(), self.lead(), range.start as usize, len) {
            Some(scan) => Bytes::Mapped(scan),
            None => {
                let (copy, checked) = self.copy_of(&known, &range, len)?;
                Bytes::Copy(copy, Box::new(checked))
            }
        };
        Ok(Entered { map: self, known, range, bytes })
    }

    /// Returns what is known of the file, the requested range within the map, and its length.
    fn slice_range(&self, range: impl RangeBounds<u64>) -> Result<(Baseline, Range<u64>, usize), Damaged<()>> {
        let known = self.settled();
        let range = within(range, self.window().len(known.size));
        match usize::try_from(range.end - range.start) {
            Ok(len) => Ok((known, range, len)),
            Err(_) => {
                let stop = OperationError::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
                Err(Damaged::new(None, Vec::new(), self.error(range.start, stop)))
            }
        }
    }

    /// Ends a scan, and checks the bytes that it had.
    fn end_scan(&self, known: &Baseline, range: &Range<u64>, len: usize, scan: Scan<'_>) -> Result<(), Damaged<()>> {
        let scanned = scan.end();
        let checked = self.check_slice(known, range.start, len);
        let (done, fault) = scanned.first_fault(range.start);
        let Scanned { bad, cut_to, .. } = scanned;
        if bad.is_empty() {
            return checked.map_err(|stop| self.damaged(range, bad, stop));
        }
        let stop = match (cut_to, checked) {
            // Whatever its size is by now: it ended there when it was read.
            (Some(to), _) if to < known.size => {
                Some(OperationError::new(done, Reason::Changed(Change::Shrunk { from: known.size, to })))
            }
            (_, Err(stop)) => Some(stop),
            (_, Ok(())) => self.cause_of_damage(known, range.start, done),
        };
        // The file recovered, or the mapping needed memory that reading does not: only the fault is known.
        let stop = OperationError {
            fault: Some(fault),
            ..stop.unwrap_or_else(|| OperationError::new(done, Reason::Fault(fault)))
        };
        Err(self.damaged(range, bad, stop))
    }

    /// Restores the file where a closure of [`with_slice`](Self::with_slice) met damage, if that failed when it had
    /// returned (for lack of memory). Until then those parts are read from the file.
    ///
    /// Returns [`Repair::InUse`] if closures are reading them now: the file is restored when they have returned.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be mapped.
    pub fn repair(&self) -> Result<Repair, MapError> {
        let Some(space) = self.space() else { return Ok(Repair::Whole) };
        space.all().try_fold(Repair::Whole, |all, mapping| {
            let one = mapping.repair_now(self.file()).map_err(|error| self.error(0, OperationError::io(0, error)))?;
            Ok(if one == Repair::InUse { one } else { all })
        })
    }

    /// Returns a copy of a range for a closure, and whether its bytes are the file's.
    ///
    /// # Errors
    /// [`Damaged`] if there is no memory for the copy.
    fn copy_of(&self, known: &Baseline, range: &Range<u64>, len: usize) -> Result<Copied, Damaged<()>> {
        let mut copy = zeros(len).map_err(|stop| Damaged::new(None, Vec::new(), self.error(range.start, stop)))?;
        // The copy does not change any more: changes of the file while it is read do not matter.
        let checked = match self.pread(known, range.start, &mut copy, 0) {
            Ok(()) => self.check_slice(known, range.start, len).map_err(|stop| self.damaged(range, Vec::new(), stop)),
            Err(stop) => {
                copy[stop.done..].fill(0);
                let bad = range.start + stop.done as u64..range.end;
                Err(self.damaged(range, vec![bad], stop))
            }
        };
        Ok((copy, checked))
    }

    /// Makes the result for a `range` in which these `ranges` were zeros.
    #[cold]
    fn damaged(&self, range: &Range<u64>, mut ranges: Vec<Range<u64>>, mut stop: OperationError) -> Damaged<()> {
        if let Reason::Changed(Change::Shrunk { to, .. }) = stop.reason {
            // The rest of the file's last page reads as zeros without a fault.
            let end = to.saturating_sub(self.window().start).max(range.start);
            ranges.push(end..range.end);
            ranges = joined(ranges);
        }
        if let Some(first) = ranges.first() {
            stop.done = (first.start - range.start) as usize;
        }
        let may_be_a_log = self.watch() != Watch::Appending
            && ranges.is_empty()
            && matches!(stop.reason, Reason::Changed(Change::Grown { .. } | Change::Rewritten));
        Damaged { may_be_a_log, ..Damaged::new(Some(()), ranges, self.error(range.start, stop)) }
    }

    /// Checks after a closure has read `len` bytes from `at` that they were the file's.
    fn check_slice(&self, known: &Baseline, at: u64, len: usize) -> Result<(), OperationError> {
        if self.ask(known, at, len)? == Answer::Unmoved {
            return Ok(());
        }
        // The closure cannot read again. A change time alone that moved is no error for a reader.
        let now = self.now().map_err(|error| OperationError::io(len, error))?;
        let last = &known.last;
        let within = self.clamp_to(now.size, at, len);
        match self.changed(known, at, len, &now) {
            Some(stop) if !now.has_contents_of(&last.stamp) => Err(stop),
            _ if within < len => {
                Err(OperationError::new(within, Reason::Changed(Change::Shrunk { from: known.size, to: now.size })))
            }
            None if !last.settled => Err(OperationError::new(within, Reason::Changed(Change::Touched))),
            _ => Ok(()),
        }
    }

    /// Returns the reason why the bytes `done` after `at` were replaced, if it can still be determined.
    #[cold]
    fn cause_of_damage(&self, known: &Baseline, at: u64, done: usize) -> Option<OperationError> {
        let mut byte = [0];
        let stop = self.pread(known, at + done as u64, &mut byte, 0).err()?;
        Some(OperationError { done, ..stop })
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
