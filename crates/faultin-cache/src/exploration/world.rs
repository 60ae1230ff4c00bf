//! Two files of a small cache, their stores and mappings, and the actions of other threads: all in one thread, so that a
//! script is deterministic.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use super::memory::Faulting;
use super::script::{Action, How, Script, Setup};
use super::store::Watched;
use super::{Found, WORLD};
use crate::pager::Mapping;
use crate::store::MemoryStore;
use crate::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin::map::Rights;

/// Number of pages that a mapping has beyond the file's initial length.
const GROWS: usize = 8;

/// The panic that ends an operation that does not terminate.
struct Endless;

#[derive(Debug)]
pub(super) struct File {
    pub(super) handle: CachedFile,
    pub(super) mapping: Option<Mapping>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) script: Script,
    pub(super) page: usize,
    pub(super) cache: Cache,
    pub(super) files: [RefCell<Option<Rc<File>>>; 2],
    pub(super) stores: [Arc<Watched>; 2],
    /// The expected contents of each file.
    pub(super) models: [RefCell<Vec<u8>>; 2],
    /// A third file that is read to press on the cache, and the position.
    pressing: Option<CachedFile>,
    pressed: Cell<usize>,
    pub(super) faulting: Faulting,
    /// Whether an operation is under way, so that other threads may act.
    is_running: Cell<bool>,
    pub(super) op: Cell<usize>,
    pub(super) moments: Cell<usize>,
    most_moments: Cell<usize>,
    /// Number of copies that were attempted in this operation.
    pub(super) attempts: Cell<usize>,
    /// Number of actions of other threads in this operation.
    pub(super) acted: Cell<usize>,
    pub(super) found: RefCell<Option<Found>>,
}

/// Returns a byte of the pattern of a file or a buffer.
pub(super) fn pattern(seed: usize, at: usize) -> u8 {
    ((seed * 37 + at * 7 + (at >> 8) * 11) % 0xdf) as u8 + 1
}

impl World {
    pub(super) fn new(script: &Script) -> Rc<World> {
        let page = rustix::param::page_size();
        let Setup { limit, folio, how, short, lens, .. } = script.setup;
        let cache = CacheOptions::new().block(page).limit(limit * page).build();
        let models = [0, 1].map(|file| (0..lens[file]).map(|at| pattern(100 + file, at)).collect::<Vec<_>>());
        let stores = [0, 1].map(|file| Arc::new(Watched::new(&models[file], short)));
        let pressing = script.turns.iter().any(|turn| turn.action == Action::Press).then(|| {
            cache.open(MemoryStore::new(vec![1; (limit + 2) * page])).expect("a store in memory has a length")
        });
        let world = World {
            script: script.clone(),
            page,
            files: [0, 1].map(|file| RefCell::new(Some(Rc::new(open(&cache, &stores[file], how, folio, page))))),
            cache,
            stores,
            models: models.map(RefCell::new),
            pressing,
            pressed: Cell::new(0),
            faulting: Faulting::new(page),
            is_running: Cell::new(false),
            op: Cell::new(0),
            moments: Cell::new(0),
            most_moments: Cell::new(0),
            attempts: Cell::new(0),
            acted: Cell::new(0),
            found: RefCell::new(None),
        };
        for file in 0..2 {
            let is_mapped = script.ops.iter().any(|op| op.uses_mapping_of(file));
            if is_mapped {
                world.map(file);
            }
        }
        Rc::new(world)
    }

    fn map(&self, file: usize) {
        let len = self.models[file].borrow().len().next_multiple_of(self.page) + GROWS * self.page;
        let handle = self.file(file).handle.clone();
        let mapping =
            handle.map(0..len as u64, Rights::ReadWrite, self.script.setup.mode).expect("a file can be mapped");
        *self.files[file].borrow_mut() = Some(Rc::new(File { handle, mapping: Some(mapping) }));
    }

    pub(super) fn file(&self, file: usize) -> Rc<File> {
        Rc::clone(self.files[file].borrow().as_ref().expect("it is open"))
    }

    /// Closes a file and opens it again.
    pub(super) fn reopen(&self, file: usize) {
        let was_mapped = self.file(file).mapping.is_some();
        *self.files[file].borrow_mut() = None;
        let Setup { how, folio, .. } = self.script.setup;
        *self.files[file].borrow_mut() = Some(Rc::new(open(&self.cache, &self.stores[file], how, folio, self.page)));
        if was_mapped {
            self.map(file);
        }
    }

    pub(super) fn find(&self, found: Found) {
        self.found.borrow_mut().get_or_insert(found);
    }

    /// Runs an operation, with actions in between. `None` if it did not terminate, or panicked.
    pub(super) fn run<T>(&self, most_moments: usize, operation: impl FnOnce() -> T) -> Option<T> {
        for count in [&self.moments, &self.attempts, &self.acted] {
            count.set(0);
        }
        self.most_moments.set(most_moments);
        self.is_running.set(true);
        let result = catch_unwind(AssertUnwindSafe(operation));
        self.is_running.set(false);
        if self.moments.get() > most_moments {
            self.find(Found::Endless { op: self.op.get(), moments: most_moments, acted: self.acted.get() });
            return None;
        }
        result.map_err(|panic| self.find(Found::Panics { op: self.op.get(), says: says(&*panic) })).ok()
    }

    /// Lets another thread act now.
    pub(super) fn moment(&self) {
        if !self.is_running.get() || thread::panicking() {
            return;
        }
        let moment = self.moments.get();
        self.moments.set(moment + 1);
        if moment >= self.most_moments.get() {
            // Without a message: it is reported as a finding.
            resume_unwind(Box::new(Endless));
        }
        // Actions have no moments.
        self.is_running.set(false);
        for turn in self.script.turns.iter().filter(|turn| turn.is_due(self.op.get(), moment)) {
            self.act(turn.action);
        }
        self.is_running.set(true);
    }

    fn act(&self, action: Action) {
        let before = self.cache.used();
        match action {
            Action::Drop => {
                self.cache.drop_clean();
                if self.cache.used() == before {
                    return;
                }
            }
            Action::Press => {
                let Some(file) = &self.pressing else { return };
                let pages = self.script.setup.limit + 2;
                let pos = self.pressed.replace((self.pressed.get() + 1) % pages) * self.page;
                // Without room it fails, which is not a finding.
                let _ = file.read_at(&mut vec![0; self.page], pos as u64);
            }
            Action::Clean => {
                let mut done = false;
                for file in 0..2 {
                    let Some(file) = self.files[file].borrow().clone() else { continue };
                    let inode = file.handle.inode();
                    let is_free =
                        inode.table().try_exclusive().is_some() && inode.writeback().try_exclusive().is_some();
                    if is_free && inode.dirty() > 0 {
                        // Blocks whose write fails stay dirty, and the error is recorded.
                        let _ = inode.write_back(0..u64::MAX);
                        done = true;
                    }
                }
                if !done {
                    return;
                }
            }
        }
        self.acted.set(self.acted.get() + 1);
    }
}

fn open(cache: &Cache, store: &Arc<Watched>, how: How, folio: usize, page: usize) -> File {
    let options = FileOptions::new().max_folio(folio * page).write_loop(how.write_loop());
    let handle = cache.open_with(Arc::clone(store), options).expect("a memfd has a length");
    File { handle, mapping: None }
}

fn says(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Removes this thread's world.
pub(super) fn leave() {
    // Dropping it takes locks, whose moments belong to no world.
    let world = WORLD.take();
    drop(world);
}
