//! A thread of a soak: one operation after the other, each checked at once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use faultin::map::Rights;
use faultin_cache::pager::Mode;
use faultin_cache::{CachedFile, Error, Partial};
use faultin_test::Random;

use super::buffers::Faulting;
use super::schedule::Since;
use super::tally::Kind;
use super::world::{File, Mapped, World};

/// Number of mappings of a file that threads share.
const POOL: usize = 6;

/// `Err` is a difference, as text.
pub type Checked<T = ()> = Result<T, String>;

/// One thread.
pub struct Worker<'w> {
    pub world: &'w World,
    pub me: usize,
    pub random: Random,
    pub faulting: Faulting,
    /// The file that system calls copy from and to.
    pub kernels: std::fs::File,
}

impl<'w> Worker<'w> {
    /// # Errors
    /// No memory, no temporary file.
    pub fn new(world: &'w World, me: usize) -> Checked<Self> {
        let random = Random::for_user(world.setup.seed, me as u64);
        let kernels = tempfile::tempfile().map_err(|error| format!("a temporary file: {error}"))?;
        Ok(Worker { world, me, random, faulting: Faulting::new(world.page)?, kernels })
    }

    /// Runs until the end, or until something differs.
    pub fn run(&self) {
        while !self.world.is_over() {
            if let Err(difference) = self.step() {
                self.world.differs(format!("thread {}: {difference}", self.me));
            }
        }
    }

    fn step(&self) -> Checked {
        let file = self.random.below(self.world.files.len());
        match self.random.below(72) {
            0..12 => self.write(file),
            12..24 => self.read(file),
            24..27 => self.write_bad(file),
            27..30 => self.read_bad(file),
            30..34 => self.store_by_instructions(file),
            34..38 => self.load_by_instructions(file),
            38..41 => self.store_by_view(file),
            41..44 => self.load_by_view(file),
            44..46 => self.system_call(file),
            46..48 => self.wander(file),
            48..50 => self.punch(file),
            50..53 => self.upkeep(file),
            53..63 => self.tail(file),
            63..71 => self.stalls(file),
            _ => self.whole(file),
        }
    }

    pub fn file(&self, file: usize) -> &'w File {
        &self.world.files[file]
    }

    /// Records the current operation.
    pub fn begin(&self, kind: Kind, file: usize, range: &Range<usize>, more: &str) {
        self.world.tally.count(kind);
        self.world.trails[self.me].begin(format!("file {file}: {} {range:?} {more}", kind.name()));
    }

    /// Returns a part of this thread's bytes.
    pub fn own(&self, file: usize, most: usize) -> Range<usize> {
        let stripes = &self.file(file).stripes[self.me];
        self.random.part(stripes[self.random.below(stripes.len())].clone(), most)
    }

    /// Returns whether an error is due to a scheduled failure, or to threads that evict what this one is about to use.
    pub fn is_excused(&self, error: &Error, since: Since) -> bool {
        match error {
            Error::NoProgress(_) if !self.world.setup.is_alone() => {
                self.world.tally.gave_up.fetch_add(1, Relaxed);
                true
            }
            Error::Store(_) | Error::Full { .. } | Error::Fault(_) if self.world.schedule.excuses(since) => {
                self.world.tally.excused.fetch_add(1, Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Returns the count of a read or a write, if it is right or excused.
    pub fn count(&self, result: Result<usize, Partial>, ought: usize, since: Since) -> Checked<usize> {
        match result {
            Ok(done) if done == ought => Ok(done),
            Ok(done) => Err(format!("{done} bytes, where {ought} ought to be moved")),
            Err(partial) if partial.done <= ought && self.is_excused(&partial.error, since) => Ok(partial.done),
            Err(partial) => Err(format!("{partial}; where {ought} bytes ought to be moved")),
        }
    }

    /// Returns whether it succeeded; a failure is excused.
    pub fn done(&self, result: Result<(), Error>, since: Since) -> Checked<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if self.is_excused(&error, since) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Compares the bytes that were read with the expected ones.
    pub fn check(&self, file: usize, at: usize, is: &[u8]) -> Checked {
        self.file(file).model.difference(at, is).map_or(Ok(()), Err)
    }

    /// Returns a mapping that contains these bytes: an existing one, or a new one.
    pub fn mapping(
        &self,
        file: usize,
        open: &CachedFile,
        range: &Range<usize>,
        writable: bool,
        mode: Option<Mode>,
    ) -> Checked<Arc<Mapped>> {
        let (random, page) = (&self.random, self.world.page);
        let pool = &self.file(file).pool;
        if !random.once_in(8) {
            let pool = pool.lock();
            let fits = |mapped: &&Arc<Mapped>| {
                mapped.covers(range)
                    && (mapped.writable || !writable)
                    && mode.is_none_or(|mode| mapped.mapping.mode() == mode)
            };
            let first = random.below(POOL);
            if let Some(mapped) = pool.iter().cycle().skip(first).take(pool.len()).find(fits) {
                return Ok(Arc::clone(mapped));
            }
        }
        let modes = &self.world.setup.modes;
        let mode = mode.unwrap_or_else(|| modes[random.below(modes.len())]);
        let start = (range.start / page - random.below(range.start / page + 1)) * page;
        let end = range.end + random.below(60 * page);
        let protection = if writable || random.once_in(2) { Rights::ReadWrite } else { Rights::Read };
        let mapping = open.map(start as u64..end as u64, protection, mode);
        let mapping = mapping.map_err(|error| format!("{start}..{end} is not mapped as {mode:?}: {error}"))?;
        let mapped = Mapped::new(mapping, start, protection == Rights::ReadWrite, &self.world.tally);
        let mapped = Arc::new(mapped);
        // A mapping that is replaced in the pool is unmapped after its lock is free.
        let _old = random.once_in(2).then(|| {
            let mut pool = pool.lock();
            pool.push(Arc::clone(&mapped));
            (pool.len() > POOL).then(|| pool.swap_remove(random.below(POOL)))
        });
        Ok(mapped)
    }
}
