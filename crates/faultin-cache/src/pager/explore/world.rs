//! A file, its mappings and its store, and everybody who uses them, in one thread: an operation runs, and at each of its steps a script
//! says what others do in between.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use faultin::Access;
use faultin::iov::{IovSource, ReadSegment};
use rustix::param::page_size;

use super::model::Model;
use super::store::SimStore;
use super::table::PageTable;
use super::view::View;
use super::{Config, Found, Step};
use crate::error::{Error, Partial};
use crate::folio::Table;
use crate::inode::Inode;
use crate::pager::hardware::Hardware;
use crate::pager::map::Map;
use crate::pager::serve::Refused;
use crate::pager::signal::Came;
use crate::pager::states::State;
use crate::pager::{Mode, Protection};
use crate::write::WriteLoop;
use crate::{Cache, CacheOptions, CachedFile, FileOptions};

/// Pages of the file.
pub(super) const PAGES: usize = 2;

/// What somebody does between two steps.
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
    /// The kernel refuses the next change of a page table.
    Refuse {
        map: usize,
    },
    /// A hole of the memfd is touched by other ways.
    Touch {
        page: usize,
    },
}

/// What a script is about.
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

/// Who accesses a mapping, and has its fault served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Anybody's instruction: in a signal, if the configuration says so.
    Instruction,
    /// A read or write that faults its buffer in.
    Call,
}

/// How often one was served in a signal, in all worlds.
pub(super) static IN_SIGNAL: AtomicU64 = AtomicU64::new(0);

/// What becomes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accessed {
    Done,
    Failed,
}

/// A moment at which something could have been done, and was not.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) number: usize,
    pub(super) state: u64,
    pub(super) could: Vec<Action>,
}

/// Everybody.
pub(super) struct World {
    config: &'static Config,
    _cache: Cache,
    file: CachedFile,
    store: Arc<SimStore>,
    backing: Arc<crate::folio::backing::Backing>,
    maps: RefCell<Vec<Option<Arc<Map>>>>,
    model: RefCell<Model>,
    script: RefCell<Vec<(usize, Action)>>,
    /// Whether others may come in between.
    is_scripted: Cell<bool>,
    /// Whether what happens has happened before, and was looked at then.
    is_known: Cell<bool>,
    /// Moments that have passed.
    moments: Cell<usize>,
    left: RefCell<Vec<Moment>>,
    trace: Cell<u64>,
    /// Things that others have done.
    acted: Cell<usize>,
    found: RefCell<Option<Found>>,
    /// Whether a handler is at it: its lock is in nobody's list.
    is_in_handler: Cell<bool>,
    /// Where the operation under way writes what it copies from a mapping.
    copies_to: Cell<Option<u64>>,
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A byte behind the middle of a page: where a file ends in the midst of it, it is behind the end.
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
        let how = WriteLoop { bug: config.loops, ..WriteLoop::DEFAULT };
        let options = FileOptions::new().max_folio(config.folio * page).write_loop(how);
        let file = cache.open_with(Arc::clone(&store), options).expect("the store is up");
        let backing = {
            let mut table = file.inode().table.exclusive().expect("nobody else has it");
            table.backing(page).expect("there are memfds")
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
        let map = Arc::new(Map::new(hardware, 0, PAGES, Protection::ReadWrite, mode));
        self.maps.borrow_mut()[number] = Some(Arc::clone(&map));
        let mut table = self.inode().table.exclusive().expect("nobody else has it");
        table.mapped.as_mut().expect("it has a memory").add(map);
    }

    fn unmap(&self, number: usize) {
        if let Some(map) = self.maps.borrow_mut()[number].take() {
            let mut table = self.inode().table.exclusive().expect("nobody else has it");
            table.mapped.as_mut().expect("it has a memory").remove(&map);
        }
    }

    fn mapping(&self, number: usize) -> Option<Arc<Map>> {
        self.maps.borrow()[number].clone()
    }

    fn mappings(&self) -> Vec<Arc<Map>> {
        self.maps.borrow().iter().flatten().cloned().collect()
    }

    // What is seen.

    /// A byte of the memfd; zero in a hole.
    fn byte(&self, pos: u64) -> u8 {
        let mut byte = [0];
        rustix::io::pread(self.backing.as_fd(), &mut byte, pos).expect("a memfd can be read");
        byte[0]
    }

    fn set_byte(&self, pos: u64, value: u8) {
        rustix::io::pwrite(self.backing.as_fd(), &[value], pos).expect("a memfd can be written");
    }

    fn stored(&self, pos: u64) -> u8 {
        let mut byte = [0];
        let _ = self.store.bytes.read_at(&mut byte, pos);
        byte[0]
    }

