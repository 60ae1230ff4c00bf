//! [`FileMap::with_slice`]: anybody's code over the mapping itself, and [`Damaged`], what it was not told.

use core::fmt;
use core::ops::{Range, RangeBounds};
use std::fs::File;

use super::chunks::within;
use super::error::{MapError, Reason, Stop};
use super::file::FileMap;
use super::mapping::Mapping;
use super::stamp::Stamp;
use crate::arch;
use crate::fault::{Access, Cause, Fault};

/// What a closure made of bytes that were not all the file's, or not all at one time.
///
/// It ran to its end (unless there was no memory to run it on), and saw zeros where the file had nothing.
pub struct Damaged<T> {
    value: Option<T>,
    ranges: Vec<Range<u64>>,
    error: MapError,
}

impl<T> Damaged<T> {
    fn new(value: Option<T>, ranges: Vec<Range<u64>>, error: MapError) -> Self {
        Damaged { value, ranges, error }
    }

    /// What the closure returned, `None` if it was not called.
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The same, by value.
    pub fn into_value(self) -> Option<T> {
        self.value
    }

    /// Where the first byte is that was not the file's, in the map; what lies before it was. `None` if the file has
    /// changed in a way that leaves no trace in memory: then nobody knows.
    pub fn first_bad(&self) -> Option<u64> {
        self.ranges.first().map(|range| range.start)
    }

    /// The bytes in the map that were zeros instead of the file's, as far as they lie in the range that was asked for:
    /// ascending, apart from each other. They are whole pages, except where the file ended, and after very many they may
    /// include what lies between two of them.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Why.
    pub fn error(&self) -> &MapError {
        &self.error
    }

    /// The same, by value.
    pub fn into_error(self) -> MapError {
        self.error
    }
}

impl<T> fmt::Debug for Damaged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damaged").field("ranges", &self.ranges).field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Damaged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for Damaged<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Somebody reads a mapping: until this is dropped, also by a panic, faults are served.
struct Scan<'a> {
    mapping: &'a Mapping,
    file: &'a File,
}

impl<'a> Scan<'a> {
    /// After [`Mapping::enter`].
    fn new(mapping: &'a Mapping, file: &'a File) -> Self {
        Scan { mapping, file }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        self.mapping.leave(self.file);
    }
}

