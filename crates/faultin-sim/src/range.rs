//! A part of a space, and its bounds.

use core::cell::RefCell;
use core::ops::Range;
use std::rc::Rc;

use super::state::Geometry;
use super::step::{Attempt, World};
use super::trace::StepKind;
use faultin::{Access, Cause, Fault, Short};

/// The common part of [`SimRead`](super::SimRead) and [`SimWrite`](super::SimWrite). `start + len` is within the space.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) geometry: Geometry,
    start: usize,
    len: usize,
    tag: u8,
}

impl Window {
    pub(super) fn new(world: Rc<RefCell<World>>, range: Range<usize>) -> Self {
        let geometry = world.borrow().state.geometry();
        Window { world, geometry, start: range.start, len: range.len(), tag: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn address(&self) -> usize {
        self.geometry.base() + self.start
    }

    pub(super) fn with_tag(mut self, tag: u8) -> Self {
        self.tag = tag;
        self
    }

    pub(super) fn subslice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        Some(Window { start: self.start + range.start, len: range.len(), ..self.clone() })
    }

    pub(super) fn to_page_end(&self, offset: usize) -> usize {
        to_boundary(self.start.wrapping_add(offset), self.geometry.page_size())
    }

    /// Returns the position in the space of `len` bytes at `offset`.
    pub(super) fn at(&self, access: Access, offset: usize, len: usize) -> Result<usize, Fault> {
        if offset <= self.len && len <= self.len - offset {
            Ok(self.start + offset)
        } else {
            Err(Fault::rejected(access, Cause::OutOfRange, self.address().wrapping_add(offset)))
        }
    }

    pub(super) fn range_at(&self, access: Access, offset: usize, len: usize) -> Result<usize, Short> {
        self.at(access, offset, len).map_err(|fault| Short { done: 0, fault })
    }

    pub(super) fn attempt(&self, kind: StepKind, access: Access) -> Attempt {
        Attempt { kind, access, tag: self.tag, may_wait: true }
    }
}

/// Returns the number of bytes from `offset` to the next multiple of `unit`, never 0.
pub(super) fn to_boundary(offset: usize, unit: usize) -> usize {
    unit - (offset & (unit - 1))
}
