//! Bringing in bytes that are missing.
//!
//! What is missing is *planned* under the exclusive inode lock: new folios, or blocks of some. Then the store is read, without
//! a lock, into memory that no other thread sees: by one call for all that a reader lacks, because folios are aligned to their
//! size, and a read that begins anywhere touches several. What was read is *installed* under the lock again, unless these bytes
//! have changed meanwhile: a [watch](Watch) of them, which every change that no folio records marks, tells that. So a store that is
//! slow, or hangs, delays threads that need these very bytes, and others only as the [limits of the crate](crate#limits) say:
//! above all while the file's lock is held for a call, as in the fourth attempt here, and by
//! [`fill_locked`](Inode::fill_locked).
//!
//! The store fills memory of the arena. Of a mapped file, and of a folio that is in the table, it fills a buffer, which is
//! copied under the lock: there is one place for the bytes, and another thread may have filled it meanwhile. Threads that lack the
//! same bytes at the same time read each its own copy, and the first one's is installed. They do not wait for each other: a handler
//! may have interrupted the one that reads, and wait for the pager thread, which may be the other.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, iter};

use crate::error::Error;
use crate::folio::{Buffer, Folio, Geometry, Space, Table, Watch};
use crate::inode::{Inode, Use};
use crate::lock::Exclusive;
use crate::store::ReadRequest;

/// How often the store is read without the lock fruitlessly, because the bytes were changing, before it is read with the lock.
const WITHOUT_THE_LOCK: u32 = 3;

/// The part of the limit that threads may fill at the same time, before they insert anything: a divisor.
const FILLING: usize = 2;

/// Whole blocks of the file that are read from the store, and not installed yet.
struct Part {
    range: Range<u64>,
    target: Target,
    /// The end of the blocks that were read, and why that is not the end.
    until: u64,
    error: Option<io::Error>,
    watch: Arc<Watch>,
}

/// The first block that could not be read beside others, and why.
pub(crate) type NotRead = (u64, Error);

enum Target {
    /// A new folio; `None` for the buffer if its own memory is filled.
    Folio(Space, Option<Buffer>),
    /// Blocks of a folio that is in the table.
    Blocks(Buffer),
}

impl Part {
    /// Plans a new folio at `start`, up to `end` at most.
    fn of_folio(table: &Table, space: Space, start: u64, end: u64) -> Part {
        let range = start..end.min(start + space.len() as u64);
        let buffer = match &space {
            Space::Frames(_) => None,
            Space::Shared(backing, _) => Some(backing.buffer((range.end - range.start) as usize)),
        };
        Part::new(table, range, Target::Folio(space, buffer))
    }

    fn of_blocks(table: &Table, range: Range<u64>, block: usize) -> Part {
        let buffer = Buffer::new((range.end - range.start) as usize, block);
        Part::new(table, range, Target::Blocks(buffer))
    }

    fn new(table: &Table, range: Range<u64>, target: Target) -> Part {
        Part { until: range.start, error: None, watch: table.watch(range.clone()), range, target }
    }

    /// Returns the number of bytes of memory that it fills.
    fn len(&self) -> usize {
        (self.end() - self.range.start) as usize
    }

    /// Returns the end of the folio, or of the blocks.
    fn end(&self) -> u64 {
        match &self.target {
            Target::Folio(space, _) => self.range.start + space.len() as u64,
            Target::Blocks(_) => self.range.end,
        }
    }

    /// Notes that `done` bytes were read, and what ended it.
    fn was_read(&mut self, done: usize, result: io::Result<()>, geometry: Geometry) {
        self.until = geometry.block_down(self.range.start + done as u64);
        self.error = result.err();
    }

    /// Returns the bytes to fill.
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.target {
            Target::Folio(Space::Frames(frames), _) => {
                &mut frames.bytes_mut()[..(self.range.end - self.range.start) as usize]
            }
            Target::Folio(Space::Shared(..), buffer) => buffer.as_deref_mut().unwrap_or_default(),
            Target::Blocks(buffer) => buffer,
        }
    }

    /// Returns whether installing it copies it.
    fn is_copied(&self) -> bool {
        !matches!(self.target, Target::Folio(_, None))
    }
}

impl Inode {
    /// Makes bytes valid as [`filled`](Self::filled) does. Another thread may evict them before this returns.
    ///
    /// # Errors
    /// Those of [`filled`](Self::filled).
    pub(crate) fn fill(&self, pos: u64, len: u64, window: u64) -> Result<Option<NotRead>, Error> {
        self.filled(pos, len, window, Use::Copy).map(|(_, not_read)| not_read)
    }

