//! A file, its mappings, its store, and all their users, in one thread: an operation runs, and at each of its steps a
//! script decides which actions of other threads happen in between.

mod operations;
mod seen;
mod users;

pub(super) use users::{Accessed, By, IN_SIGNAL};

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use faultin::Access;
use rustix::param::page_size;

use super::model::Model;
use super::store::SimStore;
use super::table::PageTable;
use super::{Config, Found, Step};
use crate::error::Error;
use crate::inode::Inode;
use crate::pager::Mode;
use crate::pager::inside::hardware::Hardware;
use crate::pager::inside::map::Map;
use crate::pager::inside::mapped::Source;
use crate::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin::map::Rights;

/// Number of pages of the file.
pub(super) const PAGES: usize = 2;

/// An action of another thread between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Load {
        map: usize,
        pos: u64,
    },
    Store {
        map: usize,
        pos: u64,
    },
    Evict {
        dirty: bool,
    },
    WriteBack,
    /// The kernel drops an entry.
    Reclaim {
        map: usize,
        page: usize,
    },
    StoreGoesDown,
    StoreComesBack,
    /// The kernel denies the next change of a page table.
    Refuse {
        map: usize,
    },
    /// A hole of the memfd is touched in another way.
    Touch {
        page: usize,
    },
}

/// The operation of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Act(Action),
    SetLen(u64),
    Punch {
        start: u64,
        end: u64,
    },
    Write {
        page: usize,
        direct: bool,
    },
    /// A page is written from a mapping of the same file.
    WriteMapped {
        from: usize,
        page: usize,
        direct: bool,
    },
    Unmap(usize),
    Map(usize),
}

/// A moment at which an action could have happened, and did not.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) number: usize,
    pub(super) state: u64,
    pub(super) could: Vec<Action>,
}

/// The file and all its users.
pub(super) struct World {
    config: &'static Config,
    _cache: Cache,
    file: CachedFile,
    store: Arc<SimStore>,
    backing: Arc<crate::folio::Backing>,
    maps: RefCell<Vec<Option<Arc<Map>>>>,
    model: RefCell<Model>,
    script: RefCell<Vec<(usize, Action)>>,
    /// Whether actions may happen.
    is_scripted: Cell<bool>,
    /// Whether the current steps were taken, and checked, before.
    is_known: Cell<bool>,
    /// Number of moments that have passed.
    moments: Cell<usize>,
    left: RefCell<Vec<Moment>>,
    trace: Cell<u64>,
    /// Number of actions so far.
    acted: Cell<usize>,
    found: RefCell<Option<Found>>,
    /// Whether a handler is running: its lock is in no list.
    is_in_handler: Cell<bool>,
    /// The position to which the operation under way writes what it copies from a mapping.
    copies_to: Cell<Option<u64>>,
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Returns the position of a byte after the middle of a page: where a file ends in the middle, it is past the end.
fn in_tail(page: usize) -> u64 {
    (page * page_size() + page_size() * 3 / 4) as u64
}

fn start_of(page: usize) -> u64 {
    (page * page_size()) as u64
}

impl World {
    pub(super) fn new(config: &'static Config) -> Rc<World> {
        let page = page_size();
        let mut bytes = vec![0; PAGES * page];
        let looked_at = [(0, 1), (start_of(1), 2), (in_tail(1), 3)];
        for (pos, value) in looked_at {
            bytes[pos as usize] = value;
        }
        let size = bytes.len() as u64;
        let store = Arc::new(SimStore::new(bytes, config.in_signals));
        let cache = CacheOptions::new().block(page).limit(64 * page).build();
        let options = FileOptions::new().max_folio(config.folio * page);
        let file = cache.open_with(Arc::clone(&store), options).expect("the store is up");
        let backing = {
            let mut table = file.inode().table().exclusive().expect("nobody else has it");
            let mut source = Source::of(&*store).expect("there are descriptors");
            if let Some(source) = &mut source {
                source.is_down = Arc::clone(&store.is_down);
            }
            table.backing(page, source).expect("there are memfds")
        };
        let world = World {
            config,
            _cache: cache,
            file,
            store,
            backing,
            maps: RefCell::new(vec![None; config.modes.len()]),
            model: RefCell::new(Model::new(&looked_at, size)),
            script: RefCell::default(),
            is_scripted: Cell::new(false),
            is_known: Cell::new(false),
            moments: Cell::new(0),
            left: RefCell::default(),
            trace: Cell::new(0),
            acted: Cell::new(0),
            found: RefCell::new(None),
            is_in_handler: Cell::new(false),
            copies_to: Cell::new(None),
        };
        (0..config.modes.len()).for_each(|map| world.map(map));
        Rc::new(world)
    }

