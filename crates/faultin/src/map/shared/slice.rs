//! [`SharedMap::with_slice`] and [`SharedMap::with_raw`]: any code over the shared memory itself.

use core::ops::{Range, RangeBounds};

use super::SharedMap;
use crate::map::error::{Change, MapError, Reason, Stop};
use crate::map::mapping::Repair;
use crate::map::range::within;
use crate::map::slice::{Damaged, Scanned, joined, scan, zeros};

impl SharedMap {
    /// Calls `read` with the bytes of a range as a slice of the shared memory itself: for code that takes a slice, such as an
    /// upload to a graphics processor, without a copy of ours. A range that ends after the map ends with it.
    ///
    /// While it runs, pages that are gone (the peer truncated the file) are replaced by zeros, which is reported afterwards. Until
    /// the last closure has returned, the map's other operations read and write the file then; its atomic operations fail.
    /// Bytes that the peer stores meanwhile are no damage: what is in the memory is the peer's to choose.
    ///
    /// A map that is not [sealed](Self::is_sealed) is looked at afterwards, as after each operation. The closure gets a copy where
    /// that of [`FileMap::with_slice`](crate::map::FileMap::with_slice) does. A system call that is given the slice fails with
    /// `EFAULT` where a page is gone.
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
    /// [`Damaged`], which has what the closure returned, and which of its bytes were not the file's.
    ///
    /// # Panics
    /// If the closure does; the map is as if it had returned.
    ///
    /// # Aborts
    /// As [`FileMap::with_slice`](crate::map::FileMap::with_slice).
    ///
    /// # Safety
    /// The conditions of [`FileMap::with_slice`](crate::map::FileMap::with_slice), with [its table of what may be
    /// called](crate::map::FileMap::with_slice). The peer is not trusted, so it will change the bytes at the
    /// worst moment: this is no place for code that checks bytes and then uses them.
    pub unsafe fn with_slice<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        // SAFETY: readable while the closure runs. That its bytes change is the caller's affair, by contract.
        self.with_raw(range, |bytes| read(unsafe { &*bytes }))
    }

    /// As [`with_slice`](Self::with_slice), with a pointer instead of a reference: for code that keeps to Rust's rules and
    /// has loads of its own that other code may race with (volatile loads, assembly).
    ///
    /// While the closure runs, the pointer is valid for reads, and the memory may change at any time. The bytes are
    /// initialised. It must not be written to, and nothing is there any more when the closure has returned.
    ///
    /// # Errors
    /// As [`with_slice`](Self::with_slice).
    ///
    /// # Panics
    /// If the closure does; the map is as if it had returned.
    ///
    /// # Aborts
    /// As [`with_slice`](Self::with_slice). A closure that leaves by `longjmp` leaves the guard in force.
    pub fn with_raw<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(*const [u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let range = within(range, self.len as u64);
        let (start, len) = self.clamp(range.start, (range.end - range.start) as usize);
        let scanned = match scan(self.mapping.as_ref(), &self.file, self.lead, start, len, read) {
            Ok(scanned) => scanned,
            Err(read) => return self.with_copy(&range, start, len, read),
        };
        let checked = self.look(start, len);
        let (done, fault) = scanned.first_fault(range.start);
        let Scanned { value, bad, cut_to, .. } = scanned;
        if bad.is_empty() {
            return match checked {
                Ok(()) => Ok(value),
                Err(stop) => Err(self.damaged(value, &range, bad, stop)),
            };
        }
        let stop = match (cut_to, checked) {
            // Whatever it is by now: when it was read, it ended there.
            (Some(to), _) if to < self.in_file(start + len) => {
                Stop::new(done, Reason::Changed(Change::Shrunk { from: self.size, to }))
            }
            (_, Err(stop)) => stop,
            (_, Ok(())) => match self.pread(start + done, &mut [0], 0) {
                Err(stop) => Stop { done, ..stop },
                // It healed, or the mapping needed memory that reading does not: all that is known is the fault.
                Ok(()) => Stop::new(done, Reason::Fault(fault)),
            },
        };
        Err(self.damaged(value, &range, bad, Stop { fault: Some(fault), ..stop }))
    }

    /// Puts the file back where a closure of [`with_slice`](Self::with_slice) met damage, if that could not be done when it had
    /// returned (for lack of memory). Until then those parts are read from the file and written to it.
    ///
    /// [`Repair::InUse`] if closures are reading them now: it is done when they have returned.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be mapped.
    pub fn repair(&self) -> Result<Repair, MapError> {
        match &self.mapping {
            Some(mapping) => mapping.repair_now(&self.file).map_err(|error| self.error(0, Stop::io(0, error))),
            None => Ok(Repair::Whole),
        }
    }

    /// The same over a copy, which does not change any more.
    fn with_copy<T>(
        &self,
        range: &Range<u64>,
        start: usize,
        len: usize,
        read: impl FnOnce(*const [u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let mut copy = zeros(len).map_err(|stop| Damaged::new(None, Vec::new(), self.error(range.start, stop)))?;
        let copied = self.pread(start, &mut copy, 0).and_then(|()| self.look(start, len));
        let Err(stop) = copied else { return Ok(read(&raw const *copy)) };
        copy[stop.done.min(len)..].fill(0);
        let bad = range.start + stop.done as u64..range.end;
        Err(self.damaged(read(&raw const *copy), range, vec![bad], stop))
    }

    /// What is returned of a `range` of which these `ranges` were zeros.
    #[cold]
    fn damaged<T>(&self, value: T, range: &Range<u64>, mut ranges: Vec<Range<u64>>, mut stop: Stop) -> Damaged<T> {
        if let Reason::Changed(Change::Shrunk { to, .. }) = stop.reason {
            // The rest of a page of which the file has only a part reads as zeros without a fault.
            let end = to.saturating_sub(self.offset).max(range.start);
            ranges.push(end..range.end);
        }
        let ranges = joined(ranges);
        if let Some(first) = ranges.first() {
            stop.done = (first.start - range.start) as usize;
        }
        Damaged::new(Some(value), ranges, self.error(range.start, stop))
    }
}