    fn looked_at(&self, page: usize) -> Vec<u64> {
        let positions = self.model.borrow().positions();
        positions.into_iter().filter(|&pos| pos as usize / page_size() == page).collect()
    }

    /// A value that is nowhere yet.
    fn new_value(&self, pos: u64) -> u8 {
        let model = self.model.borrow();
        let taken = |value: u8| model.may(pos, value) || value == self.byte(pos) || value == self.stored(pos);
        (1..=u8::MAX).find(|&value| !taken(value)).unwrap_or(1)
    }

    /// Whether nobody has the locks that a fault, an eviction or writeback needs.
    fn is_free(&self) -> bool {
        let locks = self.inode().table.try_exclusive().is_some() && self.inode().writeback.try_exclusive().is_some();
        locks && self.mappings().iter().all(|map| map.is_free())
    }

    fn pages(&self, table: &Table) -> Vec<impl Hash + use<>> {
        let page = |page| {
            let folio = table.get(table.find(start_of(page))?);
            let part = start_of(page)..start_of(page + 1);
            let is_dirty = folio.next_dirty(part.clone()).is_some();
            Some((
                folio.start(),
                folio.len(),
                folio.is_uptodate(part),
                is_dirty,
                folio.is_stored_to(),
                folio.was_written(),
            ))
        };
        (0..PAGES).map(page).collect()
    }

    /// All that what happens later depends on, but where an operation under way is.
    pub(super) fn state(&self) -> u64 {
        let maps: Vec<_> = self.maps.borrow().iter().map(|map| map.as_ref().map(|map| self.map_state(map))).collect();
        let model = self.model.borrow();
        let bytes: Vec<_> = model.positions().into_iter().map(|pos| (self.byte(pos), self.stored(pos))).collect();
        let store = (self.store.is_down.load(Relaxed), self.store.bytes.len().unwrap_or(0));
        let inode = (self.inode().store_len.load(Relaxed), self.inode().dirty.load(Relaxed));
        let table = self.inode().table.try_exclusive().map(|table| (table.size, self.pages(&table)));
        hash((maps, &*model, bytes, store, inode, table, self.holes()))
    }

    fn holes(&self) -> Vec<bool> {
        let table =
            |map: Arc<Map>| (0..PAGES).map(|page| map.table().is_some_and(|table| table.is_in_memory(page))).collect();
        self.mappings().into_iter().next().map_or_else(Vec::new, table)
    }

    fn map_state(&self, map: &Map) -> impl Hash + use<> {
        let states: Vec<_> = (0..PAGES).map(|page| map.state(page) as u8).collect();
        (states, map.table().map(|table| (table.entries(), table.refuses())), map.next())
    }

    // What is wrong.

    pub(super) fn find(&self, found: Found) {
        self.found.borrow_mut().get_or_insert(found);
    }

    pub(super) fn found(&self) -> Option<Found> {
        self.found.borrow().clone()
    }

    /// What holds whenever somebody could look.
    fn check(&self) {
        let model = self.model.borrow();
        let table = if self.is_in_handler.get() { None } else { self.inode().table.shared().ok() };
        for (number, map) in self.mappings().into_iter().enumerate() {
            let Some(entries) = map.table() else { continue };
            for page in (0..PAGES).filter(|&page| entries.allows(page, false)) {
                let is_in = start_of(page) < model.size.max(model.then);
                for pos in self.looked_at(page) {
                    let value = self.byte(pos);
                    if is_in && !model.may(pos, value) {
                        self.find(Found::Wrong { pos, value, may: model.says(pos), by: "a mapping" });
                    }
                }
                if !self.config.invariants {
                    continue;
                }
                let Some(table) = &table else { continue };
                let folio = table.find(start_of(page)).map(|key| table.get(key));
                let part = start_of(page)..start_of(page) + 1;
                if !folio.is_some_and(|folio| folio.is_shared() && folio.is_uptodate(part.clone())) {
                    self.find(Found::NotUpToDate { map: number, page });
                } else if entries.allows(page, true) && folio.is_some_and(|folio| folio.next_dirty(part).is_none()) {
                    self.find(Found::StoreUnnoticed { map: number, page });
                }
                if map.state(page) == State::Absent {
                    self.find(Found::StateIsWrong { map: number, page });
                }
            }
        }
    }

    // What is done.

    /// Something has been done by whoever is at it.
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

