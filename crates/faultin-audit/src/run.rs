//! Running cells and judging them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use crate::axes::{Feature, Memory, Variant};
use crate::caller::{Caller, Each, Ended, Halt, Job};
use crate::callers;
use crate::environment::Environment;
use crate::expect::{self, DEADLOCK, Ends, Expectation, Moved, STILL_RETRYING};
use crate::log::{Log, Step, Stuck};
use crate::scenario::{Buffer, During, Scenario};
use crate::user::{HostUser, Object, Scale, SimUser, User};

/// The cells to run.
#[derive(Clone)]
pub struct Selection {
    /// The rows.
    pub callers: Vec<Caller>,
    /// The columns.
    pub scenarios: Vec<Scenario>,
    /// The variants.
    pub variants: Vec<Variant>,
    /// The memories.
    pub memories: Vec<Memory>,
}

impl Selection {
    /// Selects every cell.
    pub fn everything() -> Selection {
        Selection {
            callers: callers::all(),
            scenarios: Scenario::ALL.into(),
            variants: Variant::ALL.into(),
            memories: Memory::ALL.into(),
        }
    }
}

/// One caller in one variant in one scenario on one memory, and its result.
#[derive(Clone)]
pub struct Cell {
    /// The row.
    pub caller: Caller,
    /// The variant.
    pub variant: Variant,
    /// The memory.
    pub memory: Memory,
    /// The column.
    pub scenario: Scenario,
    /// How it must end. `None` for rows that do not run yet.
    pub expectation: Option<Expectation>,
    /// The result.
    pub outcome: Outcome,
    object: Object,
}

/// The result of a cell.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It ran.
    Ran(Ran),
    /// It needs this feature, which is missing.
    Skipped {
        /// The feature.
        feature: Feature,
        /// Whether it may be missing here.
        allowed: bool,
    },
    /// It is not written yet.
    NotYet,
    /// The scenario does not exist for the caller, or on this memory, for this reason.
    NotApplicable(&'static str),
}

/// A cell that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The end, in short.
    pub actual: String,
    /// Whether that is as expected; if not, the reason.
    pub verdict: Result<(), String>,
    /// Number of bytes it moved: in all runs together, where there were several.
    pub moved: usize,
    /// Number of attempts it took: the most of one run, where there were several.
    pub rounds: u32,
    /// Number of runs: one, but many with a concurrent adversary.
    pub runs: u32,
    /// The steps of the last run.
    pub steps: Vec<Step>,
}

/// Every cell of a selection.
#[derive(Clone)]
pub struct Report {
    /// The machine.
    pub environment: Environment,
    /// The cells: by row, then by variant, then by memory, then by column.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// Returns the result in short: the end, `not yet`, or `skipped: …`.
    pub fn actual(&self) -> String {
        match &self.outcome {
            Outcome::Ran(ran) => ran.actual.clone(),
            Outcome::Skipped { feature, .. } => format!("skipped: {feature}"),
            Outcome::NotYet => "not yet".into(),
            Outcome::NotApplicable(_) => "–".into(),
        }
    }

    /// Returns how it must end, in short.
    pub fn expected(&self) -> Option<String> {
        self.expectation.map(|expectation| self.in_short(expectation.ends))
    }

    /// Returns how the fixed code of this caller must end on the same memory, in short.
    pub fn expected_of_fixed(&self) -> Option<String> {
        Some(self.in_short(self.caller.expectation(Variant::Fixed, self.scenario)?.ends))
    }

    /// Returns whether it is as expected; `None` if it did not run and did not have to.
    pub fn ok(&self) -> Option<bool> {
        match &self.outcome {
            Outcome::Ran(ran) => Some(ran.verdict.is_ok()),
            Outcome::Skipped { allowed: false, .. } => Some(false),
            Outcome::Skipped { allowed: true, .. } | Outcome::NotYet | Outcome::NotApplicable(_) => None,
        }
    }

    fn in_short(&self, ends: Ends) -> String {
        match ends {
            Ends::With(status, moved) => ended(status, self.bytes(moved), self.object.len()),
            Ends::Never => ENDLESS.into(),
            Ends::Deadlock => DEADLOCK.into(),
            Ends::OneOf(statuses) => format!("holds: {}", statuses.join(" or ")),
        }
    }

    fn bytes(&self, moved: Moved) -> usize {
        moved.bytes(&self.object, expect::accessible(self.scenario, &self.object, self.caller.stores))
    }
}

impl Report {
    /// Returns whether every cell that ran is as expected, and every skip is allowed here.
    pub fn is_ok(&self) -> bool {
        self.cells.iter().all(|cell| cell.ok() != Some(false))
    }
}

