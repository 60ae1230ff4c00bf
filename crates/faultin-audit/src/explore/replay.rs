//! One run of a caller by a script, and its violations.

#![forbid(unsafe_code)]

use faultin_sim::{Action, Moment};

use super::violation::{Kind, Violation};
use crate::axes::Variant;
use crate::bug::Bug;
use crate::caller::{Caller, Ended, Halt, Job};
use crate::expect::Ends;
use crate::log::{Log, Step, Stuck};
use crate::scenario::Scenario;
use crate::user::{Object, Scale, SimUser, User};

/// A caller to be run repeatedly.
pub(super) struct Replay<'a> {
    job: &'a dyn Job,
    variant: Variant,
    object: &'a Object,
    bug: Option<Bug>,
    stores: bool,
    /// The statuses with which some cell of the table expects it to end.
    statuses: Vec<&'static str>,
}

/// The result of a run.
pub(super) struct Run {
    pub(super) violations: Vec<Violation>,
    pub(super) moments: Vec<Moment>,
    pub(super) steps: u64,
    pub(super) log: Vec<Step>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        caller: &Caller,
        job: &'a dyn Job,
        variant: Variant,
        object: &'a Object,
        bug: Option<Bug>,
    ) -> Replay<'a> {
        let statuses = caller.expectations(variant).flat_map(|expectation| match expectation.ends {
            Ends::With(expected, _) => vec![expected],
            Ends::OneOf(statuses) => statuses.into(),
            Ends::Never | Ends::Deadlock => Vec::new(),
        });
        Replay { job, variant, object, bug, stores: caller.stores, statuses: statuses.collect() }
    }

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
            || (!self.stores && sim.state().bytes() != before.bytes())
        {
            violations.push(Violation::new(Kind::Changed, "memory changed that was not to be"));
        }
        if let Some(lock) = log.held().first() {
            violations.push(Violation::new(Kind::StillHeld, format!("{lock} was still locked at the end")));
        }
        if log.waited_under_lock() {
            violations.push(Violation::new(Kind::WaitedUnderLock, "waited for a page while a lock was held"));
        }
        // One attempt; and some for pages that were not resident at the beginning, and for each action of the adversary.
        let events = 1 + script.len() - faults;
        let (rounds, justified) = (log.rounds(), 1 + events * self.job.attempts_per_event());
        if result.is_ok() && rounds as usize > justified {
            let words = format!("{rounds} attempts where {justified} were justified");
            violations.push(Violation::new(Kind::Wasted, words));
        }
        let steps = sim.steps();
        let log = log.into_steps();
        Run { violations, moments: sim.take_moments(), steps, log }
    }

    fn judge(&self, result: &Result<Ended, Halt>) -> Vec<Violation> {
        match result {
            Err(Halt::Stuck(Stuck::Livelock)) => {
                vec![Violation::new(Kind::Livelock, "∞: a state was repeated with nothing happening between")]
            }
            Err(Halt::Stuck(Stuck::Bound)) => {
                vec![Violation::new(Kind::Endless, "still retrying after very many attempts")]
            }
            Err(Halt::Stuck(Stuck::Deadlock)) => {
                vec![Violation::new(Kind::Deadlock, "waited for a lock that it held")]
            }
            Err(Halt::Machine(error)) => vec![Violation::new(Kind::Failed, error.to_string())],
            Ok(ended) => {
                let mut violations = Vec::new();
                if let Err(wrong) = &ended.product {
                    violations.push(Violation::new(Kind::Product, format!("a wrong product: {wrong}")));
                }
                if !self.statuses.contains(&ended.status) {
                    let words = format!("ended with {:?}, which nobody expects", ended.status);
                    violations.push(Violation::new(Kind::Status, words));
                }
                violations
            }
        }
    }
}
