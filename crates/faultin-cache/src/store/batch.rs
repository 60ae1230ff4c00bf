//! Several reads of a file at once: neighbours are read by one call, and what the kernel does not have in memory is read
//! from the disk at the same time.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;

use faultin::CallError;
use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv, preadv2};

use super::ReadRequest;
use super::uring::{self, VectoredRead};

/// Maximum number of buffers of a call: the kernel's `UIO_MAXIOV`.
const MAX_BUFFERS: usize = 1024;

/// Maximum number of bytes of a call: less than the kernel reads at once.
const MAX_BYTES: usize = 1 << 30;

/// Number of bytes that the kernel is asked to read ahead in one call: it ignores what is after its largest request.
const AHEAD: u64 = 128 << 10;

/// Requests with no gap between them.
struct Group<'b> {
    pos: u64,
    len: usize,
    /// The places of the requests in the list that was given, in the order of their positions.
    requests: Vec<usize>,
    buffers: Vec<IoSliceMut<'b>>,
    /// Number of bytes that were read so far, and of buffers that are full.
    done: usize,
    full: usize,
}

impl<'b> Group<'b> {
    fn new(pos: u64) -> Group<'b> {
        Group { pos, len: 0, requests: Vec::new(), buffers: Vec::new(), done: 0, full: 0 }
    }

    fn add(&mut self, index: usize, read: &'b mut ReadRequest<'_>) {
        self.len += read.bytes.len();
        self.requests.push(index);
        self.buffers.push(IoSliceMut::new(read.bytes));
    }

    fn takes(&self, read: &ReadRequest<'_>) -> bool {
        self.pos + self.len as u64 == read.pos
            && self.buffers.len() < MAX_BUFFERS
            && self.len.saturating_add(read.bytes.len()) <= MAX_BYTES
    }

    /// Returns the position and the buffers of what is left.
    fn left(&mut self) -> (u64, &mut [IoSliceMut<'b>]) {
        (self.pos + self.done as u64, &mut self.buffers[self.full..])
    }

    /// Notes that the first `read` bytes of what was left were read.
    fn advance(&mut self, read: usize) {
        let mut left = &mut self.buffers[self.full..];
        IoSliceMut::advance_slices(&mut left, read);
        let left = left.len();
        self.full = self.buffers.len() - left;
        self.done += read;
    }

    /// Copies what the kernel has in memory. Returns whether that was all.
    fn copy_cached(&mut self, file: &File) -> bool {
        let (pos, buffers) = self.left();
        // If it fails, it would have to wait, or the file system does not have the flag, or the next call fails, too.
        if let Ok(read) = preadv2(file, buffers, pos, ReadWriteFlags::NOWAIT) {
            self.advance(read);
        }
        self.done == self.len
    }

    /// Gives each request its part of the result; `error` ended it: that of any of them, where the kernel reports no count (past
    /// its page cache).
    fn share(self, error: Option<io::Error>, lens: &[usize], answers: &mut [io::Result<usize>]) {
        let (mut left, mut error) = (self.done, error);
        let (has_failed, is_alone) = (error.is_some(), self.requests.len() == 1);
        for (place, index) in self.requests.into_iter().enumerate() {
            let part = lens[index].min(left);
            left -= part;
            answers[index] = match error.take_if(|_| self.done == 0 && is_alone) {
                Some(error) => Err(error),
                // The end of the file, or an error, which is not known to be here: each is read again, alone.
                None if part == 0 && lens[index] > 0 && (place > 0 || self.done > 0 || has_failed) => {
                    Err(io::ErrorKind::Interrupted.into())
                }
                None => Ok(part),
            };
        }
    }
}