impl FileMap {
    /// Calls `read` with the bytes of a range as a slice of the mapping itself: any code, at the speed of a raw mapping.
    /// A range that ends behind the map ends with it.
    ///
    /// While it runs, pages that are gone (the file was cut, its disk fails) are replaced by zeros, which is reported
    /// afterwards, and the file is looked at as after every operation. So `Ok` means what it means elsewhere: all bytes
    /// were the file's, and it has not changed, as far as can be seen. The replaced pages stay until the last closure
    /// that reads them has returned; then the file is behind the mapping again. Until then the other operations of the
    /// map read from the file, and closures that begin get a copy. A file that is cut costs one signal, one that cannot be read one for each of its first pages
    /// and few after.
    ///
    /// Several threads may do it, and one inside another, over the same map and others. System calls that are given
    /// the slice fail with `EFAULT` where a page is gone, as they do on every mapping.
    ///
    /// Over pread, in a thread that blocks SIGBUS, and on architectures without our assembly, the closure gets a copy,
    /// too: as much memory as the range has bytes.
    ///
    /// # Errors
    /// [`Damaged`], which has what the closure returned, and which of its bytes were not the file's.
    ///
    /// # Panics
    /// If the closure does; the map is as if it had returned.
    ///
    /// # Safety
    ///
    /// The slice is not what Rust promises of one. Its bytes may change at any time: others write to the file, and
    /// pages become zeros and come back. The closure must be right whatever it reads:
    ///
    /// * No byte needs to be the same when it is read twice. What is checked may be something else when it is used: it
    ///   must not be handed to `from_utf8_unchecked`, `get_unchecked` and the like after a check of the same bytes, nor to
    ///   code that relies on checks of its own (`str::from_utf8` gives a `&str` that may stop being UTF-8). Copy
    ///   first, and check the copy.
    /// * Code that is correct for any bytes, even if they differ between two loads, may be called: sums, hashes,
    ///   byte searches, and comparisons whose result is used as data only.
    /// * It must not be written to, through whatever pointer.
    /// * The process must be able to take SIGBUS by our handler: no other one that was installed later keeps it for
    ///   itself, and the closure does not block it.
    ///
    /// It cannot be kept: what the closure returns does not borrow from it. `memmap2` asks its users for more (nobody
    /// changes the file at all) and kills them if it is cut.
    pub unsafe fn with_slice<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let known = self.known();
        let range = within(range, self.window().len(known.size));
        let Ok(len) = usize::try_from(range.end - range.start) else {
            let stop = Stop::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
            return Err(Damaged::new(None, Vec::new(), self.error(range.start, stop)));
        };
        let Some(space) = self.space().filter(|_| arch::HAS_TABLE && !bus_is_blocked()) else {
            return self.with_copy(&known, range, len, read);
        };
        let mapping = space.newest();
        let from = self.lead() + range.start as usize;
        let place = match mapping.range(from, len) {
            Ok(place) if mapping.enter(self.file()) => place.0,
            _ => return self.with_copy(&known, range, len, read),
        };
        let scan = Scan::new(mapping, self.file());
        // SAFETY: mapped and readable until the map goes, whatever is behind it: pages that fail are replaced while the
        // scan lasts. That its bytes change is the caller's affair, by contract.
        let value = read(unsafe { core::slice::from_raw_parts(place, len) });
        let damage = mapping.damage(from, len);
        drop(scan);
        if damage.is_empty() {
            return match self.check(&known, range.start, len) {
                Ok(()) => Ok(value),
                Err(stop) => Err(self.damaged(value, Vec::new(), range.start, stop)),
            };
        }
        let lead = self.lead() as u64;
        let ranges: Vec<_> = damage.into_iter().map(|r| r.start as u64 - lead..r.end as u64 - lead).collect();
        let done = (ranges.first().map_or(range.start, |first| first.start) - range.start) as usize;
        let fault = Fault::refused(Access::Read, Cause::Backing, place.addr() + done);
        let stop = self.cause_of_damage(&known, range.start, done, fault);
        Err(self.damaged(value, ranges, range.start, stop))
    }

    /// The same over a copy.
    fn with_copy<T>(
        &self,
        known: &Stamp,
        range: Range<u64>,
        len: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(len).is_err() {
            let stop = Stop::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
            return Err(Damaged::new(None, Vec::new(), self.error(range.start, stop)));
        }
        copy.resize(len, 0);
        let fetched = self.pread(known, range.start, &mut copy, 0);
        if let Err(stop) = fetched {
            // Bytes behind the end that were read before it was cut count no more.
            copy[stop.done..].fill(0);
            let bad = range.start + stop.done as u64..range.end;
            return Err(self.damaged(read(&copy), vec![bad], range.start, stop));
        }
        let value = read(&copy);
        match self.check(known, range.start, len) {
            Ok(()) => Ok(value),
            Err(stop) => Err(self.damaged(value, Vec::new(), range.start, stop)),
        }
    }

    #[cold]
    fn damaged<T>(&self, value: T, ranges: Vec<Range<u64>>, at: u64, stop: Stop) -> Damaged<T> {
        Damaged::new(Some(value), ranges, self.error(at, stop))
    }

    /// Why the bytes `done` behind `at` were replaced.
    #[cold]
    fn cause_of_damage(&self, known: &Stamp, at: u64, done: usize, fault: Fault) -> Stop {
        if let Err(stop) = self.check(known, at, done) {
            return Stop { fault: Some(fault), ..stop };
        }
        let mut byte = [0];
        match self.pread(known, at + done as u64, &mut byte, 0) {
            // It healed, or the mapping needed memory that reading does not.
            Ok(()) => Stop { fault: Some(fault), ..Stop::new(done, Reason::Fault(fault)) },
            Err(stop) => Stop { done, fault: Some(fault), ..stop },
        }
    }
}

/// Whether a fault in this thread would kill it.
fn bus_is_blocked() -> bool {
    let mut mask = core::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: only asks for this thread's mask, which it writes; zero before, should it not.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), mask.as_mut_ptr());
        libc::sigismember(mask.as_ptr(), libc::SIGBUS) == 1
    }
}