    /// Makes at least the byte at `pos` valid, unless the file ends before it; what is missing of the `len` bytes from there on,
    /// as far as there is memory for it at once; and about `window` bytes if that takes no more folios. (With a `len` of 0: no
    /// more than one folio.) The store gets all of it together. Returns the lock under which the byte at `pos` is valid, and what
    /// could not be read beside it.
    ///
    /// # Errors
    /// The store's error; [`Error::Full`] if there is no memory within the limit; [`Error::Deadlock`] if this thread holds the
    /// lock.
    pub(crate) fn filled(
        &self,
        pos: u64,
        len: u64,
        window: u64,
        what_for: Use,
    ) -> Result<(Exclusive<'_, Table>, Option<NotRead>), Error> {
        let mut attempts = 0;
        loop {
            let mut table = self.table().exclusive()?;
            let (mut flight, window) = self.begin_window(&table, pos, window);
            // What is valid of it is not evicted for the rest.
            table.want(pos..pos.saturating_add(window.min(len)));
            let Some(mut first) = self.plan(&mut table, pos, window, what_for)? else { return Ok((table, None)) };
            let is_held = attempts == WITHOUT_THE_LOCK;
            let mut others = match is_held {
                true => Vec::new(),
                false => self.plan_others(&mut table, &first, pos, len, window, flight.bytes),
            };
            flight.shrink(iter::once(&first).chain(&others));
            // Otherwise it is unlocked here.
            let held = is_held.then_some(table);
            match others.is_empty() {
                true => self.read_part(&mut first),
                false => self.read_parts(iter::once(&mut first).chain(&mut others)),
            }
            let mut parts = iter::once(&mut first).chain(&mut others);
            let not_read = parts.find_map(|part| Some((part.until, part.error.take()?)));
            self.install_all(others);
            let mut table = match held {
                Some(table) => table,
                None => self.table().exclusive()?,
            };
            let start = first.range.start;
            // Its memory is freed under the lock, which a handler that interrupts this thread sees.
            let is_installed = self.install(&mut table, first)?;
            drop(flight);
            let is_certain = |error: &io::Error| error.kind() != io::ErrorKind::UnexpectedEof;
            match not_read {
                Some((at, error)) if at == start && (is_held || is_certain(&error)) => return Err(error.into()),
                // The store may have been truncated and extended again meanwhile.
                Some((at, _)) if at == start => attempts = WITHOUT_THE_LOCK,
                _ if !is_installed => attempts = (attempts + 1).min(WITHOUT_THE_LOCK),
                not_read => {
                    let not_read = not_read.filter(|(_, error)| is_certain(error));
                    return Ok((table, not_read.map(|(at, error)| (at, error.into()))));
                }
            }
        }
    }

    /// Fills as [`filled`](Self::filled) does, one folio, and reads the store under the lock: for operations that need several
    /// folios at once.
    pub(crate) fn fill_locked(&self, table: &mut Table, pos: u64, window: u64, what_for: Use) -> Result<(), Error> {
        if let Some(mut part) = self.plan(table, pos, window, what_for)? {
            self.read_part(&mut part);
            if part.until == part.range.start
                && let Some(error) = part.error
            {
                return Err(error.into());
            }
            self.install(table, part)?;
        }
        Ok(())
    }

    /// Plans the part with the byte at `pos`. `None` if nothing is missing there any more.
    fn plan(&self, table: &mut Table, pos: u64, window: u64, what_for: Use) -> Result<Option<Part>, Error> {
        if pos >= table.size() {
            return Ok(None);
        }
        let start = self.geometry().block_down(pos);
        let end_of_file = self.end_of_blocks(table);
        let end = self.end_of_window(table, pos, window);
        if let Some(key) = table.find(pos) {
            let folio = table.get(key);
            folio.want();
            if folio.is_uptodate(pos..pos + 1) {
                return Ok(None);
            }
            let run = folio.next_missing(start..end.min(folio.end()));
            return Ok(run.map(|run| Part::of_blocks(table, run, self.geometry().block)));
        }
        let room = table.room(start, end - start);
        let space = self.cache().space_for(self, table, room, what_for)?;
        Ok(Some(Part::of_folio(table, space, start, end_of_file)))
    }

