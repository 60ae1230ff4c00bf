//! Loads, stores and atomic operations: as a whole or not at all.

use core::sync::atomic::Ordering;

use super::range::{Window, to_boundary};
use super::trace::StepKind;
use faultin::Scalar;
use faultin::{Access, Cause, Fault};

/// The largest scalar, and the largest part of one that is never torn unless it is atomic.
const LARGEST: usize = size_of::<u128>();
const UNTORN: usize = size_of::<u64>();

impl Window {
    pub(super) fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        let mut value = [0; LARGEST];
        self.parts::<T>(Access::Read, offset, |done, bytes| value[done..done + bytes.len()].copy_from_slice(bytes))?;
        Ok(T::from_bytes(&value[..size_of::<T>()]))
    }

    pub(super) fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        let mut new = [0; LARGEST];
        value.put_bytes(&mut new[..size_of::<T>()]);
        self.parts::<T>(Access::Write, offset, |done, bytes| bytes.copy_from_slice(&new[done..done + bytes.len()]))
    }

    /// Stores the result of `update`, if any, and returns the old value: one step.
    pub(super) fn update<T: Scalar>(&self, offset: usize, update: impl FnOnce(T) -> Option<T>) -> Result<T, Fault> {
        let at = self.aligned::<T>(offset)?;
        let attempt = self.attempt(StepKind::Scalar, Access::Write);
        let mut world = self.world.borrow_mut();
        world.prove(attempt, at, size_of::<T>())?;
        let old = T::from_bytes(&world.state.bytes[at..at + size_of::<T>()]);
        world.proven_step(attempt, at..at + size_of::<T>(), |bytes| {
            if let Some(new) = update(old) {
                new.put_bytes(bytes);
            }
        });
        Ok(old)
    }

    pub(super) fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        current: T,
        new: T,
        failure: Ordering,
    ) -> Result<Result<T, T>, Fault> {
        let at = self.aligned::<T>(offset)?;
        if matches!(failure, Ordering::Release | Ordering::AcqRel) {
            return Err(Fault::rejected(Access::Write, Cause::Unsupported, self.geometry.base() + at));
        }
        let old = self.update(offset, |old| (old == current).then_some(new))?;
        Ok(if old == current { Ok(old) } else { Err(old) })
    }

    fn aligned<T>(&self, offset: usize) -> Result<usize, Fault> {
        let at = self.at(Access::Write, offset, size_of::<T>())?;
        if at & (size_of::<T>() - 1) == 0 {
            Ok(at)
        } else {
            Err(Fault::rejected(Access::Write, Cause::Alignment, self.geometry.base() + at))
        }
    }

    /// Calls `act` with the bytes of each part that is not torn; its first argument is the number of bytes before.
    fn parts<T: Scalar>(
        &self,
        access: Access,
        offset: usize,
        mut act: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), Fault> {
        let len = size_of::<T>();
        let at = self.at(access, offset, len)?;
        let attempt = self.attempt(StepKind::Scalar, access);
        let mut world = self.world.borrow_mut();
        world.prove(attempt, at, len)?;
        let mut done = 0;
        while done < len {
            let here = to_boundary(at + done, len.min(UNTORN)).min(len - done);
            world.proven_step(attempt, at + done..at + done + here, |bytes| act(done, bytes));
            done += here;
        }
        Ok(())
    }
}
