//! Copies from and to shared memory, and the errors of short ones.

use core::ops::RangeBounds;
use std::os::unix::fs::FileExt;

use super::SharedMap;
use crate::fault::{Access, Cause, Fault, Short};
use crate::map::error::{MapError, OperationError, Reason, is_of_the_file};
use crate::map::mapped::is_appending;
use crate::map::mapping::{Mapping, Rights, huge_page_size};
use crate::map::range::{asked, in_memory};
use crate::map::write::is_full;
use crate::scalar::Scalar;

/// Returns the number of calls of `pread(2)` or `pwrite(2)` in one operation, of a gibibyte each: a peer or a signal can
/// make them short.
fn calls(len: usize) -> usize {
    8 + (len >> 30)
}

impl SharedMap {
    /// Copies up to `dst.len()` bytes from position `at`, and returns their number, which is smaller only where the map
    /// ends.
    ///
    /// # Errors
    /// [`MapError`]: [`done`](MapError::done) bytes of `dst` were copied. [`Changed`](Reason::Changed) if the file has
    /// become shorter; [`Io`](Reason::Io) if it cannot be read; [`Fault`](Reason::Fault) if the memory failed and reading
    /// the file did not.
    #[inline]
    pub fn read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let (start, len) = self.clamp(at, dst.len());
        self.fetch(start, &mut dst[..len]).map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// Copies exactly `dst.len()` bytes from position `at`.
    ///
    /// # Errors
    /// Those of [`read_at`](Self::read_at); [`PastEnd`](Reason::PastEnd) if the map ends before: nothing was read.
    #[inline]
    pub fn read_exact_at(&self, dst: &mut [u8], at: u64) -> Result<(), MapError> {
        let (start, len) = self.clamp(at, dst.len());
        let whole = if len == dst.len() { self.fetch(start, dst) } else { Err(self.past_end(0)) };
        whole.map_err(|stop| self.error(at, stop))
    }

    /// Copies `src` to position `at`.
    ///
    /// # Errors
    /// [`MapError`]: [`done`](MapError::done) bytes are stored and within the file. [`PastEnd`](Reason::PastEnd) if the map
    /// ends before `src` does: nothing was stored. [`Changed`](Reason::Changed) if the file has become shorter;
    /// [`NoSpace`](Reason::NoSpace) if no space or no huge page is left; [`Fault`](Reason::Fault) with
    /// [`Cause::Protection`] in a map for reading, and with [`Cause::Backing`] if the file has the missing bytes by now (it
    /// was truncated and has grown again, or there was no memory for it; of huge pages, both are `NoSpace`).
    pub fn write_at(&self, src: &[u8], at: u64) -> Result<(), MapError> {
        let store = |mapping: &Mapping, start| mapping.write(start, src);
        self.put(at, src.len(), store, |from| &src[from..])
    }

    /// Fills a range with `byte`. A range without an end ends with the map.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let shared = faultin::shared::SharedMap::create("buffer", 4096)?;
    /// shared.fill(..100, 0xff)?;
    /// assert_eq!(shared.load::<u16>(99)?.to_ne_bytes(), [0xff, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at); [`PastEnd`](Reason::PastEnd) also if the range ends after the map.
    pub fn fill(&self, range: impl RangeBounds<u64>, byte: u8) -> Result<(), MapError> {
        let (at, len) = asked(range, self.len as u64);
        let len = in_memory(len);
        let (start, within) = self.clamp(at, len);
        self.prepare();
        let filled = match &self.mapping {
            _ if within < len => Err(self.past_end(0)),
            Some(mapping) => match mapping.fill(self.lead() + start, byte, len) {
                Ok(()) => self.look(start, len),
                Err(short) if self.is_stored_by_file(mapping) => self.fill_file(start, len, byte, short.done),
                Err(short) => Err(self.explain_store(start, short)),
            },
            None => self.fill_file(start, len, byte, 0),
        };
        filled.map_err(|stop| self.error(at, stop))
    }

    /// Writes to the file what is missing of `len` bytes after `done`, in pieces, so that a length that the peer made up
    /// costs no memory.
    fn fill_file(&self, start: usize, len: usize, byte: u8, mut done: usize) -> Result<(), OperationError> {
        const PIECE: usize = 256 << 10;
        let piece = vec![byte; PIECE.min(len)];
        while done < len {
            let now = PIECE.min(len - done);
            self.pwrite(start + done, now, |from| &piece[from..now])
                .map_err(|stop| OperationError { done: done + stop.done, ..stop })?;
            done += now;
        }
        Ok(())
    }

