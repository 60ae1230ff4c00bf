//! `faultin.guard`: mappings that other code made, and reads.
//!
//! While at least one guard of a page is active, the page is part of one [`Region`], which is registered as a pager: its
//! `in_signal` replaces pages that cannot be provided by zeros. When the last guard of a region ends, the region is closed,
//! what was replaced is put back, and the registration is dropped. Each guard reports what was replaced in any of its
//! regions, so a page that one thread has read as zeros is reported by all guards that were active: none of them knows which
//! thread has read it.
//!
//! A file may also be damaged without a fault: the rest of the last page of a truncated file reads as zeros, and so does
//! everything in one that was truncated and has grown again. So the file's state is compared at the end.

mod file;
mod maps;
mod memory;
mod region;

use core::ops::Range;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use faultin::map::{Change, Watch};
use faultin::pager::Registration;
use pyo3::exceptions::{PyOSError, PyResourceWarning, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::{Failure, change_name, no_handler, os_error};
use crate::patience::PERIOD;
use crate::status;
use file::{Found, Identity, State, Way};
pub(crate) use file::{Reference, Shown};
use maps::Mapping;
pub(crate) use maps::{Query, READABLE, SHARED, WRITABLE, open_maps, query};
use memory::{Memory, refused};
use region::{Region, SUBSTITUTED};

/// The regions of this process, with the number of guards of each. The lock is taken with the interpreter's lock held, and
/// not released in between: so no thread holds it while another one forks.
static REGIONS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

struct Registered {
    region: Arc<Region>,
    registration: Registration,
    guards: usize,
}

fn regions() -> MutexGuard<'static, Vec<Registered>> {
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of guarded regions.
pub(crate) fn active() -> usize {
    regions().len()
}

/// Returns the number of pages that were replaced so far.
pub(crate) fn substituted() -> usize {
    SUBSTITUTED.load(Ordering::Relaxed)
}

/// Forgets what belongs to the parent, in a child of `fork`.
pub(crate) fn after_fork() {
    maps::after_fork();
}

/// What one guard covers of one mapping.
struct Piece {
    /// The guarded bytes of the file.
    bytes: Range<u64>,
    /// Position in the file of address 0: subtracting keeps it exact in wrapping arithmetic.
    base: u64,
    name: OsString,
    file: Identity,
    before: Option<State>,
    regions: Vec<Arc<Region>>,
}

impl Piece {
    /// Makes a piece of a mapping that has the position `offset` of the file at `start`, without regions.
    fn new(addresses: Range<usize>, offset: u64, start: usize, name: &OsStr, file: Identity) -> Self {
        let base = offset.wrapping_sub(start as u64);
        let bytes = base.wrapping_add(addresses.start as u64)..base.wrapping_add(addresses.end as u64);
        Piece { bytes, base, name: without_suffix(name), file, before: None, regions: Vec::new() }
    }
}

/// An active `with` block.
struct Entered {
    pieces: Vec<Piece>,
    _memory: Vec<Memory>,
}

/// Guards mappings that other code reads: pages that are gone read as zeros, and the end of the block raises `DamagedError`.
#[pyclass(frozen, name = "guard", module = "faultin")]
pub(crate) struct Guard {
    objects: Py<PyTuple>,
    watch: Watch,
    entered: Mutex<Vec<Entered>>,
}

#[pymethods]
impl Guard {
    #[new]
    #[pyo3(signature = (*objects, watch = "contents"))]
    fn new(objects: Bound<'_, PyTuple>, watch: &str) -> PyResult<Self> {
        if objects.is_empty() {
            return Err(pyo3::exceptions::PyTypeError::new_err("guard() needs an array, a mapping or a buffer"));
        }
        let watch = crate::map::watch(watch)?;
        Ok(Guard { objects: objects.unbind(), watch, entered: Mutex::new(Vec::new()) })
    }

    /// Begins to guard. Returns the object, or a tuple of several.
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        status::be_first(py)?;
        let objects = self.objects.bind(py);
        let mut entered = Entered { pieces: Vec::new(), _memory: Vec::with_capacity(objects.len()) };
        for object in objects.iter() {
            let memory = Memory::of(&object)?;
            if let Err(error) = enter(py, &memory.addresses, &mut entered.pieces, self.watch) {
                leave(&mut entered.pieces);
                return Err(error);
            }
            entered._memory.push(memory);
        }
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).push(entered);
        if objects.len() == 1 { objects.get_item(0) } else { Ok(objects.clone().into_any()) }
    }

    /// Ends it. Raises `DamagedError` if a page was replaced, or the file is not as it was.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(mut entered) = entered else {
            return Err(PyRuntimeError::new_err("this guard is not active"));
        };
        let busy = || entered.pieces.iter().flat_map(|piece| &piece.regions).any(|region| region.is_busy());
        if busy() {
            // Ending the guard of a region waits for the handler with the interpreter's lock held.
            py.detach(|| {
                while busy() {
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
        }
        let restored = leave(&mut entered.pieces);
        let mut found = py.detach(|| damages(&entered.pieces, self.watch)).into_iter();
        let Some(first) = found.next() else { return Ok(()) };
        let error = error(py, first, found.collect());
        // The block's own error, if it has one, may well be a consequence.
        if let Ok(own) = exception.get_item(1) {
            error.value(py).setattr("__context__", own)?;
        }
        if !restored {
            let note = "The kernel could not put back the pages of the file: close the mapping, which has zeros in their place.";
            error.value(py).call_method1("add_note", (note,))?;
        }
        Err(error)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut zeros = None;
        for mut entered in self.entered.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            leave(&mut entered.pieces);
            let replaced = |piece: &&Piece| piece.regions.iter().any(|region| region.replaced().next().is_some());
            zeros = zeros.or_else(|| entered.pieces.iter().find(replaced).map(|piece| piece.name.clone()));
        }
        if let Some(name) = zeros {
            // (Nothing is printed by an interpreter that is ending.)
            let _ = Python::try_attach(|py| warn(py, &name));
        }
    }
}

