//! Writing dirty blocks to the store, and reporting errors of that.
//!
//! A block that the store did not take stays dirty. The error is counted; each handle remembers how many it has reported,
//! so each `fsync` that has not reported an error yet does, once (the kernel's `errseq_t`; but the kernel forgets what it
//! could not write). Bytes that a store has taken are not safe before the store's sync succeeds; after a failed one, those
//! blocks are dirty again, or lost ([`Unsynced`](crate::folio::Unsynced)).

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::bounce::Bounce;
use crate::error::Error;
use crate::folio::{Folio, Key, Table};
use crate::inode::Inode;
use crate::pager::bug::{self, Bug};
use crate::store::WriteRequest;

/// How long a page stays writable that was faulted in repeatedly for a store: far longer than a copy takes to begin.
const SPARED: Duration = Duration::from_micros(200);

/// Maximum number of runs that the store gets at once.
const WRITE_BATCH: usize = 64;

/// Number of bytes that are written without checking whether another thread wants the lock.
const TURN: u64 = 8 << 20;

impl Inode {
    /// Writes the dirty blocks in `range`, and continues after those that fail. A writer in between may make more dirty;
    /// blocks that were dirty at the beginning are written.
    ///
    /// # Errors
    /// The first error. It is recorded.
    pub(crate) fn write_back(&self, range: Range<u64>) -> Result<(), Error> {
        let spared = Cell::new(false);
        let first = self.write_back_turns(range.clone(), Some(&spared));
        if !spared.get() {
            return first;
        }
        // A page was faulted in repeatedly, and gets the time for a copy.
        faultin::sleep(SPARED);
        first.and(self.write_back_turns(range, None))
    }