    /// What others could do now without waiting. What would wait for a lock happens when it is free.
    fn possible(&self) -> Vec<Action> {
        let free = self.is_free();
        let mut could = Vec::new();
        // Once in an operation: then another way is found. Of two in a row the second one would be for whoever finds it.
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
                if free || table.allows(page, true) {
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

    /// What the main operation could be.
    pub(super) fn operations(&self) -> Vec<Op> {
        let page = page_size() as u64;
        let mut ops: Vec<Op> = self.possible().into_iter().map(Op::Act).collect();
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
                if let Some(mut table) = self.inode().table.try_exclusive() {
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
                    map.table().inspect(|table| table.refuse());
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

    /// An operation may fail if its store has.
    fn came(&self, before: u32, error: Option<Error>) {
        if let Some(error) = error
            && (before == self.store.failures() || !matches!(error, Error::Store(_) | Error::Fault(_)))
        {
            self.find(Found::Fails(error.to_string()));
        }
    }

    /// An access of a user's, through a mapping, which is repeated until it succeeds or is not to be served.
    pub(super) fn access(self: &Rc<Self>, map: usize, pos: u64, access: Access, by: By) -> Accessed {
        let Some(map) = self.mapping(map) else { return Accessed::Failed };
        let (page, write) = (pos as usize / page_size(), access == Access::Write);
        let Some(table) = map.table() else { return Accessed::Failed };
        let before = self.store.failures();
        let (mut again, mut acted) = (0, self.acted.get());
        while !table.allows(page, write) {
            if self.found.borrow().is_some() {
                return Accessed::Failed;
            }
            if acted != self.acted.get() {
                (again, acted) = (0, self.acted.get());
            }
            again += 1;
            if again > 6 {
                self.find(Found::Endless { page });
                return Accessed::Failed;
            }
            // Poison is a signal; otherwise the thread waits in the kernel, in that mode.
            let waits = map.mode() == Mode::Thread && !table.entries()[page].poisoned;
            let in_signal = self.config.in_signals && by == By::Instruction && map.mode() != Mode::Thread;
            let served = if in_signal {
                self.serve_in_signal(&map, page, access)
            } else {
                self.inode().serve(&map, page, 1, Some(access))
            };
            if served.is_err() {
                if map.mode() == Mode::Thread {
                    map.poison(page);
                }
                if !waits {
                    let model = self.model.borrow();
                    let is_there = start_of(page) < model.size.min(model.then);
                    if is_there && before == self.store.failures() {
                        self.find(Found::Fails(format!("an access to page {page}: {served:?}")));
                    }
                    return Accessed::Failed;
                }
            }
            self.step(Step::Begin);
        }
        self.succeed(page, pos, write);
        Accessed::Done
    }

    /// As the handler does, which hands over to the pager's thread.
    fn serve_in_signal(&self, map: &Map, page: usize, access: Access) -> Result<(), Refused> {
        self.is_in_handler.set(true);
        let came = self.inode().serve_at_once(map, page, Some(access));
        self.is_in_handler.set(false);
        IN_SIGNAL.fetch_add(u64::from(came == Came::Served), Relaxed);
        match came {
            Came::Served => Ok(()),
            Came::Refused => Err(Refused::BehindTheEnd),
            Came::HandOver => self.inode().serve(map, page, 1, Some(access)),
        }
    }

    fn succeed(&self, page: usize, pos: u64, write: bool) {
        if start_of(page) >= self.model.borrow().size.max(self.model.borrow().then) {
            self.find(Found::BehindTheEnd { page });
            return;
        }
        if write {
            let value = self.new_value(pos);
            self.set_byte(pos, value);
            self.model.borrow_mut().stored(pos, value);
            return;
        }
        for pos in self.looked_at(page) {
            self.loaded(pos, self.byte(pos), "a mapping");
        }
    }

    fn loaded(&self, pos: u64, value: u8, by: &'static str) {
        let mut model = self.model.borrow_mut();
        if model.may(pos, value) {
            model.loaded(pos, value);
        } else {
            self.find(Found::Wrong { pos, value, may: model.says(pos), by });
        }
    }

    /// A copy of a part of a page for an operation that is under way, if it can be read.
    pub(super) fn copy_from(&self, map: usize, offset: usize, bytes: &mut [u8]) -> bool {
        let page = offset / page_size();
        if !self.mapping(map).is_some_and(|map| map.table().is_some_and(|table| table.allows(page, false))) {
            return false;
        }
        rustix::io::pread(self.backing.as_fd(), &mut *bytes, offset as u64).expect("a memfd can be read");
        for pos in self.looked_at(page) {
            self.loaded(pos, self.byte(pos), "a copy");
        }
        if let Some(to) = self.copies_to.get()
            && let Some(&value) = bytes.first()
        {
            self.model.borrow_mut().effect(to, value);
        }
        true
    }

    /// Does again what was done before.
    pub(super) fn repeat(self: &Rc<Self>, op: Op, script: &[(usize, Action)]) {
        self.is_known.set(true);
        self.perform(op, script);
        self.is_known.set(false);
    }

    /// Does something, while others do what the script says.
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
    }

    pub(super) fn moments_left(&self) -> Vec<Moment> {
        self.left.take()
    }

    fn operate(self: &Rc<Self>, op: Op) {
        let before = self.store.failures();
        let size = self.model.borrow().size;
        let page = page_size() as u64;
        match op {
            Op::Act(action) => self.act(action),
            Op::Unmap(map) => self.unmap(map),
            Op::Map(map) => self.map(map),
            Op::SetLen(len) => {
                // What is cut off is zeros, and what was behind the end is when it becomes a part of the file.
                self.model.borrow_mut().begin(len, |pos| (len != size && pos >= len.min(size)).then_some(0));
                let result = self.inode().set_len(len);
                self.finish(before, len, result.map(|()| 0).map_err(|error| Partial { done: 0, error }));
            }
            Op::Punch { start, end } => {
                self.model.borrow_mut().begin(size, |pos| (start..end.min(size)).contains(&pos).then_some(0));
                let result = self.inode().punch_hole(start..end);
                self.finish(before, size, result.map(|()| 0).map_err(|error| Partial { done: 0, error }));
            }
            Op::Write { page: to, direct } => {
                let pos = start_of(to);
                let values: Vec<_> = self.looked_at(to).iter().map(|&pos| self.new_value(pos)).collect();
                let value = values.into_iter().max().unwrap_or(1);
                let then = size.max(pos + page);
                let part = pos..pos + page;
                self.model.borrow_mut().begin(then, |pos| part.contains(&pos).then_some(value));
                let bytes = vec![value; page as usize];
                let result = match direct {
                    true => self.file.write_direct(&mut IovSource::<faultin::ReadView<'_>>::one(&bytes[..]), pos),
                    false => self.file.write_at(&bytes, pos),
                };
                self.finish(before, then, result);
            }
            Op::WriteMapped { from, page: to, direct } => {
                let pos = start_of(to);
                let then = size.max(pos + page);
                self.model.borrow_mut().begin(then, |_| None);
                self.copies_to.set(Some(pos));
                let view = View::new(Rc::clone(self), 0, from * page as usize..(from + 1) * page as usize);
                let mut source = IovSource::one(ReadSegment::Memory(view));
                let result = match direct {
                    true => self.file.write_direct(&mut source, pos),
                    false => self.file.write_iter(&mut source, pos),
                };
                self.copies_to.set(None);
                self.finish(before, then, result);
            }
        }
    }

    fn finish(&self, before: u32, then: u64, result: Result<usize, Partial>) {
        let done = result.is_ok();
        let behind = |error: &Error| matches!(error, Error::Fault(_));
        match result {
            // A buffer behind the end of the file.
            Err(partial) if behind(&partial.error) && self.model.borrow().size < start_of(PAGES) => {}
            result => self.came(before, result.err().map(|partial| partial.error)),
        }
        let size = self.file.len().unwrap_or(u64::MAX);
        if done && size != then {
            self.find(Found::Fails(format!("the file has {size} bytes, not {then}")));
        }
        self.model.borrow_mut().end(done, size);
    }

    // What comes out in the end.

    /// Looks at everything, in all ways, with nobody else there.
    pub(super) fn settle(self: &Rc<Self>) {
        self.store.is_down.store(false, Relaxed);
        self.look();
        self.act(Action::Evict { dirty: false });
        self.look();
        self.act(Action::WriteBack);
        self.look_at_store();
        self.act(Action::Evict { dirty: true });
        self.look();
    }

    /// The file grows, with everything in it as it is, after somebody has stored to its last page.
    pub(super) fn grow(self: &Rc<Self>) {
        self.store.is_down.store(false, Relaxed);
        if self.model.borrow().size > start_of(1) {
            let _ = self.access(0, in_tail(1), Access::Write, By::Instruction);
        }
        self.operate(Op::SetLen(start_of(PAGES)));
        self.look();
        self.act(Action::Evict { dirty: true });
        self.look();
    }

    fn look(self: &Rc<Self>) {
        let mut bytes = vec![0; PAGES * page_size()];
        let read = self.file.read_at(&mut bytes, 0);
        let size = self.model.borrow().size;
        if !matches!(read, Ok(read) if read as u64 == size) {
            self.find(Found::Fails(format!("a read: {read:?}")));
        }
        let positions = self.model.borrow().positions();
        for &pos in positions.iter().filter(|&&pos| pos < size) {
            self.loaded(pos, bytes[pos as usize], "a read");
        }
        for map in 0..self.config.modes.len() {
            if self.mapping(map).is_some() {
                (0..PAGES).for_each(|page| _ = self.access(map, start_of(page), Access::Read, By::Instruction));
            }
        }
    }

    fn look_at_store(&self) {
        let size = self.model.borrow().size;
        let positions = self.model.borrow().positions();
        for pos in positions.into_iter().filter(|&pos| pos < size) {
            self.loaded(pos, self.stored(pos), "the store");
        }
    }
}
