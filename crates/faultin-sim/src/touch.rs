//! fault_in and probe: one-byte accesses that change nothing.

use core::num::NonZeroUsize;

use super::range::{Window, to_boundary};
use super::trace::StepKind;
use faultin::Granularity;
use faultin::{Access, Fault, Short};

impl Window {
    pub(super) fn fault_in(&self, access: Access, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let at = self.at(access, offset, len.get())?;
        match self.touch_units(access, self.geometry.page_size(), at, len.get()) {
            Ok(()) => Ok(len),
            Err(short) => NonZeroUsize::new(short.done).ok_or(short.fault),
        }
    }

    pub(super) fn probe(
        &self,
        access: Access,
        offset: usize,
        len: usize,
        granularity: Granularity,
    ) -> Result<(), Short> {
        let at = self.range_at(access, offset, len)?;
        let unit = self.geometry.unit(granularity);
        if access == Access::Read || granularity == Granularity::Page {
            return self.touch_units(access, unit, at, len);
        }
        let mut done = 0;
        while done < len {
            let here = to_boundary(at + done, self.geometry.page_size()).min(len - done);
            let behind = |short: Short| Short { done: done + short.done, ..short };
            self.touch_units(Access::Write, 1, at + done, 1).map_err(behind)?;
            self.touch_units(Access::Read, unit, at + done, here).map_err(behind)?;
            done += here;
        }
        Ok(())
    }

    /// Touches the first byte of `len` bytes at `at`, and of each further unit in them.
    fn touch_units(&self, access: Access, unit: usize, at: usize, len: usize) -> Result<(), Short> {
        let attempt = self.attempt(StepKind::Touch, access);
        let mut world = self.world.borrow_mut();
        let mut done = 0;
        while done < len {
            world.step(attempt, at + done, 1, |_| {}).map_err(|(_, fault)| Short { done, fault })?;
            done += to_boundary(at + done, unit);
        }
        Ok(())
    }
}
