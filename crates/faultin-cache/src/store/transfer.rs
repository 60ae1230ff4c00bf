//! Store I/O that goes on until it is done, whatever the store answers.

#![forbid(unsafe_code)]

use std::io;

use super::Store;
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
    let unit = store.alignment();
    let mut done = 0;
    while done < buf.len() {
        let part = &buf[done..];
        match store.write_at(part, pos + done as u64) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) if written > part.len() => return (done, Err(overlong("written", written, part.len()))),
            Ok(written) => {
                // What was written of a unit in part is written again.
                let whole = written / unit * unit;
                if whole == 0 && written < part.len() {
                    return (done, Err(io::ErrorKind::WriteZero.into()));
                }
                done += if written == part.len() { written } else { whole };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

fn overlong(what: &str, answered: usize, asked: usize) -> io::Error {
    let says = format!("the store says it has {what} {answered} bytes where it was asked for {asked}");
    io::Error::new(io::ErrorKind::InvalidData, says)
}
