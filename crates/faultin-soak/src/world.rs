//! The state that the threads of a soak share: files, mappings, the model, and the current operation of each thread.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::write::{Preallocate, WriteLoop};
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin_test::Random;
use parking_lot::{Mutex, RwLock};

use super::model::{Model, stripes};
use super::schedule::{FailureSchedule, Since};
use super::store::FaultyStore;
use super::tally::{Kind, Tally};

/// Number of operations of a thread that a report shows.
const LOG: usize = 24;

/// The configuration of a soak.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub threads: usize,
    pub files: usize,
    pub limit: Option<usize>,
    pub modes: Vec<Mode>,
    /// Whether there are threads that only evict.
    pub evictions: bool,
}

impl Setup {
    /// Returns whether a thread does not share the cache with another one, which could evict what it is about to use.
    pub fn is_alone(&self) -> bool {
        self.threads == 1 && !self.evictions
    }
}

/// The state of a soak.
#[derive(Debug)]
pub struct World {
    pub setup: Setup,
    pub cache: Cache,
    pub files: Vec<File>,
    pub schedule: Arc<FailureSchedule>,
    pub tally: Arc<Tally>,
    pub trails: Vec<Trail>,
    pub page: usize,
    over: AtomicBool,
    difference: Mutex<Option<String>>,
}

/// The syncs of one file.
#[derive(Debug)]
pub struct Syncs {
    /// The handle that is synced.
    pub handle: CachedFile,
    /// The time of the last sync.
    pub last: Since,
    /// Number of failed syncs of the store when one of the file last succeeded.
    pub failed: u64,
}

/// One file.
#[derive(Debug)]
pub struct File {
    pub store: Arc<FaultyStore>,
    /// The file, shared; exclusive for a thread that changes what all of them use.
    pub open: RwLock<CachedFile>,
    pub syncs: Mutex<Syncs>,
    pub model: Model,
    /// By thread.
    pub stripes: Vec<Vec<Range<usize>>>,
    /// Size of the base in bytes.
    pub base: usize,
    /// Maximum size of the file in bytes.
    pub most: usize,
    /// Length of the file: for the thread that holds the tail.
    pub tail: Mutex<usize>,
    pub pool: Mutex<Vec<Arc<Mapped>>>,
    options: FileOptions,
}

/// A mapping, and its part of a file.
#[derive(Debug)]
pub struct Mapped {
    pub mapping: Mapping,
    pub start: usize,
    pub writable: bool,
    tally: Arc<Tally>,
}

impl Mapped {
    pub fn new(mapping: Mapping, start: usize, writable: bool, tally: &Arc<Tally>) -> Mapped {
        tally.count(Kind::Map);
        Mapped { mapping, start, writable, tally: Arc::clone(tally) }
    }

    pub fn covers(&self, range: &Range<usize>) -> bool {
        self.start <= range.start && range.end <= self.start + self.mapping.len()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.tally.count(Kind::Unmap);
        self.tally.add(self.mapping.fault_counts());
    }
}

impl File {
    fn new(
        world: &Setup,
        cache: &Cache,
        schedule: &Arc<FailureSchedule>,
        number: usize,
        page: usize,
    ) -> Result<File, String> {
        let random = Random::for_user(world.seed, 1000 + number as u64);
        // Neither ends with a page, so that the tail shares pages with the base, and ends within one.
        let base = (24 + random.below(16)) * page + 1 + random.below(page - 1);
        let most = base + 10 * page + random.below(page);
        let bytes = random.bytes(base + random.below(most - base));
        let store =
            FaultyStore::new(&bytes, number, Arc::clone(schedule), Random::for_user(world.seed, 2000 + number as u64));
        let store = Arc::new(store.map_err(|error| format!("a temporary file: {error}"))?);
        // Two files of three allocate in advance, and free what a write that ends early has not used.
        let preallocate = if number % 3 == 2 { Preallocate::No } else { Preallocate::Yes };
        let how = WriteLoop::DEFAULT.preallocate(preallocate);
        let options = FileOptions::new().max_folio(page << random.below(5)).write_loop(how);
        let open = cache.open_with(Arc::clone(&store), options.clone()).map_err(|error| error.to_string())?;
        Ok(File {
            store,
            syncs: Mutex::new(Syncs { handle: open.clone(), last: schedule.since(), failed: 0 }),
            open: RwLock::new(open),
            model: Model::new(&bytes, most),
            stripes: stripes(base, world.threads, page, &random),
            base,
            most,
            tail: Mutex::new(bytes.len()),
            pool: Mutex::new(Vec::new()),
            options,
        })
    }

    /// Opens the file once more. The old handle is closed, unless a mapping is left.
    ///
    /// # Errors
    /// The store's error.
    pub fn reopen(&self, world: &World, open: &mut CachedFile) -> Result<(), String> {
        let mut syncs = self.syncs.lock();
        *open =
            world.cache.open_with(Arc::clone(&self.store), self.options.clone()).map_err(|error| error.to_string())?;
        syncs.handle = open.clone();
        syncs.last = world.schedule.since();
        Ok(())
    }
}

impl World {
    /// # Errors
    /// The reason why it cannot be set up.
    pub fn new(setup: Setup) -> Result<World, String> {
        let page = faultin::page_size();
        // About a third of what the files have.
        let limit = setup.limit.unwrap_or(setup.files * 14 * page);
        let cache = CacheOptions::new().limit(limit).block(page).build();
        let schedule = Arc::default();
        let files: Result<Vec<_>, _> =
            (0..setup.files).map(|number| File::new(&setup, &cache, &schedule, number, page)).collect();
        Ok(World {
            cache,
            files: files?,
            schedule,
            tally: Arc::default(),
            trails: (0..setup.threads).map(|_| Trail::default()).collect(),
            page,
            setup,
            over: AtomicBool::new(false),
            difference: Mutex::new(None),
        })
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// Ends the run: the first difference counts.
    pub fn differs(&self, what: String) {
        self.difference.lock().get_or_insert(what);
        self.end();
    }

    pub fn difference(&self) -> Option<String> {
        self.difference.lock().clone()
    }

    /// Returns the last operations of all threads, as text.
    pub fn trails(&self) -> String {
        let mut text = String::new();
        for (number, trail) in self.trails.iter().enumerate() {
            let _ = writeln!(text, "thread {number}, {} operations:", trail.operations());
            for doing in &*trail.log.lock() {
                let _ = writeln!(text, "    {doing}");
            }
        }
        text
    }
}

/// The operations of a thread.
#[derive(Debug, Default)]
pub struct Trail {
    log: Mutex<VecDeque<String>>,
    operations: AtomicU64,
    ended: AtomicBool,
}

impl Trail {
    pub fn begin(&self, doing: String) {
        let mut log = self.log.lock();
        if log.len() == LOG {
            log.pop_front();
        }
        log.push_back(doing);
        self.operations.fetch_add(1, Relaxed);
    }

    /// Returns the number of operations it has begun.
    pub fn operations(&self) -> u64 {
        self.operations.load(Relaxed)
    }

    pub fn end(&self) {
        self.ended.store(true, Relaxed);
    }

    pub fn resume(&self) {
        self.ended.store(false, Relaxed);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}
