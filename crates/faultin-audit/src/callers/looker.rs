//! The common part of rows 8 to 13 and 17 to 20: the steps of a loop of `faultin_cache` go to the log.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use faultin::{Fault, Short};
use faultin_cache::write::{Decision, Observer};

use crate::log::{Log, Stuck};

const INODE: &str = "the inode";

/// Logs the steps of the loop.
pub(super) struct Looker<'a, 'l> {
    pub(super) log: &'a mut Log<'l>,
    /// The reason why it was ended.
    pub(super) stuck: Option<Stuck>,
    /// The name of a copy.
    copy: &'static str,
    /// The name of a fault-in.
    fault_in: &'static str,
    beside: Option<&'a mut dyn Beside>,
}

/// An action during a loop, at certain points of it.
pub(super) trait Beside {
    /// A copy was attempted, and was short or not.
    fn copied(&mut self, short: bool) {
        let _ = short;
    }

    /// The inode lock was taken.
    fn locked(&mut self) {}
}

impl Beside for () {}

impl<'a, 'l> Looker<'a, 'l> {
    pub(super) fn new(log: &'a mut Log<'l>, copy: &'static str, fault_in: &'static str) -> Looker<'a, 'l> {
        Looker { log, stuck: None, copy, fault_in, beside: None }
    }

    pub(super) fn beside(self, beside: &'a mut dyn Beside) -> Looker<'a, 'l> {
        Looker { beside: Some(beside), ..self }
    }
}

impl Observer for Looker<'_, '_> {
    fn locked(&mut self) {
        self.log.lock(INODE);
        if let Some(beside) = &mut self.beside {
            beside.locked();
        }
    }

    fn unlocked(&mut self) {
        self.log.unlock(INODE);
    }

    fn faulted_in(&mut self, len: usize, result: &Result<NonZeroUsize, Fault>) {
        match result {
            Ok(bytes) if bytes.get() < len => {
                self.log.decide(format!("{}: {bytes} of {len} bytes", self.fault_in));
            }
            result => self.log.accessed(self.fault_in, len, result),
        }
        if result.is_ok() {
            self.log.faulted_in();
        }
    }

    fn copied(&mut self, len: usize, result: &Result<usize, Short>) {
        self.log.copied(self.copy, len, &result.map(drop));
        if let Some(beside) = &mut self.beside {
            beside.copied(result.is_err());
        }
    }

    fn decided(&mut self, what: Decision) {
        self.log.decide(match what {
            Decision::Reject(bytes) => {
                Cow::from(format!("write_end: the block is not up to date, {bytes} bytes refused"))
            }
            Decision::Complete => "bring the rest of the block up to date".into(),
            Decision::AskFor(bytes) => format!("ask for at most {bytes} bytes").into(),
            Decision::Reserve(bytes) => format!("reserve {bytes} bytes").into(),
            Decision::Release(bytes) => format!("release {bytes} bytes of that").into(),
            Decision::Preallocate => "allocate the whole range".into(),
            Decision::DoNotPreallocate => "allocate nothing: not every byte could be faulted in".into(),
            Decision::Trim => "give back what was allocated behind the end".into(),
            Decision::WriteThrough => "send what was copied".into(),
            other => format!("{other:?}").into(),
        });
    }

    fn again(&mut self) -> ControlFlow<()> {
        match self.log.again() {
            Ok(()) => ControlFlow::Continue(()),
            Err(stuck) => {
                self.stuck = Some(stuck);
                ControlFlow::Break(())
            }
        }
    }
}
