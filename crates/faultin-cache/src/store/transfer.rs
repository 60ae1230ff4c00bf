//! Store I/O that goes on until it is done, whatever the store answers.

#![forbid(unsafe_code)]

use std::io;

use super::{Store, Write};
use crate::inode::MAX_BYTES;

/// Reads all of `buf`; zeros behind the end of the file.
///
/// # Errors
/// The store's, or [`InvalidData`](io::ErrorKind::InvalidData) if it says it has read more than it was asked for.
pub(crate) fn read_full(store: &dyn Store, buf: &mut [u8], pos: u64) -> io::Result<()> {
    let unit = store.alignment();
    // The last block reaches behind the largest position, where the kernel refuses to read.
    let most = usize::try_from(MAX_BYTES.saturating_sub(pos)).unwrap_or(usize::MAX).min(buf.len());
    let mut done = 0;
    while done < most {
        let part = &mut buf[done..most];
        let asked = part.len();
        match store.read_at(part, pos + done as u64) {
            Ok(0) => break,
            Ok(read) if read > asked => return Err(overlong("read", read, asked)),
            // Only the end of the file is within a unit.
            Ok(read) if read % unit != 0 => {
                done += read;
                break;
            }
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buf[done..].fill(0);
    Ok(())
}

/// Writes all of `buf`: how much was written, and the error that ended it before.
pub(crate) fn write_full(store: &dyn Store, buf: &[u8], pos: u64) -> (usize, io::Result<()>) {
    go_on(store, Write { pos, bytes: buf }, 0)
}

/// As [`write_full`] for each of several, which the store gets to know at once.
pub(crate) fn write_full_many(store: &dyn Store, writes: &[Write<'_>]) -> Vec<(usize, io::Result<()>)> {
    let mut answers = store.write_many(writes).into_iter();
    let finish = |write: &Write<'_>, answer: Option<io::Result<usize>>| {
        // One that is not answered has not begun.
        let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()));
        match progress(answer, write.bytes.len(), store.alignment()) {
            Ok(done) => go_on(store, *write, done),
            Err(error) => (0, Err(error)),
        }
    };
    writes.iter().map(|write| finish(write, answers.next())).collect()
}

/// Writes what is behind the first `done` bytes.
fn go_on(store: &dyn Store, write: Write<'_>, mut done: usize) -> (usize, io::Result<()>) {
    while done < write.bytes.len() {
        let rest = &write.bytes[done..];
        match progress(store.write_at(rest, write.pos + done as u64), rest.len(), store.alignment()) {
            Ok(more) => done += more,
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// What an answer to a write of `asked` bytes, at least one, is worth: whole units, because what was written of a unit in part
/// is written again; nothing, if it is to be tried again.
fn progress(answer: io::Result<usize>, asked: usize, unit: usize) -> io::Result<usize> {
    match answer {
        Ok(written) if written > asked => Err(overlong("written", written, asked)),
        Ok(written) if written == asked => Ok(written),
        Ok(written) if written < unit => Err(io::ErrorKind::WriteZero.into()),
        Ok(written) => Ok(written / unit * unit),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

fn overlong(what: &str, answered: usize, asked: usize) -> io::Error {
    let says = format!("the store says it has {what} {answered} bytes where it was asked for {asked}");
    io::Error::new(io::ErrorKind::InvalidData, says)
}