/// Warns of a guard whose block has read zeros, and which nobody has ended. The interpreter may be handling an exception.
fn warn(py: Python<'_>, name: &OsStr) {
    let pending = PyErr::take(py);
    let text =
        format!("a guard was dropped and not ended, and the code that it guarded has read zeros in place of {name:?}");
    let warned = CString::new(text).map_err(PyErr::from);
    if let Err(error) = warned.and_then(|text| PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1)) {
        error.write_unraisable(py, None);
    }
    if let Some(error) = pending {
        error.restore(py);
    }
}

/// Guards the mappings of a range of addresses.
fn enter(py: Python<'_>, addresses: &Range<usize>, pieces: &mut Vec<Piece>, watch: Watch) -> PyResult<()> {
    let gone = |name: &OsStr| {
        let text = "no path and no descriptor leads to the mapped file, so its state cannot be compared";
        PyOSError::new_err((libc::ENOENT, text, name.to_owned()))
    };
    let mut at = addresses.start;
    while at < addresses.end {
        // What is guarded already may have pages of zeros, which the kernel shows as another mapping.
        let known =
            regions().iter_mut().find(|known| (known.region.start..known.region.end).contains(&at)).map(|known| {
                known.guards += 1;
                known.region.clone()
            });
        if let Some(region) = known {
            let end = addresses.end.min(region.end);
            // From here on, leaving the pieces ends the guard of the region.
            pieces.push(Piece::new(at..end, region.offset, region.start, &region.name, region.file));
            let Some(piece) = pieces.last_mut() else { return Ok(()) };
            piece.regions.push(region.clone());
            let first = py.detach(|| region.file_state()).ok_or_else(|| gone(&region.name))?;
            piece.before = Some(settled(py, watch, first, || region.file_state())?);
            at = end;
            continue;
        }
        let found = maps::find(at).map_err(|error| os_error(&error, None))?;
        let mapping = found.ok_or_else(|| refused(format!("nothing is mapped at {at:#x}")))?;
        check(&mapping)?;
        let Found { way, file, state } = Way::find(py, mapping.shown()).ok_or_else(|| gone(&mapping.name))?;
        let end = addresses.end.min(mapping.end);
        pieces.push(Piece::new(at..end, mapping.offset, mapping.start, &mapping.name, file));
        let Some(piece) = pieces.last_mut() else { return Ok(()) };
        piece.before = Some(settled(py, watch, state, || way.state(file))?);
        cover(py, &mapping, way, file, at..end, &mut piece.regions)?;
        at = end;
    }
    Ok(())
}

