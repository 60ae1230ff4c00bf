//! Accesses of users through mappings.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use faultin::Access;
use rustix::param::page_size;

use super::{World, start_of};
use crate::pager::Mode;
use crate::pager::explore::{Found, Step};
use crate::pager::inside::map::Map;
use crate::pager::inside::signal::Outcome;
use crate::pager::serve::{Effort, Rejection};

/// The kind of code that accesses a mapping, and so how its fault is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pager::explore) enum By {
    /// Any instruction: in a signal, if the configuration has signals.
    Instruction,
    /// A read or write that faults its buffer in.
    Call,
}

/// How often a fault was resolved in a signal, in all worlds.
pub(in crate::pager::explore) static IN_SIGNAL: AtomicU64 = AtomicU64::new(0);

/// The result of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pager::explore) enum Accessed {
    Done,
    Failed,
}

impl World {
    /// Makes a user's access through a mapping, which is repeated until it succeeds or cannot be resolved.
    pub(in crate::pager::explore) fn access(self: &Rc<Self>, map: usize, pos: u64, access: Access, by: By) -> Accessed {
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
            let known = (self.config.says_access || by == By::Call).then_some(access);
            // Time passes between the fault and its resolution.
            self.step(Step::Faulted);
            let served = if in_signal {
                self.serve_in_signal(&map, page, known)
            } else {
                self.serve_by_thread(&map, page, known, by)
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

    /// Resolves a fault as the handler does, which hands over to the pager's thread.
    fn serve_in_signal(&self, map: &Map, page: usize, access: Option<Access>) -> Result<(), Rejection> {
        self.is_in_handler.set(true);
        let outcome = self.inode().serve_at_once(map, page, access);
        self.is_in_handler.set(false);
        IN_SIGNAL.fetch_add(u64::from(outcome == Outcome::Resolved), Relaxed);
        match outcome {
            Outcome::Resolved => Ok(()),
            Outcome::Rejected => Err(Rejection::PastEnd),
            Outcome::HandOver => self.serve_by_thread(map, page, access, By::Instruction),
        }
    }

    /// Resolves a fault as the pager's threads do, which call the store only if that is needed; or as a call does.
    fn serve_by_thread(&self, map: &Map, page: usize, access: Option<Access>, by: By) -> Result<(), Rejection> {
        if by == By::Instruction {
            match self.inode().serve_with(map, page, 1, access, Effort::InMemory(&|| true)) {
                Err(Rejection::NeedsStore) => {}
                served => return served,
            }
        }
        self.inode().serve(map, page, 1, access)
    }

    fn succeed(&self, page: usize, pos: u64, write: bool) {
        if start_of(page) >= self.model.borrow().size.max(self.model.borrow().then) {
            self.find(Found::PastEnd { page });
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

    pub(super) fn loaded(&self, pos: u64, value: u8, by: &'static str) {
        let mut model = self.model.borrow_mut();
        if model.may(pos, value) {
            model.loaded(pos, value);
        } else {
            self.find(Found::Wrong { pos, value, may: model.says(pos), by });
        }
    }

    /// Copies a part of a page for an operation that is under way, if it can be read.
    pub(in crate::pager::explore) fn copy_from(&self, map: usize, offset: usize, bytes: &mut [u8]) -> bool {
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
}