/// Runs a selection on this machine.
pub fn report(selection: &Selection) -> Report {
    let environment = Environment::probe();
    let mut cells = Vec::new();
    for caller in &selection.callers {
        for &variant in &selection.variants {
            for &memory in &selection.memories {
                for &scenario in &selection.scenarios {
                    cells.push(cell(caller, variant, memory, scenario, &environment));
                }
            }
        }
    }
    Report { environment, cells }
}

/// Runs one cell against its caller's own expectation.
pub fn cell(caller: &Caller, variant: Variant, memory: Memory, scenario: Scenario, environment: &Environment) -> Cell {
    let without =
        |outcome, object| Cell { caller: *caller, variant, memory, scenario, expectation: None, outcome, object };
    let none = Object::new(Vec::new(), 0);
    let Some(job) = caller.job else { return without(Outcome::NotYet, none) };
    match (caller.expectation(variant, scenario), scenario.is_not_on(memory)) {
        (None, _) => without(Outcome::NotApplicable(scenario.is_not_for()), none),
        (_, Some(why)) => without(Outcome::NotApplicable(why), job.object(memory, Scale::Full)),
        (Some(expectation), None) => judged(caller, job, expectation, memory, environment),
    }
}

/// Runs the cell of `expectation`, with `job`, and judges it.
pub fn judged(
    caller: &Caller,
    job: &dyn Job,
    expectation: Expectation,
    memory: Memory,
    environment: &Environment,
) -> Cell {
    let (variant, scenario) = (expectation.variant, expectation.scenario);
    let mapped = caller.mapped.filter(|_| scenario.is_of_mappings());
    let job = mapped.map_or(job, |mapped| mapped.simulated(scenario));
    let needs = caller.needs.filter(|_| memory == Memory::Host);
    let missing = [needs, scenario.needs(memory)].into_iter().flatten().find(|feature| !feature.present());
    let object = job.object(memory, Scale::Full);
    let (expectation, outcome) = (Some(expectation), Outcome::NotYet);
    let mut cell = Cell { caller: *caller, variant, memory, scenario, expectation, outcome, object };
    cell.outcome = match missing {
        Some(feature) => Outcome::Skipped { feature, allowed: environment.may_skip(feature) },
        None => Outcome::Ran(cell.run(|each| match (memory, mapped) {
            (Memory::Host, Some(mapped)) => (mapped.on_host)(variant, scenario, each),
            (Memory::Host, None) => runs::<HostUser>(job, &cell, each),
            (Memory::Sim, _) => runs::<SimUser>(job, &cell, each),
        })),
    };
    cell
}

