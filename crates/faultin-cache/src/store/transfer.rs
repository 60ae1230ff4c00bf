//! Store I/O that continues until it is done, whatever counts the store returns.

#![forbid(unsafe_code)]

use std::io;

use super::length::Length;
use super::{ReadRequest, Store, WriteRequest};
use crate::bounce::Bounce;
use crate::store::MAX_BYTES;

/// Number of results in a row without progress, before the store has failed.
const TRIES: u32 = 4;

/// Number of interruptions in a row, before the store has failed: with a timer that interrupts a thread each millisecond,
/// more than a second's.
const INTERRUPTIONS: u32 = 2000;

/// The number of interruptions of one transfer since its last progress.
#[derive(Default)]
struct Interruptions(u32);

impl Interruptions {
    /// Counts another interruption, of a call at `pos`.
    ///
    /// # Errors
    /// At the [bound](INTERRUPTIONS). Not [`Interrupted`](io::ErrorKind::Interrupted), which callers repeat.
    fn count(&mut self, pos: u64, error: &io::Error) -> io::Result<()> {
        self.0 += 1;
        if self.0 < INTERRUPTIONS {
            return Ok(());
        }
        let says = format!("the store was interrupted {INTERRUPTIONS} times in a row at byte {pos}: {error}");
        Err(io::Error::new(io::ErrorKind::TimedOut, says))
    }
}

/// Reads all of `buf`, from `pos` on; zeros where the store's `length` has no byte. Returns the number of valid bytes,
/// whole units unless all are, and the error that ended it.
///
/// Only a read of 0 bytes is the end of a store. After a short count within a unit, reading continues at the start of that
/// unit, unless it has reached the store's length.
///
/// The error is the store's; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the store ends before its length, or
/// returns no whole unit; [`InvalidData`](io::ErrorKind::InvalidData) if it reports more bytes than were requested.
pub(super) fn read_full(store: &dyn Store, length: &Length, buf: &mut [u8], pos: u64) -> (usize, io::Result<()>) {
    go_on_reading(store, length, buf, pos, 0)
}

/// Reads what is after the first `done` bytes.
fn go_on_reading(
    store: &dyn Store,
    length: &Length,
    buf: &mut [u8],
    pos: u64,
    mut done: usize,
) -> (usize, io::Result<()>) {
    let result = read_units(store, length, buf, pos, &mut done);
    if result.is_ok() {
        buf[done..].fill(0);
        done = buf.len();
    }
    (done, result)
}

/// Reads as [`read_full`] does for each of several, which the store gets at once. Each `bytes` is filled as a whole, unless
/// its result is an error.
pub(super) fn read_full_many(
    store: &dyn Store,
    length: &Length,
    mut reads: Vec<ReadRequest<'_>>,
) -> Vec<(usize, io::Result<()>)> {
    let unit = store.alignment();
    // Only what the store may have, as whole units; the rest reads as zeros.
    let most = length.most().min(MAX_BYTES);
    let within = |read: &ReadRequest<'_>| {
        let end = usize::try_from(most.saturating_sub(read.pos)).unwrap_or(usize::MAX).min(read.bytes.len());
        end.checked_next_multiple_of(unit).unwrap_or(end).min(read.bytes.len())
    };
    let lens: Vec<usize> = reads.iter().map(within).collect();
    let mut asked: Vec<_> = reads
        .iter_mut()
        .zip(&lens)
        .filter(|(_, len)| **len > 0)
        .map(|(read, &len)| ReadRequest::new(read.pos, &mut read.bytes[..len]))
        .collect();
    let answers = if asked.is_empty() { Vec::new() } else { store.read_many(&mut asked) };
    let mut answers = answers.into_iter();
    let finish = |(read, asked): (ReadRequest<'_>, usize)| {
        let answer = if asked > 0 { answers.next() } else { None };
        match answer {
            Some(Ok(done)) if done > asked => (0, Err(overlong("read", done, asked))),
            Some(Ok(done)) => go_on_reading(store, length, read.bytes, read.pos, done / unit * unit),
            Some(Err(error)) if error.kind() != io::ErrorKind::Interrupted => (0, Err(error)),
            // A read without a result has not begun.
            _ => go_on_reading(store, length, read.bytes, read.pos, 0),
        }
    };
    reads.into_iter().zip(lens).map(finish).collect()
}

/// Reads what the store has at hand, from `pos` on, without waiting; zeros where its `length` has no byte. Returns the
/// number of valid bytes.
///
/// # Errors
/// The store's, unless it only means that the bytes have to be waited for.
pub(super) fn try_read(store: &dyn Store, length: &Length, buf: &mut [u8], pos: u64) -> io::Result<usize> {
    let most = length.most().min(MAX_BYTES);
    let end = usize::try_from(most.saturating_sub(pos)).unwrap_or(usize::MAX).min(buf.len());
    if end == 0 {
        buf.fill(0);
        return Ok(buf.len());
    }
    let asked = end.checked_next_multiple_of(store.alignment()).unwrap_or(end).min(buf.len());
    match store.try_read_at(&mut buf[..asked], pos) {
        Ok(read) if read > asked => Err(overlong("read", read, asked)),
        Ok(read) if read >= end => {
            buf[end..].fill(0);
            Ok(buf.len())
        }
        Ok(read) => Ok(read),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Unsupported | io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error),
        },
    }
}