/// Rejects what cannot be guarded.
fn check(mapping: &Mapping) -> PyResult<()> {
    let name = mapping.name.to_string_lossy();
    match () {
        () if mapping.inode == 0 => Err(refused("this memory is not a mapping of a file, so it cannot lose its pages")),
        () if !mapping.is_readable => Err(refused(format!("the mapping of {name} cannot be read"))),
        () if mapping.is_writable && mapping.is_shared => Err(refused(format!(
            "a writable shared mapping of {name} cannot be guarded, because stores to a page of zeros would be lost: \
             map it read-only, or use faultin.memmap for stores that may fail"
        ))),
        () if mapping.page != faultin::page_size() => {
            Err(refused(format!("the mapping of {name} is in huge pages, which cannot be replaced one by one")))
        }
        () if !mapping.is_shared && !can_move() => Err(refused(format!(
            "the private mapping of {name} cannot be guarded by this kernel: that needs Linux 5.13"
        ))),
        () => Ok(()),
    }
}

/// Returns whether the kernel moves pages of private mappings of files and leaves the mapping (`MREMAP_DONTUNMAP`).
fn can_move() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 13)
    })
}

/// Waits until every later change of the file has other times, where that counts.
fn settled(py: Python<'_>, watch: Watch, first: State, state: impl Fn() -> Option<State> + Sync) -> PyResult<State> {
    let wait = first.unsettled(file::now());
    if watch != Watch::Contents || wait == 0 {
        return Ok(first);
    }
    let until = Instant::now() + Duration::from_nanos(wait);
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            // What changed meanwhile, changed before the guard began.
            return Ok(py.detach(&state).unwrap_or(first));
        }
        py.detach(|| std::thread::sleep(rest.min(PERIOD)));
        py.check_signals()?;
    }
}

/// Finds the regions of a range of addresses of one mapping, and registers those that are missing.
fn cover(
    py: Python<'_>,
    mapping: &Mapping,
    way: Way,
    file: Identity,
    addresses: Range<usize>,
    found: &mut Vec<Arc<Region>>,
) -> PyResult<()> {
    let page = mapping.page;
    let pages = addresses.start / page * page..addresses.end.next_multiple_of(page);
    let mut at = pages.start;
    let mut regions = regions();
    while at < pages.end {
        // A region that has the page, otherwise the next one.
        let next = regions.iter_mut().filter(|known| known.region.end > at).min_by_key(|known| known.region.start);
        let end = match next {
            Some(known) if known.region.start <= at => {
                known.guards += 1;
                found.push(known.region.clone());
                at = known.region.end;
                continue;
            }
            Some(known) => known.region.start.min(pages.end),
            None => pages.end,
        };
        let own = way.try_clone().map_err(|error| os_error(&error, None))?;
        let region = Arc::new(Region::new(mapping, at..end, own, file));
        // SAFETY: the pages are of a mapping whose owner lends it as long as the guard holds its buffer or object. No other
        // region has them, and none of them is of a map of faultin, which lends none.
        let registration = unsafe { faultin::pager::register(at..end, region.clone()) };
        let registration = registration.map_err(|error| no_handler(py, &error))?;
        regions.push(Registered { region: region.clone(), registration, guards: 1 });
        found.push(region);
        at = end;
    }
    Ok(())
}

/// Ends the guards of pieces: of the last one of a region, what was replaced is put back. Returns whether that was possible.
/// The pieces keep their regions, which know what was replaced.
fn leave(pieces: &mut [Piece]) -> bool {
    let mut whole = true;
    let mut regions = regions();
    for region in pieces.iter().flat_map(|piece| &piece.regions) {
        let Some(at) = regions.iter().position(|known| Arc::ptr_eq(&known.region, region)) else { continue };
        regions[at].guards -= 1;
        if regions[at].guards > 0 {
            continue;
        }
        region.close();
        let known = regions.swap_remove(at);
        // SAFETY: closed, and the caller holds the memory.
        whole &= unsafe { region.restore() };
        drop(known.registration);
    }
    whole
}

/// What a block is told whose pages were replaced.
const ZEROS: &str = "has read zeros";

/// What is damaged of one file.
struct Damage {
    file: Identity,
    name: OsString,
    ranges: Vec<(u64, u64)>,
    /// Where what was guarded begins.
    start: u64,
    cause: &'static str,
    text: String,
    /// What the block has read, as far as is known.
    read: &'static str,
}

