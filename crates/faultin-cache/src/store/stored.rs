//! [`Stored`]: the store of a file, with what is known of its length. All calls of stores by a file are here, so that each call
//! that may change the length records that before and after.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;

use super::transfer::{read_full, read_full_many, try_read, write_full, write_full_many};
use super::{Length, ReadRequest, Store, WriteRequest};

/// The store of a file. Writes, and changes of the length, are for the holder of the exclusive inode lock, or of the shared one
/// and the writeback lock.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    store: &'a dyn Store,
    length: &'a Length,
}

impl<'a> Stored<'a> {
    pub(crate) fn new(store: &'a dyn Store, length: &'a Length) -> Stored<'a> {
        Stored { store, length }
    }

    /// Returns the store, to ask it for what does not concern its bytes.
    pub(crate) fn get(&self) -> &'a dyn Store {
        self.store
    }

    pub(crate) fn alignment(&self) -> usize {
        self.store.alignment()
    }

    /// Reads all of `buf`; zeros where the store has no bytes. Returns the number of valid bytes, and the error that ended it.
    pub(crate) fn read(&self, buf: &mut [u8], pos: u64) -> (usize, io::Result<()>) {
        read_full(self.store, self.length, buf, pos)
    }

    /// Reads as [`read`](Self::read) does for each of several, which the store gets at once.
    pub(crate) fn read_many(&self, reads: Vec<ReadRequest<'_>>) -> Vec<(usize, io::Result<()>)> {
        read_full_many(self.store, self.length, reads)
    }

    /// Reads what the store has at hand, without waiting. Returns the number of valid bytes.
    ///
    /// # Errors
    /// The store's, unless it only means that the bytes have to be waited for.
    pub(crate) fn try_read(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        try_read(self.store, self.length, buf, pos)
    }

    /// Writes all of `bytes`: returns the number of bytes written, and the error that ended it.
    pub(crate) fn write(&self, bytes: &[u8], pos: u64) -> (usize, io::Result<()>) {
        let before = self.length.grows(pos + bytes.len() as u64);
        let (written, result) = write_full(self.store, bytes, pos);
        self.length.grew(before, reached(pos, written), result.is_ok());
        (written, result)
    }

    /// Writes as [`write`](Self::write) does for each of several, which the store gets at once.
    pub(crate) fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<(usize, io::Result<()>)> {
        let ends = writes.iter().map(|write| write.pos + write.bytes.len() as u64);
        let before = self.length.grows(ends.max().unwrap_or(0));
        let answers = write_full_many(self.store, writes);
        // A write that fails may have made the store longer. Those bytes must not reappear either.
        let reached = writes.iter().zip(&answers).map(|(write, (written, _))| reached(write.pos, *written));
        let is_exact = answers.iter().all(|(_, result)| result.is_ok());
        self.length.grew(before, reached.max().unwrap_or(0), is_exact);
        answers
    }

    /// Sets the length to `len` bytes.
    ///
    /// # Errors
    /// The store's error. Its length is unknown then.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        let may_be_longer = self.length.may_exceed(len);
        self.length.changes(len);
        self.store.set_len(len)?;
        self.length.changed(len, may_be_longer);
        Ok(())
    }

    /// Records that the store may have bytes from `len` on that do not belong to the file.
    pub(crate) fn note_leftover(&self, len: u64) {
        self.length.note_leftover(len);
    }

    /// Removes such bytes, before the store grows.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn truncate_leftover(&self) -> io::Result<()> {
        self.length.leftover().map_or(Ok(()), |len| self.set_len(len))
    }

    /// Makes a hole, as far as the store may have bytes there.
    ///
    /// # Errors
    /// The store's error. The bytes are unknown then, unless it is [`Unsupported`](io::ErrorKind::Unsupported).
    pub(crate) fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let within = range.start..range.end.min(self.length.most());
        if within.is_empty() { Ok(()) } else { self.store.punch_hole(within) }
    }

    /// Frees the space that is allocated past `len`, the length of the file.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn trim(&self, len: u64) -> io::Result<()> {
        // A store that trims by setting its length is longer afterwards than the bytes that were written to it.
        self.length.changes(len);
        self.store.trim(len)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// The store's error: see [`sync_failed`](Self::sync_failed).
    pub(crate) fn sync(&self, data_only: bool) -> io::Result<()> {
        self.store.sync(data_only)
    }

    /// Returns the least length to which the store was truncated since the last call; `u64::MAX` if it was not.
    pub(crate) fn take_cut(&self) -> u64 {
        self.length.take_cut()
    }

    /// Records that changes of the length may not have reached the disk, which are to be `len`; `was_cut` if one was a
    /// truncation.
    pub(crate) fn sync_failed(&self, len: u64, was_cut: bool) {
        self.length.changes(len);
        if was_cut {
            self.length.note_leftover(len);
        }
    }

    /// Allocates space for a range.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.store.allocate(range)
    }

    /// Reserves space for `bytes` bytes.
    ///
    /// # Errors
    /// The store's error.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.store.reserve(bytes)
    }

    pub(crate) fn unreserve(&self, bytes: u64) {
        self.store.unreserve(bytes);
    }
}

/// Returns the end of what a write has surely stored.
fn reached(pos: u64, written: usize) -> u64 {
    if written > 0 { pos + written as u64 } else { 0 }
}
