//! Moving bytes, one granule per step.

use super::range::{Window, to_boundary};
use super::step::Attempt;
use super::trace::StepKind;
use faultin::{Access, Short};

/// Whether a copy may wait for a page that is not resident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    May,
    MustNot,
}

impl Window {
    pub(super) fn copy_in(&self, offset: usize, dst: &mut [u8], waiting: Waiting) -> Result<(), Short> {
        self.granules(Access::Read, offset, dst.len(), waiting, |done, bytes| {
            dst[done..done + bytes.len()].copy_from_slice(bytes);
        })
    }

    pub(super) fn copy_out(&self, offset: usize, src: &[u8], waiting: Waiting) -> Result<(), Short> {
        self.granules(Access::Write, offset, src.len(), waiting, |done, bytes| {
            bytes.copy_from_slice(&src[done..done + bytes.len()]);
        })
    }

    pub(super) fn fill(&self, offset: usize, byte: u8, len: usize) -> Result<(), Short> {
        self.granules(Access::Write, offset, len, Waiting::May, |_, bytes| bytes.fill(byte))
    }

    /// Calls `act` with the bytes of each granule; its first argument is the number of bytes before.
    fn granules(
        &self,
        access: Access,
        offset: usize,
        len: usize,
        waiting: Waiting,
        mut act: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), Short> {
        let at = self.range_at(access, offset, len)?;
        let attempt = Attempt { may_wait: waiting == Waiting::May, ..self.attempt(StepKind::Copy, access) };
        let mut world = self.world.borrow_mut();
        let mut done = 0;
        while done < len {
            let here = to_boundary(at + done, self.geometry.granule()).min(len - done);
            world
                .step(attempt, at + done, here, |bytes| act(done, bytes))
                .map_err(|(moved, fault)| Short { done: done + moved, fault })?;
            done += here;
        }
        Ok(())
    }
}
