//! Reading what is in memory, without waiting.
//!
//! A pass copies what is valid, as every read does. Missing blocks are taken from what the store has at hand, into folios
//! whose memory can be had at once: from clean folios that no operation wants. Nothing here waits: locks are tried, dirty
//! blocks are not written, and the buffer is not faulted in.

#![forbid(unsafe_code)]

use faultin::iov::IovDest;
use faultin::memory::WriteMemory;

use crate::copy::CopyTo;
use crate::error::{Error, Partial};
use crate::folio::{Folio, Table};
use crate::inode::{Inode, check_range};
use crate::read::{PassEnd, pass};
use crate::stats::Counters;
use crate::write::Observer;

/// Reads to what is left of `to`: returns the number of bytes read, which is smaller only at the end of the file.
///
/// # Errors
/// [`Partial`] with [`Error::WouldBlock`] at the first byte that has to be waited for; with [`Error::Fault`] at the first
/// byte of the buffer that is not accessible; or with the store's error.
pub(crate) fn perform<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    pos: u64,
    counters: &Counters,
    observer: &mut impl Observer,
) -> Result<usize, Partial> {
    let operation = counters.read();
    let mut at = pos;
    let result = check_range(pos, to.count()).and_then(|()| read_now::<M, C>(inode, to, &mut at, observer));
    let done = (at - pos) as usize;
    operation.end(result.map(|()| done).map_err(|error| Partial { done, error }))
}

fn read_now<M: WriteMemory, C: CopyTo<M>>(
    inode: &Inode,
    to: &mut IovDest<'_, '_, M>,
    pos: &mut u64,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    loop {
        let shared = inode.table().try_shared().ok_or(Error::WouldBlock)?;
        if is_over::<M, C>(&shared, to, pos, observer)? {
            return Ok(());
        }
        drop(shared);
        let mut table = inode.table().try_exclusive_briefly().ok_or(Error::WouldBlock)?;
        inode.fill_now(&mut table, *pos, to.count() as u64)?;
        // The byte at `pos` is valid now, and nothing can evict it before it is copied: each turn moves at least one.
        if is_over::<M, C>(&table, to, pos, observer)? {
            return Ok(());
        }
    }
}

/// Copies what is valid. Returns whether there is no more to copy.
fn is_over<M: WriteMemory, C: CopyTo<M>>(
    table: &Table,
    to: &mut IovDest<'_, '_, M>,
    pos: &mut u64,
    observer: &mut impl Observer,
) -> Result<bool, Error> {
    observer.locked();
    let (moved, end) = pass::<M, C>(table, to, *pos, observer);
    observer.unlocked();
    *pos += moved as u64;
    match end {
        PassEnd::End => Ok(true),
        PassEnd::Missing => Ok(false),
        // Faulting in may wait.
        PassEnd::Fault(fault) => Err(Error::Fault(fault)),
        PassEnd::Failed(error) => Err(error),
    }
}

impl Inode {
    /// Makes at least the byte at `pos` valid, which is missing, and about `want` bytes from there on if that takes no more
    /// than one folio, with what the store has at hand.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the store would have to be waited for, or memory; the store's error.
    fn fill_now(&self, table: &mut Table, pos: u64, want: u64) -> Result<(), Error> {
        let end = self.end_of_blocks(table).min(self.geometry().block_up(pos.saturating_add(want)));
        if let Some(key) = table.find(pos) {
            let folio = table.get_mut(key);
            let blocks = self.geometry().block_down(pos)..end.min(folio.end());
            let run = folio.next_missing(blocks).ok_or(Error::WouldBlock)?;
            return self.read_now(folio, run.start, run.end, pos);
        }
        let start = self.geometry().block_down(pos);
        let room = table.room(start, end - start);
        let space = self.cache().space_at_once(self, table, room)?.ok_or(Error::WouldBlock)?;
        let mut folio = Folio::new(space.into_memory(start), start, self.geometry().block);
        let end = end.min(folio.end());
        self.read_now(&mut folio, start, end, pos)?;
        table.insert(folio);
        Ok(())
    }

    /// Fills whole blocks of a folio, at least the one with `pos`.
    fn read_now(&self, folio: &mut Folio, start: u64, end: u64, pos: u64) -> Result<(), Error> {
        let (reached, result) = folio.fill_until(start..end, |bytes, at| match self.store().try_read(bytes, at) {
            Ok(read) if read == bytes.len() => (read, Ok(())),
            Ok(read) => (read, Err(Error::WouldBlock)),
            Err(error) => (0, Err(error.into())),
        });
        let reached = if result.is_ok() { end } else { self.geometry().block_down(reached).max(start) };
        if reached > start {
            folio.set_uptodate(start..reached);
        }
        if reached > pos { Ok(()) } else { Err(result.err().unwrap_or(Error::WouldBlock)) }
    }
}