    /// Plans what is missing of a window after its first part: what the reader wants; and all of it if memory is free in small
    /// pieces only, or scarce, so that the window takes several folios. All parts together have at most `bytes` bytes.
    fn plan_others(&self, table: &mut Table, first: &Part, pos: u64, len: u64, window: u64, bytes: usize) -> Vec<Part> {
        let (start, next, end) = (first.range.start, first.end(), self.end_of_window(table, pos, window));
        if len == 0 || next >= end {
            return Vec::new();
        }
        let is_cut = match &first.target {
            Target::Folio(space, _) => space.len() < table.room(start, end - start),
            Target::Blocks(_) => false,
        };
        let wanted = if is_cut { end } else { end.min(pos.saturating_add(len)) };
        let runs = table.missing(next..wanted, 0);
        // What there is no memory for is left to the next round.
        self.new_parts(table, &runs, end, bytes.saturating_sub(first.len())).unwrap_or_default()
    }

    /// Begins to fill a window: returns as much of it as other threads have left; one block at least.
    fn begin_window(&self, table: &Table, pos: u64, window: u64) -> (Flight<'_>, u64) {
        let start = self.geometry().block_down(pos);
        let flight = Flight::begin(self, self.end_of_window(table, pos, window).saturating_sub(start));
        let most = (start + flight.bytes as u64).saturating_sub(pos).max(1);
        (flight, window.min(most))
    }

    /// Returns the end of the last block of a window, as far as the file has it.
    fn end_of_window(&self, table: &Table, pos: u64, window: u64) -> u64 {
        self.end_of_blocks(table).min(self.geometry().block_up(pos.saturating_add(window)))
    }

    /// Reads a part from the store.
    fn read_part(&self, part: &mut Part) {
        let pos = part.range.start;
        let (done, result) = self.store().read(part.bytes_mut(), pos);
        part.was_read(done, result, self.geometry());
    }

    /// Reads parts from the store, all together.
    fn read_parts<'p>(&self, parts: impl Iterator<Item = &'p mut Part>) {
        let mut parts: Vec<_> = parts.collect();
        let requests = parts.iter_mut().map(|part| ReadRequest::new(part.range.start, part.bytes_mut())).collect();
        let answers = self.store().read_many(requests);
        for (part, (done, result)) in parts.into_iter().zip(answers) {
            part.was_read(done, result, self.geometry());
        }
    }

    /// Installs what was read of each part, as far as that is possible. Returns the number of bytes.
    fn install_all(&self, parts: Vec<Part>) -> u64 {
        let (mut table, mut installed) = (None, 0);
        for part in parts {
            let Some(mut locked) = table.take().or_else(|| self.table().exclusive().ok()) else { break };
            let (bytes, is_copied) = (part.until - part.range.start, part.is_copied());
            if self.install(&mut locked, part).is_ok_and(|is_installed| is_installed) {
                installed += bytes;
                // Faults wait for the lock.
                table = (!is_copied).then_some(locked);
            } else {
                table = Some(locked);
            }
        }
        installed
    }

    /// Puts what was read into the table. Returns false if it is nothing, or these bytes of the file have changed, or another
    /// thread has inserted a folio there, or has removed it.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory for a mapped file.
    fn install(&self, table: &mut Table, part: Part) -> Result<bool, Error> {
        let Part { range, target, until, watch, .. } = part;
        let range = range.start..until;
        if range.is_empty() || watch.is_stale() {
            return Ok(false);
        }
        match target {
            Target::Folio(space, buffer) => {
                if table.room(range.start, space.len() as u64) != space.len() || table.find(range.start).is_some() {
                    return Ok(false);
                }
                let memory = space.into_memory(range.start);
                let mut folio = Folio::new(memory, range.start, self.geometry().block);
                if let Some(buffer) = buffer {
                    let bytes = &buffer[..(until - range.start) as usize];
                    folio.write_plain(range.start, bytes).map_err(|partial| partial.error)?;
                }
                folio.set_uptodate(range);
                table.insert(folio);
            }
            Target::Blocks(buffer) => {
                let Some(key) = table.find(range.start) else { return Ok(false) };
                let folio = table.get_mut(key);
                let mut at = range.start;
                let end = until.min(folio.end());
                // What was written meanwhile is newer.
                while at < end
                    && let Some(run) = folio.next_missing(at..end)
                {
                    let bytes = &buffer[(run.start - range.start) as usize..(run.end - range.start) as usize];
                    folio.write_plain(run.start, bytes).map_err(|partial| partial.error)?;
                    folio.set_uptodate(run.clone());
                    at = run.end;
                }
            }
        }
        Ok(true)
    }

    /// Reads parts of the file into the cache, all together: what is missing of them and has no folio yet, as far as there is
    /// memory for it without waiting. Returns the number of bytes. Failures are left to the reads that need the bytes.
    pub(crate) fn fill_many(&self, mut runs: Vec<Range<u64>>) -> u64 {
        runs.sort_by_key(|run| run.start);
        let all: u64 = runs.iter().map(|run| run.end - run.start + self.geometry().block as u64).sum();
        let mut flight = Flight::begin(self, all);
        if flight.bytes == 0 {
            return 0;
        }
        let Ok(mut table) = self.table().exclusive() else { return 0 };
        let Ok(mut parts) = self.new_parts(&mut table, &runs, 0, flight.bytes) else { return 0 };
        flight.shrink(&parts);
        drop(table);
        if parts.is_empty() {
            return 0;
        }
        self.read_parts(parts.iter_mut());
        self.install_all(parts)
    }

    /// Plans at most `bytes` bytes of what is missing of the runs, which are in ascending order. The last folio of a run may end
    /// after it, up to `ahead`.
    fn new_parts(&self, table: &mut Table, runs: &[Range<u64>], ahead: u64, bytes: usize) -> Result<Vec<Part>, Error> {
        let (mut parts, mut left, mut done) = (Vec::new(), bytes as u64, 0);
        let end_of_file = self.end_of_blocks(table);
        'runs: for run in runs {
            // The last folio may end after its run.
            let mut pos = self.geometry().block_down(run.start).max(done);
            let end = self.geometry().block_up(run.end.min(table.size()));
            while pos < end {
                if let Some(key) = table.find(pos) {
                    let folio = table.get(key);
                    folio.want();
                    let Some(blocks) = folio.next_missing(pos..end.min(folio.end())) else {
                        pos = folio.end();
                        continue;
                    };
                    let len = (blocks.end - blocks.start).min(self.geometry().block_down(left));
                    if len == 0 {
                        break 'runs;
                    }
                    let blocks = blocks.start..blocks.start + len;
                    (pos, done, left) = (blocks.end, blocks.end, left - len);
                    parts.push(Part::of_blocks(table, blocks, self.geometry().block));
                    continue;
                }
                let want = (end.max(ahead.min(end_of_file)) - pos).min(left);
                if want < self.geometry().block as u64 {
                    break 'runs;
                }
                let room = table.room(pos, want);
                let Some(space) = self.cache().space_at_once(self, table, room)? else { break 'runs };
                let part = Part::of_folio(table, space, pos, end_of_file);
                (pos, done, left) = (part.end(), part.end(), left - (part.end() - pos));
                parts.push(part);
            }
        }
        Ok(parts)
    }
}