    /// Loads the value at position `at`, in this machine's byte order: one load, single-copy atomic if it is aligned.
    ///
    /// # Errors
    /// Those of [`read_exact_at`](Self::read_exact_at); [`done`](MapError::done) is 0.
    #[inline]
    pub fn load<T: Scalar>(&self, at: u64) -> Result<T, MapError> {
        self.load_at(at).map_err(|stop| self.error(at, OperationError { done: 0, ..stop }))
    }

    /// Stores a value at position `at`, in this machine's byte order: one store, single-copy atomic if it is aligned.
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at).
    #[inline]
    pub fn store<T: Scalar>(&self, at: u64, value: T) -> Result<(), MapError> {
        let len = size_of::<T>();
        let mut bytes = [0; 16];
        value.put_bytes(&mut bytes[..len]);
        let store = |mapping: &Mapping, start| mapping.store(start, value).map_err(|fault| Short { done: 0, fault });
        self.put(at, len, store, |from| &bytes[from..len])
    }

    #[inline]
    fn load_at<T: Scalar>(&self, at: u64) -> Result<T, OperationError> {
        let (start, len) = self.clamp(at, size_of::<T>());
        if len < size_of::<T>() {
            return Err(self.past_end(0));
        }
        self.prepare();
        let loaded = self.mapping.as_ref().map(|mapping| mapping.load::<T>(self.lead() + start));
        if let Some(Ok(value)) = loaded {
            return self.look(start, len).map(|()| value);
        }
        // Bytes are copied instead: after a fault by reading the file, which also determines the reason.
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..len];
        match loaded {
            Some(Err(fault)) => self.explain_load(start, bytes, Short { done: 0, fault })?,
            _ => self.pread(start, bytes, 0)?,
        }
        Ok(T::from_bytes(bytes))
    }

    /// Copies bytes that the map has.
    #[inline]
    pub(super) fn fetch(&self, start: usize, dst: &mut [u8]) -> Result<(), OperationError> {
        self.prepare();
        self.copy_in(start, dst)?;
        self.look(start, dst.len())
    }

    /// Copies as [`fetch`](Self::fetch) does, without a check of the file unless it faults.
    #[inline]
    pub(super) fn copy_in(&self, start: usize, dst: &mut [u8]) -> Result<(), OperationError> {
        match &self.mapping {
            Some(mapping) => {
                mapping.read(self.lead() + start, dst).or_else(|short| self.explain_load(start, dst, short))
            }
            None => self.pread(start, dst, 0),
        }
    }

    /// Copies bytes to a range of the map, without a check of the file unless it faults.
    #[inline]
    pub(super) fn copy_out(&self, start: usize, src: &[u8]) -> Result<(), OperationError> {
        match &self.mapping {
            Some(mapping) => match mapping.write(self.lead() + start, src) {
                Ok(()) => Ok(()),
                Err(short) => self.store_rest(mapping, start, src.len(), short, |from| &src[from..]),
            },
            None => self.pwrite(start, src.len(), |from| &src[from..]),
        }
    }

    /// Stores `len` bytes from position `at`, all or none of which the map has: by `store(mapping, start)`, or by writing
    /// the result of `bytes(from)` to the file.
    #[inline]
    fn put<'b>(
        &self,
        at: u64,
        len: usize,
        store: impl Fn(&Mapping, usize) -> Result<(), Short>,
        bytes: impl Fn(usize) -> &'b [u8],
    ) -> Result<(), MapError> {
        self.stored(at, len, store, bytes).map_err(|stop| self.error(at, stop))
    }

    #[inline]
    fn stored<'b>(
        &self,
        at: u64,
        len: usize,
        store: impl Fn(&Mapping, usize) -> Result<(), Short>,
        bytes: impl Fn(usize) -> &'b [u8],
    ) -> Result<(), OperationError> {
        let (start, within) = self.clamp(at, len);
        self.prepare();
        match &self.mapping {
            _ if within < len => Err(self.past_end(0)),
            Some(mapping) => match store(mapping, self.lead() + start) {
                // Bytes that were stored past a new end are lost.
                Ok(()) => self.look(start, len),
                Err(short) => self.store_rest(mapping, start, len, short, bytes),
            },
            None => self.pwrite(start, len, bytes),
        }
    }

    /// Handles a short store: returns the reason, unless the file takes the rest.
    #[cold]
    fn store_rest<'b>(
        &self,
        mapping: &Mapping,
        start: usize,
        len: usize,
        short: Short,
        bytes: impl Fn(usize) -> &'b [u8],
    ) -> Result<(), OperationError> {
        if !self.is_stored_by_file(mapping) {
            return Err(self.explain_store(start, short));
        }
        let done = short.done;
        self.pwrite(start + done, len - done, |from| bytes(done + from))
            .map_err(|stop| OperationError { done: done + stop.done, ..stop })
    }

    /// Returns whether zeros of a scan are in the mapping, which cannot be stored to, and the file can be written to
    /// instead.
    fn is_stored_by_file(&self, mapping: &Mapping) -> bool {
        mapping.is_damaged() && !is_appending(self.file())
    }

    /// Handles a short copy from the mapping. Unless the file has become shorter, the rest is read with `pread`, which
    /// succeeds where only the mapping failed (a hole without memory for it). Once.
    #[cold]
    fn explain_load(&self, start: usize, dst: &mut [u8], short: Short) -> Result<(), OperationError> {
        let Short { done, fault } = short;
        let with_fault = |stop: OperationError| OperationError { fault: Some(fault), ..stop };
        if !is_of_the_file(&fault) {
            return Err(with_fault(OperationError::new(done, Reason::Fault(fault))));
        }
        self.engine.has(start as u64, done, self.size).and_then(|()| self.pread(start, dst, done)).map_err(with_fault)
    }

    /// Returns the reason why a store or an atomic operation faulted.
    #[cold]
    pub(super) fn explain_store(&self, start: usize, short: Short) -> OperationError {
        let Short { done, fault } = short;
        let because = |reason| OperationError::faulted(done, reason, fault);
        if !is_of_the_file(&fault) {
            return because(Reason::Fault(fault));
        }
        if let Err(stop) = self.engine.has(start as u64, done, self.size) {
            return OperationError { fault: Some(fault), ..stop };
        }
        match self.file().read_at(&mut [0], self.engine.offset((start + done) as u64)) {
            Ok(0) => OperationError { fault: Some(fault), ..self.ended(start, done) },
            Err(error) => because(Reason::Io(error)),
            // Huge pages come from a pool that is easily exhausted. A hole would prove nothing: a file that was truncated
            // and has grown again is full of them.
            Ok(_) if huge_page_size(self.file()).is_some() || is_full(self.file()) => because(Reason::NoSpace),
            Ok(_) => because(Reason::Fault(fault)),
        }
    }

    /// Reads from the file what is missing of `dst` after `done`.
    pub(super) fn pread(&self, start: usize, dst: &mut [u8], done: usize) -> Result<(), OperationError> {
        let calls = calls(dst.len());
        self.engine.read(start as u64, dst, done, calls).map_err(|stop| match stop.reason {
            Reason::PastEnd { .. } => self.ended(start, stop.done),
            _ => stop,
        })
    }

    /// Handles a read that ended within the map: the file was shorter at that moment, whatever it is now.
    #[cold]
    fn ended(&self, start: usize, done: usize) -> OperationError {
        let (at, end) = (start as u64, self.engine.offset((start + done) as u64));
        match self.engine.size() {
            Ok(size) => self.engine.shrunk(at, done, self.size, size.min(end)),
            Err(error) => OperationError::io(done, error),
        }
    }

    fn pwrite<'b>(&self, start: usize, len: usize, bytes: impl Fn(usize) -> &'b [u8]) -> Result<(), OperationError> {
        if self.rights == Rights::Read {
            let fault = Fault::rejected(Access::Write, Cause::Protection, start);
            return Err(OperationError::new(0, Reason::Fault(fault)));
        }
        // Writing past its end would extend the file: check first. Changes in between cannot be undone.
        if !self.is_sealed() {
            self.reaches(start, len).map_err(|stop| OperationError { done: 0, ..stop })?;
        }
        self.engine.write(start as u64, len, 0, calls(len), |file, offset, done| file.write_at(bytes(done), offset))?;
        self.look(start, len)
    }
}