    fn write_back_turns(&self, range: Range<u64>, spared: Option<&Cell<bool>>) -> Result<(), Error> {
        let mut first = Ok(());
        let mut pos = range.start;
        while self.dirty() > 0 && pos < range.end {
            // In this order, so that a thread that wants the inode lock exclusively always gets a turn.
            let table = self.table().shared()?;
            let _turn = self.writeback().exclusive()?;
            let end = range.end.min(pos.saturating_add(TURN));
            let (next, result) = self.write_back_turn(&table, pos..end, spared);
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

    /// Writes within one turn: returns the position to continue at, if something was dirty.
    fn write_back_turn(
        &self,
        table: &Table,
        range: Range<u64>,
        spared: Option<&Cell<bool>>,
    ) -> (Option<u64>, Result<(), Error>) {
        let mut result = Ok(());
        let mut pos = range.start;
        let mut runs = Vec::new();
        while let Some((key, run)) = table.next_dirty(pos..range.end) {
            pos = run.end;
            runs.push((table.get(key), run));
            if runs.len() == WRITE_BATCH {
                result = result.and(self.write_runs(table, &runs, spared));
                runs.clear();
            }
        }
        result = result.and(self.write_runs(table, &runs, spared));
        (Some(pos).filter(|pos| *pos > range.start), result)
    }

    /// Writes all that is dirty of one folio, which the holder of the exclusive inode lock wants to evict.
    ///
    /// # Errors
    /// The store's error, recorded.
    pub(crate) fn write_folio(&self, table: &Table, key: Key) -> Result<(), Error> {
        let folio = table.get(key);
        let mut runs = Vec::new();
        let mut pos = folio.start();
        while let Some(run) = folio.next_dirty(pos..folio.end()) {
            pos = run.end;
            runs.push((folio, run));
        }
        self.write_runs(table, &runs, None)
    }

    /// Writes runs of dirty blocks, each of a folio. Written blocks are clean, except those that are about to be stored to
    /// again, if they are spared; this is noted. For the holder of the exclusive inode lock, or of the writeback lock and
    /// the shared inode lock: so there is only one at a time.
    ///
    /// # Errors
    /// The first error, recorded. The other runs are written all the same.
    fn write_runs(
        &self,
        table: &Table,
        runs: &[(&Folio, Range<u64>)],
        spared: Option<&Cell<bool>>,
    ) -> Result<(), Error> {
        let end_of_units = table.size().next_multiple_of(self.store().alignment() as u64);
        let part = |run: &Range<u64>| run.start..run.end.min(end_of_units);
        let mut first = Ok(());
        let mut copies = Vec::with_capacity(runs.len());
        // These are about to be stored to: their current bytes are written, and they stay dirty.
        let is_kept = |(folio, run): &(&Folio, Range<u64>)| folio.is_shared() && table.is_kept(run.clone());
        let kept: Vec<_> = runs.iter().map(|run| spared.is_some() && is_kept(run)).collect();
        if let Some(spared) = spared
            && kept.contains(&true)
        {
            spared.set(true);
        }
        for ((folio, run), kept) in runs.iter().zip(&kept) {
            let copy = folio.is_shared().then(|| self.copy_of(table, folio, part(run), !kept)).transpose();
            match copy {
                Ok(copy) => copies.push(copy),
                // It stays dirty, and so do those after it.
                Err(error) => {
                    first = Err(error);
                    break;
                }
            }
        }
        let runs = &runs[..copies.len()];
        let writes: Vec<WriteRequest<'_>> = runs
            .iter()
            .zip(&copies)
            .filter_map(|((folio, run), copy)| {
                let part = part(run);
                let bytes = match copy {
                    Some(copy) => copy.bytes((part.end - part.start) as usize),
                    None => folio.stable(part)?,
                };
                Some(WriteRequest { pos: run.start, bytes })
            })
            .collect();
        if writes.is_empty() {
            return first;
        }
        if let Err(error) = self.store().truncate_leftover() {
            let error = self.record(Arc::new(error));
            return first.and(Err(error));
        }
        let answers = self.store().write_many(&writes);
        for (((folio, run), kept), (written, result)) in runs.iter().zip(kept).zip(answers) {
            let reached = run.start + written as u64;
            let clean = if reached == part(run).end { run.end } else { self.geometry().block_down(reached) };
            if clean > run.start && !kept {
                self.sub_dirty(table.clean(folio, run.start..clean));
            }
            first = first.and(result.map_err(|error| self.record(Arc::new(error))));
        }
        first
    }

    /// Returns the bytes of a part of a mapped file's folio, with zeros past the end of the file. If it will be clean, no
    /// thread can store to it any more without making it dirty again.
    ///
    /// # Errors
    /// The kernel's error, recorded.
    /// The kernel's, recorded.
    fn copy_of(&self, table: &Table, folio: &Folio, part: Range<u64>, clean: bool) -> Result<Bounce, Error> {
        let copy = || -> Result<Bounce, Error> {
            let before = clean && !bug::has(Bug::ProtectsTooLate) && !bug::has(Bug::NeverProtects);
            if let Some(mapped) = table.mapped().filter(|_| before) {
                mapped.protect(part.clone()).map_err(Error::of_page_table)?;
            }
            let mut copy = Bounce::new((part.end - part.start) as usize, self.store().alignment());
            let bytes = copy.bytes_mut((part.end - part.start) as usize);
            folio.read_to(part.start, bytes)?;
            if let Some(mapped) = table.mapped().filter(|_| bug::has(Bug::ProtectsTooLate)) {
                mapped.protect(part.clone()).map_err(Error::of_page_table)?;
            }
            let inside = table.size().saturating_sub(part.start).min(bytes.len() as u64) as usize;
            bytes[inside..].fill(0);
            Ok(copy)
        };
        copy().inspect_err(|error| drop(self.record(Arc::new(io::Error::other(error.to_string())))))
    }

    /// Writes everything back and makes it durable. Failures are recorded.
    ///
    /// # Errors
    /// [`Error::Deadlock`] if this thread holds the file's lock.
    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Error> {
        let locked = |result: Result<(), Error>| match result {
            // Recorded.
            Ok(()) | Err(Error::Store(_)) => Ok(()),
            Err(other) => Err(other),
        };
        locked(self.write_back(0..u64::MAX))?;
        locked(self.settle_len())?;
        // A store may report a failure to one of two concurrent syncs, and success to the other.
        let _turn = self.syncing().exclusive()?;
        {
            let mut table = self.table().exclusive()?;
            if table.syncs().is_under_way() {
                let says = "the store has panicked in a sync, which counts as failed";
                let error = Arc::new(io::Error::other(says));
                self.record(Arc::clone(&error));
                self.sync_failed(&mut table, &error);
            }
            table.syncs().begin(self.store().take_cut());
        }
        let result = self.store().sync(data_only).map_err(Arc::new);
        if let Err(error) = &result {
            self.record(Arc::clone(error));
        }
        let mut table = self.table().exclusive()?;
        match result {
            Ok(()) => table.syncs().succeed(),
            Err(error) => self.sync_failed(&mut table, &error),
        }
        Ok(())
    }

    /// Records that what the store has taken since its last successful sync may not have reached the disk, and neither may
    /// its length.
    fn sync_failed(&self, table: &mut Table, error: &Arc<io::Error>) {
        let was_cut = table.sync_failed(error, self.store().take_cut(), |bytes| {
            // First, because it can fail: reserved bytes and dirty bytes are the same.
            let has_space = !self.how().reserve || self.store().reserve(bytes as u64).is_ok();
            if has_space {
                self.add_dirty(bytes);
            }
            has_space
        });
        self.store().sync_failed(table.size(), was_cut);
    }

    /// Reports failures since the first `seen` errors, and sets `seen` to their number; and lost ranges, each time.
    ///
    /// # Errors
    /// The first failure that was not seen; [`Error::Lost`] for lost ranges; [`Error::Deadlock`] if this thread holds the
    /// file's lock.
    pub(crate) fn report(&self, seen: &AtomicU64) -> Result<(), Error> {
        if let Some(error) = self.unseen_failure(seen) {
            return Err(error);
        }
        let lost = self.table().shared()?.lost();
        lost.map_or(Ok(()), |(ranges, store)| Err(Error::Lost { ranges, store }))
    }

    /// Makes the store as long as the file: it may be shorter (no write has reached the end of the file), or longer by less
    /// than a unit.
    pub(crate) fn settle_len(&self) -> Result<(), Error> {
        let table = self.table().shared()?;
        let _turn = self.writeback().exclusive()?;
        // Blocks that could not be written yet may be past it; the length of the existing bytes can be right all the same.
        if self.store_len().is(table.size()) {
            return Ok(());
        }
        self.store()
            .truncate_leftover()
            .and_then(|()| self.store().set_len(table.size()))
            .map_err(|error| self.record(Arc::new(error)))
    }
}
