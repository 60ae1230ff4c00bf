//! Dirty blocks go to the store, and who hears of it if they do not.
//!
//! A block that the store did not take stays dirty. The error is counted; each handle remembers how many it has heard of, so
//! each `fsync` that has not reported an error yet does, once (the kernel's `errseq_t`; but the kernel forgets what it could not
//! write).

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
use crate::folio::{Folio, Table};
use crate::inode::{Inode, UNKNOWN};
use crate::lock::Exclusive;
use crate::store::write_full;

/// The errors of a file's writeback.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    count: u64,
    last: Option<Arc<io::Error>>,
}

impl Errors {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn record(&mut self, error: Arc<io::Error>) {
        self.count += 1;
        self.last = Some(error);
    }

    /// The last error, if there was one after the first `seen`.
    pub(crate) fn since(&self, seen: u64) -> Option<Arc<io::Error>> {
        self.last.clone().filter(|_| self.count > seen)
    }
}

/// Bytes that are written without looking whether somebody else wants the lock.
const TURN: u64 = 8 << 20;

impl Inode {
    /// Writes what is dirty in `range`, and goes on behind what fails. A writer that comes in between may make more dirty;
    /// what was dirty at the beginning is written.
    ///
    /// # Errors
    /// The first one. It is recorded.
    pub(crate) fn write_back(&self, range: Range<u64>) -> Result<(), Error> {
        let mut first = Ok(());
        let mut pos = range.start;
        while self.dirty.load(Ordering::Relaxed) > 0 && pos < range.end {
            // In this order, so that whoever has the inode lock alone always gets a turn.
            let table = self.table.shared()?;
            let turn = self.writeback.exclusive()?;
            let end = range.end.min(pos.saturating_add(TURN));
            let (next, result) = self.write_back_turn(&turn, &table, pos..end);
            first = first.and(result);
            match next {
                Some(next) => pos = next,
                None if end == range.end => break,
                None => match table.next_dirty(end..range.end) {
                    Some((_, run)) => pos = run.start,
                    None => break,
                },
            }
        }
        first
    }

    /// As far as a turn goes: where to go on, if something dirty was there.
    fn write_back_turn(
        &self,
        turn: &Exclusive<'_, ()>,
        table: &Table,
        range: Range<u64>,
    ) -> (Option<u64>, Result<(), Error>) {
        let mut result = Ok(());
        let mut pos = range.start;
        let mut found = None;
        while let Some((key, run)) = table.next_dirty(pos..range.end) {
            result = result.and(self.write_run(turn, table.get(key), run.clone(), table.size));
            pos = run.end;
            found = Some(pos);
        }
        (found, result)
    }

    /// All that is dirty of one folio, for whoever has the inode lock alone and wants to take it away.
    ///
    /// # Errors
    /// The store's, recorded; or nobody's turn, which cannot be: whoever writes back shares the inode lock.
    pub(crate) fn write_folio(&self, folio: &Folio, size: u64) -> Result<(), Option<Error>> {
        let turn = self.writeback.try_exclusive().ok_or(None)?;
        while let Some(run) = folio.next_dirty(folio.start()..folio.end()) {
            self.write_run(&turn, folio, run, size).map_err(Some)?;
        }
        Ok(())
    }

    /// Writes a run of dirty blocks of a folio; what was written is clean.
    fn write_run(&self, _: &Exclusive<'_, ()>, folio: &Folio, run: Range<u64>, size: u64) -> Result<(), Error> {
        let unit = self.store.alignment() as u64;
        let end = size.next_multiple_of(unit).min(run.end);
        let (written, result) = write_full(&*self.store, folio.bytes(run.start..end), run.start);
        let reached = run.start + written as u64;
        // A write that fails may have made the store longer. What is there then must not come back either.
        self.store_len.fetch_max(if result.is_ok() { reached } else { UNKNOWN }, Ordering::Relaxed);
        let clean = if reached == end { run.end } else { self.geometry.block_down(reached) };
        if clean > run.start {
            self.sub_dirty(folio.clean(run.start..clean));
        }
        result.map_err(|error| self.record(error))
    }

    fn record(&self, error: io::Error) -> Error {
        let error = Arc::new(error);
        self.errors.lock().record(Arc::clone(&error));
        Error::Store(error)
    }

    /// Writes everything back and has it made durable. What fails is recorded.
    ///
    /// # Errors
    /// [`Error::Deadlock`].
    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Error> {
        let locked = |result: Result<(), Error>| match result {
            // Recorded.
            Ok(()) | Err(Error::Store(_)) => Ok(()),
            Err(other) => Err(other),
        };
        locked(self.write_back(0..u64::MAX))?;
        locked(self.settle_len())?;
        if let Err(error) = self.store.sync(data_only) {
            self.record(error);
        }
        Ok(())
    }

    /// Reports what has failed since the first `seen` errors, which are all of them now.
    ///
    /// # Errors
    /// The last failure that was not seen.
    pub(crate) fn report(&self, seen: &AtomicU64) -> Result<(), Error> {
        // In one go: an error that comes in between would be seen and not reported.
        let errors = self.errors.lock();
        let seen = seen.swap(errors.count(), Ordering::Relaxed);
        errors.since(seen).map_or(Ok(()), |error| Err(Error::Store(error)))
    }

    /// Makes the store as long as the file: it may be shorter (nobody has written where the file ends), or longer by less
    /// than a unit.
    pub(crate) fn settle_len(&self) -> Result<(), Error> {
        let table = self.table.shared()?;
        let _turn = self.writeback.exclusive()?;
        // What could not be written yet may be behind; the length of what is there can be right all the same.
        if self.store_len.load(Ordering::Relaxed) != table.size {
            self.store.set_len(table.size).map_err(|error| self.record(error))?;
            self.store_len.store(table.size, Ordering::Relaxed);
        }
        Ok(())
    }
}