/// A user for the jobs of a table.
trait Runs: User {
    fn run(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt>;
}

impl Runs for HostUser {
    fn run(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt> {
        job.on_host(variant, self, log)
    }
}

impl Runs for SimUser {
    fn run(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt> {
        job.on_sim(variant, self, log)
    }
}

/// Runs a job in the scenario of a cell: once, or, beside an adversary, often.
fn runs<U: Runs>(job: &dyn Job, cell: &Cell, each: &mut Each<'_>) -> io::Result<()> {
    let (scenario, column) = (cell.scenario, cell.scenario.column());
    if column.during.is_race() {
        return U::beside_adversary(&cell.object, scenario, Scale::Full, |user| {
            let mut log = Log::of(user).beside_adversary();
            let result = user.run(job, cell.variant, &mut log);
            Ok(each(log, result))
        });
    }
    let user = U::new(&cell.object, scenario, Scale::Full)?;
    let mut log = Log::of(&user);
    if column.during == During::EvictedOnce {
        log = log.after_fault_in(|| user.evict());
    }
    let own_folio = column.buffer == Buffer::OwnFolio;
    if own_folio {
        log = log.watching(|| 0, || user.waits());
    }
    let mut result = user.run(job, cell.variant, &mut log);
    if own_folio && log.waited_under_lock() {
        log.decide("(a fault was served while the lock was held that it wants)");
        result = Err(Halt::Stuck(Stuck::Deadlock));
    }
    each(log, result);
    Ok(())
}

impl Cell {
    fn run(&self, runs: impl FnOnce(&mut Each<'_>) -> io::Result<()>) -> Ran {
        if let Some(Expectation { ends: Ends::OneOf(statuses), .. }) = self.expectation {
            return often(statuses, runs);
        }
        let mut ran = None;
        let done = runs(&mut |log, result| {
            ran = Some(self.once(log, result));
            false
        });
        match (ran, done) {
            (Some(ran), Ok(())) => ran,
            (_, error) => {
                let verdict = Err(error.err().map_or_else(|| "it did not run".into(), |error| error.to_string()));
                Ran { actual: "error".into(), verdict, moved: 0, rounds: 0, runs: 0, steps: Vec::new() }
            }
        }
    }

    /// Checks that this is the expected end, after the expected number of attempts: a caller that ends after more has
    /// waited for nothing.
    fn compare(&self, ran: &Ran, halted: &Result<Ended, Halt>) -> Result<(), String> {
        let expectation = self.expectation.ok_or("nothing is expected")?;
        match (halted, expectation.ends) {
            (Err(Halt::Machine(error)), _) => Err(error.to_string()),
            (Ok(Ended { product: Err(wrong), .. }), _) => Err(wrong.clone()),
            (Err(Halt::Stuck(Stuck::Livelock)), Ends::Never) => Ok(()),
            (Err(Halt::Stuck(Stuck::Deadlock)), Ends::Deadlock) => Ok(()),
            (Ok(end), Ends::With(status, moved)) if end.status == status && end.moved == self.bytes(moved) => {
                self.compare_attempts(ran.rounds, expectation.attempts)
            }
            _ => Err(format!("{} bytes moved; expected {}", ran.moved, self.expected().unwrap_or_default())),
        }
    }

    /// Returns the result of one run.
    fn once(&self, log: Log<'_>, result: Result<Ended, Halt>) -> Ran {
        let result = still_held(&log).and(result);
        let mut ran = Ran {
            actual: in_short(&result, self.object.len()),
            verdict: Ok(()),
            moved: result.as_ref().map_or(0, |end| end.moved),
            rounds: log.rounds(),
            runs: 1,
            steps: log.into_steps(),
        };
        ran.verdict = self.compare(&ran, &result);
        ran
    }

    fn compare_attempts(&self, took: u32, expected: u32) -> Result<(), String> {
        let kernel_serves = self.memory == Memory::Host && !Feature::Paging.present();
        if took == expected || (kernel_serves && took < expected) {
            Ok(())
        } else {
            Err(format!("{took} attempts where {expected} tell everything"))
        }
    }
}

const ENDLESS: &str = "∞";

/// Returns an end in short: the status, and the count where it is neither nothing nor all.
fn ended(status: &str, moved: usize, of: usize) -> String {
    if moved == 0 || moved == of { status.into() } else { format!("{status}, {moved}") }
}

fn in_short(result: &Result<Ended, Halt>, of: usize) -> String {
    match result {
        Ok(end) => ended(end.status, end.moved, of),
        Err(Halt::Stuck(Stuck::Livelock)) => ENDLESS.into(),
        Err(Halt::Stuck(Stuck::Bound)) => STILL_RETRYING.into(),
        Err(Halt::Stuck(Stuck::Deadlock)) => DEADLOCK.into(),
        Err(Halt::Machine(_)) => "error".into(),
    }
}

/// Returns an error if a lock is still held.
fn still_held(log: &Log) -> Result<(), Halt> {
    match log.held() {
        [] => Ok(()),
        locks => Err(Halt::Machine(io::Error::other(format!("still holds {}", locks.join(", "))))),
    }
}

/// Makes many runs. Each has to end in one of the allowed ways, with a right product.
fn often(allowed: &[&'static str], runs: impl FnOnce(&mut Each<'_>) -> io::Result<()>) -> Ran {
    let mut ran = Ran { actual: String::new(), verdict: Ok(()), moved: 0, rounds: 0, runs: 0, steps: Vec::new() };
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    let done = runs(&mut |log, result| {
        let result = still_held(&log).and(result);
        let status = match &result {
            Ok(end) => end.status,
            Err(Halt::Stuck(Stuck::Deadlock)) => DEADLOCK,
            Err(Halt::Stuck(_)) => STILL_RETRYING,
            Err(Halt::Machine(_)) => "error",
        };
        ran.runs += 1;
        ran.moved += result.as_ref().map_or(0, |end| end.moved);
        ran.rounds = ran.rounds.max(log.rounds());
        ran.steps = log.into_steps();
        *ends.entry(status.into()).or_default() += 1;
        ran.verdict = match result {
            Err(Halt::Machine(error)) => Err(error.to_string()),
            Ok(Ended { product: Err(wrong), .. }) => Err(wrong),
            _ if !allowed.contains(&status) => Err(format!("expected {}", allowed.join(" or "))),
            _ => return true,
        };
        false
    });
    if let Err(error) = done {
        ran.verdict = Err(error.to_string());
    }
    let tally: Vec<String> = ends.iter().map(|(status, times)| format!("{status} ×{times}")).collect();
    ran.actual = format!("{}: {}", if ran.verdict.is_ok() { "holds" } else { "broken" }, tally.join(", "));
    ran
}
