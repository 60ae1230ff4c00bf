//! [`SharedMap::with_slice`] and [`SharedMap::with_raw`]: foreign code over the shared memory itself.

use core::ops::{Range, RangeBounds};

use super::SharedMap;
use crate::map::error::{Change, MapError, OperationError, Reason};
use crate::map::mapping::Repair;
use crate::map::range::within;
use crate::map::slice::{Bytes, Copied, Damaged, Scan, Scanned, joined, zeros};

impl SharedMap {
    /// Calls `read` with the bytes of a range as a slice of the shared memory itself: for code that takes a slice, such as
    /// an upload to a graphics processor, without a copy. A range that ends after the map ends with it.
    ///
    /// While it runs, missing pages (the peer truncated the file) are replaced by zeros, which is reported afterwards.
    /// Until the last closure has returned, the map's other operations then read and write the file; its atomic operations
    /// fail. Bytes that the peer stores meanwhile are no damage: the peer chooses the contents.
    ///
    /// A map that is not [sealed](Self::is_sealed) is checked afterwards, as after each operation. The closure gets a copy
    /// in the same cases as that of [`FileMap::with_slice`](crate::map::FileMap::with_slice). A system call that is given
    /// the slice fails with `EFAULT` where a page is missing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (shared, page) = (faultin::shared::SharedMap::create("pixels", 3 * faultin::page_size())?, faultin::page_size());
    /// # let client = std::fs::File::from(shared.try_clone_fd()?);
    /// # fn upload(pixels: &[u8]) -> usize { std::hint::black_box(pixels.iter().map(|&byte| byte as usize).sum()) }
    /// // SAFETY: the upload copies the bytes and draws no conclusion from them.
    /// unsafe { shared.with_slice(.., |pixels| upload(pixels)) }?;
    ///
    /// client.set_len(page as u64)?; // the client takes two pages away
    /// // SAFETY: as above.
    /// let damaged = unsafe { shared.with_slice(.., |pixels| upload(pixels)) }.unwrap_err();
    /// assert_eq!(damaged.ranges, [page as u64..3 * page as u64]); // the texture has zeros there
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Damaged`], with the closure's result, and the ranges of bytes that were not the file's.
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// Those of [`FileMap::with_slice`](crate::map::FileMap::with_slice).
    ///
    /// # Safety
    /// The conditions of [`FileMap::with_slice`](crate::map::FileMap::with_slice), with [its table of what may be
    /// called](crate::map::FileMap::with_slice). The peer is not trusted and may change the bytes at the worst moment: do
    /// not run code here that checks bytes and then uses them.
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
        let (range, start, len) = self.slice_range(range);
        let (value, ended) = match Scan::begin(self.mapping.as_ref(), &self.file, self.lead, start, len) {
            Some(scan) => (read(scan.bytes()), self.end_scan(&range, scan)),
            None => {
                let (copy, checked) = self.copy_of(&range, start, len).map_err(|damaged| damaged.of(None))?;
                (read(&raw const *copy), checked)
            }
        };
        match ended {
            Ok(()) => Ok(value),
            Err(damaged) => Err(damaged.of(Some(value))),
        }
    }

    /// Begins what [`with_raw`](Self::with_raw) does, for callers in another language: the caller reads the bytes until
    /// it [leaves](SharedEntered::leave). Not part of the interface.
    ///
    /// # Errors
    /// [`Damaged`] if there is no memory for a copy.
    ///
    /// # Safety
    /// The result is left or dropped before the map is dropped or resized, also where its lifetime was changed.
    #[doc(hidden)]
    pub unsafe fn enter(&self, range: impl RangeBounds<u64>) -> Result<SharedEntered<'_>, Damaged<()>> {
        let (range, start, len) = self.slice_range(range);
        let bytes = match Scan::begin(self.mapping.as_ref(), &self.file, self.lead, start, len) {
            Some(scan) => Bytes::Mapped(scan),
            None => {
                let (copy, checked) = self.copy_of(&range, start, len)?;
                Bytes::Copy(copy, Box::new(checked))
            }
        };
        Ok(SharedEntered { map: self, range, bytes })
    }

    /// Returns the requested range within the map, its start and its length.
    fn slice_range(&self, range: impl RangeBounds<u64>) -> (Range<u64>, usize, usize) {
        let range = within(range, self.len as u64);
        let (start, len) = self.clamp(range.start, (range.end - range.start) as usize);
        (range, start, len)
    }

    /// Ends a scan, and checks the bytes that it had.
    fn end_scan(&self, range: &Range<u64>, scan: Scan<'_>) -> Result<(), Damaged<()>> {
        let (start, len) = (range.start as usize, scan.bytes().len());
        let scanned = scan.end();
        let checked = self.look(start, len);
        let (done, fault) = scanned.first_fault(range.start);
        let Scanned { bad, cut_to, .. } = scanned;
        if bad.is_empty() {
            return checked.map_err(|stop| self.damaged(range, bad, stop));
        }
        let stop = match (cut_to, checked) {
            // Whatever its size is by now: it ended there when it was read.
            (Some(to), _) if to < self.in_file(start + len) => {
                OperationError::new(done, Reason::Changed(Change::Shrunk { from: self.size, to }))
            }
            (_, Err(stop)) => stop,
            (_, Ok(())) => match self.pread(start + done, &mut [0], 0) {
                Err(stop) => OperationError { done, ..stop },
                // The file recovered, or the mapping needed memory that reading does not: only the fault is known.
                Ok(()) => OperationError::new(done, Reason::Fault(fault)),
            },
        };
        Err(self.damaged(range, bad, OperationError { fault: Some(fault), ..stop }))
    }

    /// Restores the file where a closure of [`with_slice`](Self::with_slice) met damage, if that failed when it had
    /// returned (for lack of memory). Until then those parts are read from the file and written to it.
    ///
    /// Returns [`Repair::InUse`] if closures are reading them now: the file is restored when they have returned.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be mapped.
    pub fn repair(&self) -> Result<Repair, MapError> {
        match &self.mapping {
            Some(mapping) => {
                mapping.repair_now(&self.file).map_err(|error| self.error(0, OperationError::io(0, error)))
            }
            None => Ok(Repair::Whole),
        }
    }

    /// Returns a copy of a range for a closure, and whether its bytes are the file's.
    ///
    /// # Errors
    /// [`Damaged`] if there is no memory for the copy.
    fn copy_of(&self, range: &Range<u64>, start: usize, len: usize) -> Result<Copied, Damaged<()>> {
        let mut copy = zeros(len).map_err(|stop| Damaged::new(None, Vec::new(), self.error(range.start, stop)))?;
        let copied = self.pread(start, &mut copy, 0).and_then(|()| self.look(start, len));
        let Err(stop) = copied else { return Ok((copy, Ok(()))) };
        copy[stop.done.min(len)..].fill(0);
        let bad = range.start + stop.done as u64..range.end;
        let damaged = self.damaged(range, vec![bad], stop);
        Ok((copy, Err(damaged)))
    }

    #[cold]
    fn damaged(&self, range: &Range<u64>, mut ranges: Vec<Range<u64>>, mut stop: OperationError) -> Damaged<()> {
        if let Reason::Changed(Change::Shrunk { to, .. }) = stop.reason {
            // The rest of the file's last page reads as zeros without a fault.
            let end = to.saturating_sub(self.offset).max(range.start);
            ranges.push(end..range.end);
        }
        let ranges = joined(ranges);
        if let Some(first) = ranges.first() {
            stop.done = (first.start - range.start) as usize;
        }
        Damaged::new(Some(()), ranges, self.error(range.start, stop))
    }
}

/// The bytes of a map that foreign code reads, from [`SharedMap::enter`] until it is left or dropped. Not part of the
/// interface.
#[doc(hidden)]
#[derive(Debug)]
pub struct SharedEntered<'a> {
    map: &'a SharedMap,
    range: Range<u64>,
    bytes: Bytes<'a>,
}

impl SharedEntered<'_> {
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
            Bytes::Mapped(scan) => self.map.end_scan(&self.range, scan),
            Bytes::Copy(_, checked) => *checked,
        }
    }
}
