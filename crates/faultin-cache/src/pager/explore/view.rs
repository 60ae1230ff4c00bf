//! A mapping as the buffer of a read or write: an inaccessible page ends a copy, and is faulted in when the lock is free.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use faultin::memory::ReadMemory;
use faultin::{Access, Cause, Fault, Granularity, Scalar, Short};

use super::world::{Accessed, By, World};

/// A part of a mapping.
#[derive(Clone)]
pub(super) struct View {
    world: Rc<World>,
    map: usize,
    range: Range<usize>,
}

impl View {
    pub(super) fn new(world: Rc<World>, map: usize, range: Range<usize>) -> View {
        View { world, map, range }
    }

    fn fault(&self, offset: usize) -> Fault {
        Fault::rejected(Access::Read, Cause::Backing, self.range.start + offset)
    }
}

// SAFETY: a part counts once the world has copied it.
#[allow(unsafe_code, reason = "a promise to who copies")]
unsafe impl ReadMemory for View {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        let part = self.range.start + range.start..self.range.start + range.end;
        (range.start <= range.end && part.end <= self.range.end).then(|| View { range: part, ..self.clone() })
    }

    fn page_size(&self) -> usize {
        rustix::param::page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        self.page_size() - (self.range.start + offset) % self.page_size()
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        let mut done = 0;
        while done < dst.len() {
            let part = (dst.len() - done).min(self.to_page_end(offset + done));
            if !self.world.copy_from(self.map, self.range.start + offset + done, &mut dst[done..done + part]) {
                return Err(Short { done, fault: self.fault(offset + done) });
            }
            done += part;
        }
        Ok(())
    }

    fn load<T: Scalar>(&self, _: usize) -> Result<T, Fault> {
        unimplemented!("no loop of the cache loads single values")
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        match self.world.access(self.map, (self.range.start + offset) as u64, Access::Read, By::Call) {
            Accessed::Done => Ok(len.min(NonZeroUsize::new(self.to_page_end(offset)).unwrap_or(len))),
            Accessed::Failed => Err(self.fault(offset)),
        }
    }

    fn probe(&self, _: Range<usize>, _: Granularity) -> Result<(), Short> {
        unimplemented!("no loop of the cache probes")
    }
}