    fn inode(&self) -> &Inode {
        self.file.inode()
    }

    fn map(&self, number: usize) {
        let mode = self.config.modes[number];
        let table = PageTable::new(number, mode == Mode::Mprotect, Arc::clone(&self.backing), PAGES);
        let hardware = Hardware::simulated(table, PAGES * page_size());
        let map = Arc::new(Map::new(hardware, 0, PAGES, self.config.protection, mode));
        self.maps.borrow_mut()[number] = Some(Arc::clone(&map));
        let mut table = self.inode().table().exclusive().expect("nobody else has it");
        table.mapped_mut().expect("it has a memory").add(map);
    }

    /// Returns whether mappings allow stores.
    fn is_writable(&self) -> bool {
        self.config.protection == Rights::ReadWrite
    }

    fn unmap(&self, number: usize) {
        if let Some(map) = self.maps.borrow_mut()[number].take() {
            let mut table = self.inode().table().exclusive().expect("nobody else has it");
            table.mapped_mut().expect("it has a memory").remove(&map);
        }
    }

    fn mapping(&self, number: usize) -> Option<Arc<Map>> {
        self.maps.borrow()[number].clone()
    }

    fn mappings(&self) -> Vec<Arc<Map>> {
        self.maps.borrow().iter().flatten().cloned().collect()
    }

    /// Reports a step of the current thread.
    pub(super) fn step(self: &Rc<Self>, step: Step) {
        if let Step::Punched { pos, len } = step {
            for map in self.mappings() {
                map.table().inspect(|table| table.punched(pos, len));
            }
        }
        if !self.is_scripted.get() || self.found.borrow().is_some() {
            return;
        }
        if !self.is_known.get() {
            let bytes: Vec<_> = self.model.borrow().positions().into_iter().map(|pos| self.byte(pos)).collect();
            self.trace.set(hash((self.trace.get(), step, bytes)));
            self.check();
        }
        while let Some(action) = self.next_action() {
            self.acted.set(self.acted.get() + 1);
            self.act(action);
        }
    }

    fn next_action(&self) -> Option<Action> {
        if self.found.borrow().is_some() {
            return None;
        }
        let number = self.moments.replace(self.moments.get() + 1);
        let script = self.script.borrow();
        if let Some(&(_, action)) = script.iter().find(|(at, _)| *at == number) {
            return Some(action);
        }
        let is_new = !self.is_known.get();
        if is_new && script.last().is_none_or(|(last, _)| number > *last) && script.len() < self.config.actions {
            let state = hash((self.trace.get(), self.state()));
            self.left.borrow_mut().push(Moment { number, state, could: self.possible() });
        }
        None
    }

    /// Returns the actions that could happen now without waiting. One that would wait for a lock happens when it is free.
    fn possible(&self) -> Vec<Action> {
        let free = self.is_free();
        let mut could = Vec::new();
        // Once in an operation: then another way is found. A second denial in a row would hit the code that looks for it.
        let is_refusal = |(_, action): &(usize, Action)| matches!(action, Action::Refuse { .. });
        let refuses = self.config.refusals && !self.script.borrow().iter().any(is_refusal);
        for (map, mapping) in self.maps.borrow().iter().enumerate() {
            let Some(table) = mapping.as_ref().and_then(|map| map.table()) else { continue };
            if refuses {
                could.push(Action::Refuse { map });
            }
            for page in 0..PAGES {
                let pos = start_of(page);
                if free && !table.allows(page, false) {
                    could.push(Action::Load { map, pos });
                }
                if self.is_writable() && (free || table.allows(page, true)) {
                    could.push(Action::Store { map, pos });
                    if page == PAGES - 1 {
                        could.push(Action::Store { map, pos: in_tail(page) });
                    }
                }
                if table.is_reclaimable(page) {
                    could.push(Action::Reclaim { map, page });
                }
                if map == 0 && !table.is_in_memory(page) {
                    could.push(Action::Touch { page });
                }
            }
        }
        if free {
            could.extend([Action::Evict { dirty: false }, Action::Evict { dirty: true }, Action::WriteBack]);
        }
        let is_down = self.store.is_down.load(Relaxed);
        could.push(if is_down { Action::StoreComesBack } else { Action::StoreGoesDown });
        could
    }