/// Reads up to the end of `buf` or of the store.
fn read_units(store: &dyn Store, length: &Length, buf: &mut [u8], pos: u64, done: &mut usize) -> io::Result<()> {
    let unit = store.alignment();
    // The last block extends past the largest position, where the kernel rejects reads.
    let largest = usize::try_from(MAX_BYTES.saturating_sub(pos)).unwrap_or(usize::MAX).min(buf.len());
    let (mut idle, mut interruptions) = (0, Interruptions::default());
    loop {
        // Read each time: while no lock is held, both may decrease.
        let most = length.most();
        let end = usize::try_from(most.saturating_sub(pos)).unwrap_or(usize::MAX).min(largest);
        if *done >= end {
            *done = end;
            return Ok(());
        }
        let part = &mut buf[*done..end.checked_next_multiple_of(unit).unwrap_or(end).min(largest)];
        let asked = part.len();
        let read = match store.read_at(part, pos + *done as u64) {
            Ok(read) if read > asked => return Err(overlong("read", read, asked)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                interruptions.count(pos + *done as u64, &error)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let reached = pos + (*done + read) as u64;
        if reached >= most {
            *done = end;
            return Ok(());
        }
        if read >= unit {
            *done += read / unit * unit;
            (idle, interruptions) = (0, Interruptions::default());
            continue;
        }
        // Nothing, or a part of a unit: the end, if it may be here.
        let is_end = read == 0 || ends_within(store, pos + (*done + unit) as u64)?;
        if is_end && reached >= length.least().min(pos + end as u64) {
            *done += read;
            return Ok(());
        }
        idle += 1;
        if idle == TRIES {
            return Err(early_end(reached, length.least()));
        }
    }
}

/// Returns whether the store has no byte at `next`, the start of a unit.
fn ends_within(store: &dyn Store, next: u64) -> io::Result<bool> {
    let unit = store.alignment();
    let mut bounce = Bounce::new(unit, unit);
    let mut interruptions = Interruptions::default();
    loop {
        match store.read_at(bounce.bytes_mut(unit), next) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => interruptions.count(next, &error)?,
            result => return result.map(|read| read == 0),
        }
    }
}

/// Makes the error for a store that has no more bytes at `at` although its length is `len`.
fn early_end(at: u64, len: u64) -> io::Error {
    let says = format!("the store ends at byte {at}, but its length is {len}");
    io::Error::new(io::ErrorKind::UnexpectedEof, says)
}

/// Writes all of `buf`: returns the number of bytes written, and the error that ended it.
pub(super) fn write_full(store: &dyn Store, buf: &[u8], pos: u64) -> (usize, io::Result<()>) {
    go_on(store, WriteRequest { pos, bytes: buf }, 0)
}

/// Writes as [`write_full`] does for each of several, which the store gets at once.
pub(super) fn write_full_many(store: &dyn Store, writes: &[WriteRequest<'_>]) -> Vec<(usize, io::Result<()>)> {
    let mut answers = store.write_many(writes).into_iter();
    let finish = |write: &WriteRequest<'_>, answer: Option<io::Result<usize>>| {
        // A write without a result has not begun.
        let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()));
        match progress(answer, write.bytes.len(), store.alignment()) {
            Ok(done) => go_on(store, *write, done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => go_on(store, *write, 0),
            Err(error) => (0, Err(error)),
        }
    };
    writes.iter().map(|write| finish(write, answers.next())).collect()
}

/// Writes what is after the first `done` bytes.
fn go_on(store: &dyn Store, write: WriteRequest<'_>, mut done: usize) -> (usize, io::Result<()>) {
    let (mut idle, mut interruptions) = (0, Interruptions::default());
    while done < write.bytes.len() {
        let (rest, pos) = (&write.bytes[done..], write.pos + done as u64);
        match progress(store.write_at(rest, pos), rest.len(), store.alignment()) {
            Ok(0) => {
                idle += 1;
                if idle == TRIES {
                    return (done, Err(io::ErrorKind::WriteZero.into()));
                }
            }
            Ok(more) => (done, idle, interruptions) = (done + more, 0, Interruptions::default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                if let Err(error) = interruptions.count(pos, &error) {
                    return (done, Err(error));
                }
            }
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Returns the progress of a write of `asked` bytes, at least one: whole units, because a unit that was written in part is
/// written again.
fn progress(answer: io::Result<usize>, asked: usize, unit: usize) -> io::Result<usize> {
    match answer? {
        written if written > asked => Err(overlong("written", written, asked)),
        written if written == asked => Ok(written),
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written / unit * unit),
    }
}

fn overlong(what: &str, answered: usize, asked: usize) -> io::Error {
    let says = format!("the store says it has {what} {answered} bytes where it was asked for {asked}");
    io::Error::new(io::ErrorKind::InvalidData, says)
}
