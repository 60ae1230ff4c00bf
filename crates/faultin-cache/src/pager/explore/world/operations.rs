//! The operations of scripts, and the checks at the end.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use faultin::Access;
use faultin::iov::{IovSource, ReadSegment};
use rustix::param::page_size;

use super::{Action, By, Op, PAGES, World, in_tail, start_of};
use crate::copy::MayWait;
use crate::error::{Error, Partial};
use crate::mutation::Mutated;
use crate::pager::explore::Found;
use crate::pager::explore::view::View;

impl World {
    /// Checks the result of an operation, which may fail if its store has.
    pub(super) fn came(&self, before: u32, error: Option<Error>) {
        if let Some(error) = error
            && (before == self.store.failures() || !matches!(error, Error::Store(_) | Error::Fault(_)))
        {
            self.find(Found::Fails(error.to_string()));
        }
    }

    pub(super) fn operate(self: &Rc<Self>, op: Op) {
        let before = self.store.failures();
        let size = self.model.borrow().size;
        let page = page_size() as u64;
        match op {
            Op::Act(action) => self.act(action),
            Op::Unmap(map) => self.unmap(map),
            Op::Map(map) => self.map(map),
            Op::SetLen(len) => {
                // Truncated bytes are zeros, and so are bytes past the end when they become part of the file.
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
                let mutated = Mutated::new(&self.file, self.config.loops);
                let result = match direct {
                    true => mutated.write_direct_with::<_, MayWait>(&mut source, pos, &mut ()),
                    false => mutated.write_iter_with::<_, MayWait>(&mut source, pos, &mut ()),
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
            // A buffer past the end of the file.
            Err(partial) if behind(&partial.error) && self.model.borrow().size < start_of(PAGES) => {}
            result => self.came(before, result.err().map(|partial| partial.error)),
        }
        let size = self.file.len().unwrap_or(u64::MAX);
        if done && size != then {
            self.find(Found::Fails(format!("the file has {size} bytes, not {then}")));
        }
        self.model.borrow_mut().end(done, size);
    }

    /// Checks everything in all ways, without other threads.
    pub(in crate::pager::explore) fn settle(self: &Rc<Self>) {
        self.store.is_down.store(false, Relaxed);
        self.look();
        self.act(Action::Evict { dirty: false });
        self.look();
        self.act(Action::WriteBack);
        self.look_at_store();
        self.act(Action::Evict { dirty: true });
        self.look();
    }

    /// Checks that the file grows, with its contents unchanged, after a store to its last page.
    pub(in crate::pager::explore) fn grow(self: &Rc<Self>) {
        self.store.is_down.store(false, Relaxed);
        if self.is_writable() && self.model.borrow().size > start_of(1) {
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
