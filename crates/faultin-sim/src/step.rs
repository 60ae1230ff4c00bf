//! Single steps, and the adversary between them.

use core::hash::{Hash, Hasher};
use core::ops::Range;
use std::hash::DefaultHasher;

use super::action::{Action, Script};
use super::state::State;
use super::trace::{Event, Moment, StepKind, Trace};
use faultin::{Access, Cause, Fault};

/// An access to memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) kind: StepKind,
    pub(super) access: Access,
    /// The tag of the range through which it is made.
    pub(super) tag: u8,
    /// Whether it may wait for a page that is not resident.
    pub(super) may_wait: bool,
}

/// A state with its history and its future.
#[derive(Debug)]
pub(super) struct World {
    pub(super) state: State,
    pub(super) trace: Option<Trace>,
    pub(super) moments: Option<Vec<Moment>>,
    /// A hash of what every access has observed.
    observed: u64,
    script: Script,
    steps: u64,
    waits: u64,
}

impl World {
    pub(super) fn new(state: State) -> Self {
        World { state, trace: None, moments: None, observed: 0, script: Script::new(), steps: 0, waits: 0 }
    }

    pub(super) fn play(&mut self, script: Script) {
        (self.script, self.steps) = (script, 0);
        self.adversary();
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn waits(&self) -> u64 {
        self.waits
    }

    /// Records this moment, if moments are recorded.
    pub(super) fn keep_moment(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { step: self.steps, state: self.state.clone(), observed: self.observed });
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.script.len()
    }

    pub(super) fn act(&mut self, action: Action) {
        action.apply(&mut self.state);
        if let Some(trace) = &mut self.trace {
            trace.events.push(Event::Action { after: self.steps, action });
        }
    }

    /// Makes a step over `len` bytes of one granule, and calls `act` with the accessible ones. `Err`: their number, and the
    /// fault of the next one.
    pub(super) fn step(
        &mut self,
        attempt: Attempt,
        offset: usize,
        len: usize,
        act: impl FnOnce(&mut [u8]),
    ) -> Result<(), (usize, Fault)> {
        let (done, cause) = self.admit(attempt, offset, len);
        act(&mut self.state.bytes[offset..offset + done]);
        let fault = cause.map(|cause| self.fault(attempt, cause, offset + done));
        self.finish(attempt, offset..offset + done, fault);
        fault.map_or(Ok(()), |fault| Err((done, fault)))
    }

    /// Checks that each of `len` bytes can be accessed; it is a step only if one cannot.
    pub(super) fn prove(&mut self, attempt: Attempt, offset: usize, len: usize) -> Result<(), Fault> {
        let granule = self.state.geometry().granule();
        let mut at = 0;
        while at < len {
            let here = (granule - ((offset + at) & (granule - 1))).min(len - at);
            if let (done, Some(cause)) = self.admit(attempt, offset + at, here) {
                let fault = self.fault(attempt, cause, offset + at + done);
                self.finish(attempt, offset..offset, Some(fault));
                return Err(fault);
            }
            at += here;
        }
        Ok(())
    }

    /// Makes a step over bytes that are [proven](Self::prove).
    pub(super) fn proven_step(&mut self, attempt: Attempt, range: Range<usize>, act: impl FnOnce(&mut [u8])) {
        act(&mut self.state.bytes[range.clone()]);
        self.finish(attempt, range, None);
    }

    fn admit(&mut self, attempt: Attempt, offset: usize, len: usize) -> (usize, Option<Cause>) {
        if self.state.waits(attempt.access, offset) {
            if !attempt.may_wait {
                return (0, Some(Cause::NotResident));
            }
            let page = offset / self.state.geometry().page_size();
            self.state.set_resident(page, true);
            self.waits += 1;
            if let Some(trace) = &mut self.trace {
                trace.events.push(Event::FaultIn { step: self.steps + 1, page });
            }
        }
        self.state.accessible(attempt.access, attempt.tag, offset, len)
    }

    fn fault(&self, attempt: Attempt, cause: Cause, offset: usize) -> Fault {
        Fault::rejected(attempt.access, cause, self.state.geometry().base() + offset)
    }

    fn finish(&mut self, attempt: Attempt, range: Range<usize>, fault: Option<Fault>) {
        self.steps += 1;
        if self.moments.is_some() {
            let mut hasher = DefaultHasher::new();
            let found = fault.map(|fault| (fault.cause(), fault.address()));
            (self.observed, attempt.kind, attempt.access, range.start, found).hash(&mut hasher);
            self.state.bytes[range.clone()].hash(&mut hasher);
            self.observed = hasher.finish();
            self.keep_moment();
        }
        if let Some(trace) = &mut self.trace {
            let (kind, access) = (attempt.kind, attempt.access);
            let (offset, len) = (range.start, range.len());
            trace.events.push(Event::Step { step: self.steps, kind, access, offset, len, fault });
        }
        self.adversary();
    }

    fn adversary(&mut self) {
        while let Some(action) = self.script.due(self.steps) {
            self.act(action);
        }
    }
}