/// Reads all requests, and returns a result for each, as `pread` would: a short count is not an error. With `is_cached`,
/// bytes that the kernel has in its page cache are copied first. The rest is read by io_uring, where the kernel has it and
/// allows it, and otherwise by one call after the other, of which the kernel was told before.
pub(super) fn read_many(file: &File, is_cached: bool, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
    let lens: Vec<usize> = reads.iter().map(|read| read.bytes.len()).collect();
    // A read without a result was not done.
    let mut answers: Vec<io::Result<usize>> = lens.iter().map(|_| Err(io::ErrorKind::Interrupted.into())).collect();
    let mut missing = Vec::new();
    for mut group in grouped(reads) {
        match group.len == 0 || is_cached && group.copy_cached(file) {
            true => group.share(None, &lens, &mut answers),
            false => missing.push(group),
        }
    }
    let results = read_missing(file, is_cached, &mut missing);
    for (mut group, result) in missing.into_iter().zip(results) {
        let error = match result {
            Ok(read) => {
                group.advance(read);
                None
            }
            Err(error) => Some(CallError::name("preadv", error)),
        };
        group.share(error, &lens, &mut answers);
    }
    answers
}

fn read_missing(file: &File, is_cached: bool, groups: &mut [Group<'_>]) -> Vec<io::Result<usize>> {
    if groups.len() > 1 {
        let mut reads: Vec<_> = groups
            .iter_mut()
            .map(|group| {
                let (pos, buffers) = group.left();
                VectoredRead { pos, buffers }
            })
            .collect();
        if let Some(results) = uring::read(file, &mut reads) {
            return results;
        }
        if is_cached {
            groups
                .iter()
                .for_each(|group| read_ahead(file, group.pos + group.done as u64, (group.len - group.done) as u64));
        }
    }
    let read = |group: &mut Group<'_>| {
        let (pos, buffers) = group.left();
        preadv(file, buffers, pos).map_err(io::Error::from)
    };
    groups.iter_mut().map(read).collect()
}

/// Starts to read a range into the kernel's page cache. A hint: a failure has no effect.
fn read_ahead(file: &File, pos: u64, len: u64) {
    let mut done = 0;
    while let Some(now) = NonZeroU64::new(AHEAD.min(len - done)) {
        if fadvise(file, pos + done, Some(now), Advice::WillNeed).is_err() {
            return;
        }
        done += now.get();
    }
}

/// Sorts requests by their position, and joins neighbours.
fn grouped<'b>(reads: &'b mut [ReadRequest<'_>]) -> Vec<Group<'b>> {
    let mut sorted: Vec<_> = reads.iter_mut().enumerate().collect();
    sorted.sort_by_key(|(_, read)| read.pos);
    let mut groups: Vec<Group<'b>> = Vec::new();
    for (index, read) in sorted {
        match groups.last_mut().filter(|last| last.takes(read)) {
            Some(last) => last.add(index, read),
            None => {
                let mut group = Group::new(read.pos);
                group.add(index, read);
                groups.push(group);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;
    use crate::bounce::Bounce;

    /// The kernel rejects a direct read as a whole if one of its buffers is not aligned.
    #[test]
    fn an_error_of_one_of_several_neighbours_is_not_reported_as_that_of_the_first() {
        const BLOCK: usize = 4096;
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let path = folder.path().join("data");
        std::fs::write(&path, [7; 4 * BLOCK]).expect("a file");
        let file = match File::options().read(true).custom_flags(libc::O_DIRECT).open(&path) {
            Ok(file) => file,
            Err(error) => return faultin_test::skipped("o-direct", error),
        };
        let (mut good, mut bad) = (Bounce::new(BLOCK, BLOCK), Bounce::new(2 * BLOCK, BLOCK));
        let mut read = |several: bool| {
            let mut reads = vec![ReadRequest::new(0, good.bytes_mut(BLOCK))];
            if several {
                reads.push(ReadRequest::new(BLOCK as u64, &mut bad.bytes_mut(2 * BLOCK)[1..=BLOCK]));
            }
            read_many(&file, false, &mut reads)
        };
        if read(true)[1].is_ok() {
            return faultin_test::skipped("o-direct", "this file system takes any buffer");
        }
        assert_eq!(read(false)[0].as_ref().ok(), Some(&BLOCK));
        let kinds: Vec<_> = read(true).into_iter().map(|result| result.map_err(|error| error.kind())).collect();
        assert_eq!(kinds, [Err(io::ErrorKind::Interrupted); 2], "each is read alone");
    }
}