/// Finds out whether a piece is damaged. Asks the file system, so the interpreter's lock is not held.
fn damage(piece: &Piece, watch: Watch) -> Option<Damage> {
    let position = |address: usize| piece.base.wrapping_add(address as u64);
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for region in &piece.regions {
        ranges.extend(region.replaced().map(|part| (position(part.start), position(part.end))));
    }
    let after = piece.regions.first()?.file_state();
    let replaced = !ranges.is_empty();
    let mut read = if replaced { ZEROS } else { "may have read mixed data" };
    let (cause, text) = match after {
        Some(after) => {
            if after.size < piece.bytes.end {
                ranges.push((after.size.max(piece.bytes.start), piece.bytes.end));
            }
            let change = piece.before.and_then(|before| before.change(&after));
            let lost = after.size < piece.bytes.end;
            if lost && !replaced {
                read = "may have read zeros";
            }
            match change {
                Some(change @ Change::Shrunk { .. }) if lost || replaced => (change_name(change), change.to_string()),
                _ if lost => ("past-end", format!("past the end of the file: it has {} bytes", after.size)),
                _ if replaced => why(piece, ranges[0].0),
                Some(change) if counts(watch, change) => {
                    ranges.push((piece.bytes.start, piece.bytes.end));
                    (change_name(change), change.to_string())
                }
                _ => return None,
            }
        }
        // Neither a path nor a descriptor leads to it any more.
        None => {
            if !replaced && watch == Watch::Nothing {
                return None;
            }
            if !replaced {
                ranges.push((piece.bytes.start, piece.bytes.end));
            }
            (change_name(Change::Replaced), "another file took its place, so it cannot be compared any more".to_owned())
        }
    };
    Some(Damage { file: piece.file, name: piece.name.clone(), ranges, start: piece.bytes.start, cause, text, read })
}

/// Finds the damage of all pieces, one for each file, in the order of the pieces.
fn damages(pieces: &[Piece], watch: Watch) -> Vec<Damage> {
    let mut all: Vec<Damage> = Vec::new();
    for found in pieces.iter().filter_map(|piece| damage(piece, watch)) {
        match all.iter_mut().find(|known| known.file == found.file) {
            Some(known) => {
                known.ranges.extend(found.ranges);
                known.start = known.start.min(found.start);
                if found.read == ZEROS {
                    known.read = ZEROS;
                }
            }
            None => all.push(found),
        }
    }
    all
}

/// Makes the exception: of the first file, with those of the others.
fn error(py: Python<'_>, first: Damage, others: Vec<Damage>) -> PyErr {
    let others = others.into_iter().map(|other| error(py, other, Vec::new())).collect();
    let ranges = joined(first.ranges);
    let offset = ranges.first().map_or(first.start, |range| range.0);
    let failure = Failure {
        errno: if first.cause == "io" { libc::EIO } else { libc::ESTALE },
        message: format!("{}; the block {}", first.text, first.read),
        path: Some(&first.name),
        offset: Some(offset),
        done: offset.saturating_sub(first.start),
        cause: first.cause,
    };
    failure.into_damaged(py, ranges, others)
}

/// Returns whether a change without a lost page is an error.
fn counts(watch: Watch, change: Change) -> bool {
    match watch {
        Watch::Contents => true,
        // Attributes are no data, and what was appended is no part of the mapping.
        Watch::Appending | Watch::Reader => !matches!(change, Change::Grown { .. } | Change::Touched),
        _ => false,
    }
}

/// Finds out why a page of the file could not be provided, although the file has it.
fn why(piece: &Piece, offset: u64) -> (&'static str, String) {
    let way = piece.regions.first().map(|region| &region.way);
    let read = way.map(|way| way.open(piece.file)).and_then(Result::ok).map(|file| {
        use std::os::unix::fs::FileExt;
        file.read_at(&mut [0], offset)
    });
    match read {
        Some(Err(error)) => ("io", format!("reading the file fails: {error}")),
        _ => ("past-end", "the page could not be provided, but can be by now: the file was truncated and has grown again, or reading it failed for a time".to_owned()),
    }
}

/// Sorts ranges, and joins those that overlap or touch.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

/// Returns a mapping's path without what the kernel appends to that of a removed file.
fn without_suffix(name: &OsStr) -> OsString {
    OsString::from_vec(name.as_bytes().strip_suffix(b" (deleted)").unwrap_or(name.as_bytes()).to_vec())
}