/// A part of the limit that is being filled, and cannot be evicted meanwhile. All of them are bounded, and each has at most half of
/// what is left: so other threads have the rest, and the last ones, which get nothing, exchange a block each.
struct Flight<'a> {
    inode: &'a Inode,
    bytes: usize,
}

impl Flight<'_> {
    fn begin(inode: &Inode, want: u64) -> Flight<'_> {
        let most = inode.cache().limit() / FILLING;
        let want = usize::try_from(want).unwrap_or(usize::MAX).min(inode.cache().share());
        let bytes = |filling: usize| {
            let part = want.min(most.saturating_sub(filling) / 2);
            part - part % inode.geometry().block
        };
        let more = |filling: usize| Some(filling + bytes(filling));
        let before = inode.cache().filling.fetch_update(Relaxed, Relaxed, more).unwrap_or_default();
        Flight { inode, bytes: bytes(before) }
    }

    /// Gives back what these parts do not need.
    fn shrink<'p>(&mut self, parts: impl IntoIterator<Item = &'p Part>) {
        let bytes = parts.into_iter().map(Part::len).sum::<usize>().min(self.bytes);
        self.inode.cache().filling.fetch_sub(self.bytes - bytes, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.inode.cache().filling.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use crate::CacheOptions;
    use crate::store::MemoryStore;

    /// The table is not looked at before such a range is in the queue, if it is locked.
    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of ranges, one in this case")]
    fn a_range_that_no_file_has_is_ignored() {
        let file = CacheOptions::new().build().open(MemoryStore::new([1; 100])).unwrap();
        assert_eq!(file.inode().fill_many(vec![u64::MAX - 10..u64::MAX]), 0);
        assert_eq!(file.inode().fill_many(vec![50..60, u64::MAX - 10..u64::MAX]), 4096);
    }
}
