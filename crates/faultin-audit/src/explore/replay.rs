//! One run of a caller by a script, and its violations.

#![forbid(unsafe_code)]

use faultin_sim::{Action, Moment};

use super::violation::Violation;
use crate::bug::Bug;
use crate::callers::{Ended, Halt, Job, Variant};
use crate::expect::Ends;
use crate::log::{Log, Step, Stuck};
use crate::scenario::Scenario;
use crate::user::{Object, Scale, SimUser, User};

/// A caller to be run repeatedly.
pub(super) struct Replay<'a> {
    pub(super) job: &'a dyn Job,
    pub(super) variant: Variant,
    pub(super) object: &'a Object,
    pub(super) bug: Option<Bug>,
}

/// The result of a run.
pub(super) struct Run {
    pub(super) violations: Vec<Violation>,
    pub(super) moments: Vec<Moment>,
    pub(super) steps: u64,
    pub(super) log: Vec<Step>,
}

impl Replay<'_> {
    /// Makes the object in memory without faults.
    pub(super) fn user(&self) -> SimUser {
        SimUser::new(self.object, Scenario::AllResident, Scale::Small).expect("simulated memory is there")
    }

    /// Runs with all of these actions; the first `faults` of them are initial faults.
    pub(super) fn run(&self, script: &[(u64, Action)], faults: usize) -> Run {
        let user = self.user();
        let sim = user.sim();
        let before = sim.state();
        sim.watch();
        sim.play(script.iter().cloned().collect());
        let mut log = Log::of(&user).watching(|| (script.len() - sim.pending()) as u64, || sim.waits());
        if let Some(bug) = self.bug {
            log = log.with_bug(bug);
        }
        let result = self.job.on_sim(self.variant, &user, &mut log);
        let mut violations = self.judge(&result);
        if user.surroundings_intact().is_ok_and(|intact| !intact)
            || (!self.job.changes_the_object() && sim.state().bytes() != before.bytes())
        {
            violations.push(Violation::Changed);
        }
        if let Some(lock) = log.held().first() {
            violations.push(Violation::StillHeld(lock));
        }
        if log.waited_under_lock() {
            violations.push(Violation::WaitedUnderLock);
        }
        // One attempt; and some for pages that were not resident at the beginning, and for each action of the adversary.
        let events = 1 + script.len() - faults;
        let (rounds, justified) = (log.rounds(), 1 + events * self.job.attempts_per_event());
        if result.is_ok() && rounds as usize > justified {
            violations.push(Violation::Wasted { rounds, justified });
        }
        let steps = sim.steps();
        let log = log.into_steps();
        Run { violations, moments: sim.take_moments(), steps, log }
    }

    fn judge(&self, result: &Result<Ended, Halt>) -> Vec<Violation> {
        match result {
            Err(Halt::Stuck(Stuck::Livelock)) => vec![Violation::Livelock],
            Err(Halt::Stuck(Stuck::Bound)) => vec![Violation::Endless],
            Err(Halt::Stuck(Stuck::Deadlock)) => vec![Violation::Deadlock],
            Err(Halt::Machine(error)) => vec![Violation::Failed(error.to_string())],
            Ok(ended) => {
                let mut violations = Vec::new();
                if let Err(wrong) = &ended.product {
                    violations.push(Violation::Product(wrong.clone()));
                }
                if !self.ends_like_this(ended.status) {
                    violations.push(Violation::Status(ended.status));
                }
                violations
            }
        }
    }

    /// Returns whether some cell of the table expects this end.
    fn ends_like_this(&self, status: &str) -> bool {
        let own = self.job.expectations().iter().filter(|expectation| expectation.variant == self.variant);
        own.into_iter().any(|expectation| match expectation.ends {
            Ends::With(expected, _) => expected == status,
            Ends::OneOf(statuses) => statuses.contains(&status),
            Ends::Never | Ends::Deadlock => false,
        })
    }
}