    /// Returns the possible main operations.
    pub(super) fn operations(&self) -> Vec<Op> {
        let page = page_size() as u64;
        // A refusal takes effect in the next operation, which may have one of its own.
        let acts = self.possible().into_iter().filter(|action| !matches!(action, Action::Refuse { .. }));
        let mut ops: Vec<Op> = acts.map(Op::Act).collect();
        ops.extend([page, page + page / 2, 2 * page].map(Op::SetLen));
        ops.extend(
            [(0, page), (page, 2 * page), (page + page / 2, 2 * page)].map(|(start, end)| Op::Punch { start, end }),
        );
        for direct in [false, true] {
            ops.push(Op::Write { page: 1, direct });
            ops.push(Op::WriteMapped { from: 1, page: 0, direct });
            ops.push(Op::WriteMapped { from: 0, page: 0, direct });
        }
        if self.config.modes.len() > 1 {
            let is_mapped = self.mapping(1).is_some();
            ops.push(if is_mapped { Op::Unmap(1) } else { Op::Map(1) });
        }
        ops
    }

    fn act(self: &Rc<Self>, action: Action) {
        match action {
            Action::Load { map, pos } => _ = self.access(map, pos, Access::Read, By::Instruction),
            Action::Store { map, pos } => _ = self.access(map, pos, Access::Write, By::Instruction),
            Action::Evict { dirty } => {
                if let Some(mut table) = self.inode().table().try_exclusive() {
                    let before = self.store.failures();
                    let evicted = self.inode().evict_all(&mut table, dirty).map_err(Error::Store);
                    self.came(before, evicted.err());
                }
            }
            Action::WriteBack => {
                let before = self.store.failures();
                let written = self.inode().write_back(0..u64::MAX);
                self.came(before, written.err());
            }
            Action::Reclaim { map, page } => {
                if let Some(map) = self.mapping(map) {
                    map.table().inspect(|table| table.reclaim(page));
                }
            }
            Action::Refuse { map } => {
                if let Some(map) = self.mapping(map) {
                    map.table().inspect(|table| table.refuse(true));
                }
            }
            Action::StoreGoesDown => self.store.is_down.store(true, Relaxed),
            Action::StoreComesBack => self.store.is_down.store(false, Relaxed),
            Action::Touch { page } => {
                let pos = start_of(page);
                self.set_byte(pos, self.byte(pos));
            }
        }
    }

    /// Repeats an earlier operation.
    pub(super) fn repeat(self: &Rc<Self>, op: Op, script: &[(usize, Action)]) {
        self.is_known.set(true);
        self.perform(op, script);
        self.is_known.set(false);
    }

    /// Performs an operation, with the actions of the script in between.
    pub(super) fn perform(self: &Rc<Self>, op: Op, script: &[(usize, Action)]) {
        *self.script.borrow_mut() = script.to_vec();
        self.left.borrow_mut().clear();
        self.moments.set(0);
        self.trace.set(0);
        self.is_scripted.set(true);
        self.step(Step::Begin);
        self.operate(op);
        self.check();
        self.is_scripted.set(false);
        // A refusal that met no change would be a second one for the next operation.
        self.mappings().iter().filter_map(|map| map.table()).for_each(|table| table.refuse(false));
    }

    pub(super) fn moments_left(&self) -> Vec<Moment> {
        self.left.take()
    }
}
