//! Running cells and judging them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use crate::callers::{Caller, Ended, Halt, Job, Mapped, Variant};
use crate::environment::{Environment, Feature};
use crate::expect::{DEADLOCK, Ends, Expectation, Moved, STILL_RETRYING};
use crate::log::{Log, Step, Stuck};
use crate::scenario::Scenario;
use crate::user::{HostUser, Memory, Object, Scale, SimUser, User};

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
            callers: crate::callers::all(),
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
        let expectation = expectation(self.caller.job?, Variant::Fixed, self.scenario)?;
        Some(self.in_short(expectation.ends))
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
        let bytes = match moved {
            Moved::All => self.object.len(),
            Moved::Nothing => 0,
            Moved::FirstPage => self.object.on_first_page,
            Moved::BeforeTail => self.object.before_tail,
            Moved::BeforeRestart => self.object.restart,
            Moved::Bytes(bytes) => bytes,
        };
        bytes.min(self.object.len())
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
    let expectation = caller.job.and_then(|job| expectation(job, variant, scenario));
    match (caller.job, expectation) {
        (Some(job), Some(expectation)) => judged(caller, job, expectation, memory, environment),
        (job, _) => {
            let outcome = if job.is_some() { Outcome::NotApplicable(scenario.is_not_for()) } else { Outcome::NotYet };
            let object = Object::new(Vec::new(), 0);
            Cell { caller: *caller, variant, memory, scenario, expectation, outcome, object }
        }
    }
}

/// Returns the expectation of a job.
pub fn expectation(job: &dyn Job, variant: Variant, scenario: Scenario) -> Option<Expectation> {
    let expectations = match scenario.is_of_mappings() {
        true => job.mapped()?.expectations(),
        false => job.expectations(),
    };
    expectations.iter().find(|e| e.variant == variant && e.scenario == scenario).copied()
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
    if let Some(mapped) = job.mapped().filter(|_| scenario.is_of_mappings()) {
        return with_mapping(caller, mapped, expectation, memory);
    }
    let missing = [job.needs(memory), scenario.needs(memory)].into_iter().flatten().find(|feature| !feature.present());
    let mut cell = Cell {
        caller: *caller,
        variant,
        memory,
        scenario,
        expectation: Some(expectation),
        outcome: Outcome::NotYet,
        object: job.object(memory, Scale::Full),
    };
    cell.outcome = match (missing, memory) {
        (Some(feature), _) => Outcome::Skipped { feature, allowed: environment.may_skip(feature) },
        (None, Memory::Host) => Outcome::Ran(cell.run::<HostUser>(job, expectation)),
        (None, Memory::Sim) => Outcome::Ran(cell.run::<SimUser>(job, expectation)),
    };
    cell
}

/// Runs a cell in which the buffer is a mapping of a file of the cache.
fn with_mapping(caller: &Caller, mapped: &Mapped, expectation: Expectation, memory: Memory) -> Cell {
    let (variant, scenario) = (expectation.variant, expectation.scenario);
    let job = mapped.simulated(scenario);
    let mut cell = Cell {
        caller: *caller,
        variant,
        memory,
        scenario,
        expectation: Some(expectation),
        outcome: Outcome::NotYet,
        object: job.object(memory, Scale::Full),
    };
    cell.outcome = match (Mapped::is_not_for(memory, scenario), memory, expectation.ends) {
        (Some(why), ..) => {
            cell.expectation = None;
            Outcome::NotApplicable(why)
        }
        (None, Memory::Host, Ends::OneOf(statuses)) => Outcome::Ran(often(statuses, |told| {
            mapped.on_host(variant, scenario, &mut |log, result| told(log, result))
        })),
        (None, Memory::Host, _) => {
            let mut ran = None;
            let done = mapped.on_host(variant, scenario, &mut |log, result| {
                ran = Some(cell.once(log, result));
                false
            });
            Outcome::Ran(match (ran, done) {
                (Some(ran), Ok(())) => ran,
                (_, error) => cell.broken(error.err().unwrap_or_else(|| io::Error::other("it did not run"))),
            })
        }
        (None, Memory::Sim, Ends::OneOf(statuses)) => Outcome::Ran(often(statuses, |told| {
            SimUser::beside_evictions(&cell.object, Scale::Full, |user| {
                let mut log = Log::of(user).beside_adversary();
                let result = job.on_sim(variant, user, &mut log);
                Ok(told(log, result))
            })
        })),
        (None, Memory::Sim, _) => match SimUser::new(&cell.object, scenario, Scale::Full) {
            Ok(user) => {
                let mut log = Log::of(&user);
                let result = job.on_sim(variant, &user, &mut log);
                Outcome::Ran(cell.once(log, result))
            }
            Err(error) => Outcome::Ran(cell.broken(error)),
        },
    };
    cell
}

/// A user for the jobs of a table.
trait Served: User {
    fn job(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt>;
}

impl Served for HostUser {
    fn job(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt> {
        job.on_host(variant, self, log)
    }
}

impl Served for SimUser {
    fn job(&self, job: &dyn Job, variant: Variant, log: &mut Log) -> Result<Ended, Halt> {
        job.on_sim(variant, self, log)
    }
}

impl Cell {
    fn run<U: Served>(&self, job: &dyn Job, expectation: Expectation) -> Ran {
        match expectation.ends {
            Ends::OneOf(statuses) => beside_adversary::<U>(job, self.variant, &self.object, statuses),
            _ => alone::<U>(job, self.variant, self.scenario, &self.object, |ran, halted| self.compare(ran, halted)),
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

    /// Returns the result of a run that could not begin.
    fn broken(&self, error: io::Error) -> Ran {
        let verdict = Err(error.to_string());
        Ran { actual: "error".into(), verdict, moved: 0, rounds: 0, runs: 0, steps: Vec::new() }
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

fn alone<U: Served>(
    job: &dyn Job,
    variant: Variant,
    scenario: Scenario,
    object: &Object,
    judge: impl FnOnce(&Ran, &Result<Ended, Halt>) -> Result<(), String>,
) -> Ran {
    let mut ran = Ran { actual: String::new(), verdict: Ok(()), moved: 0, rounds: 0, runs: 1, steps: Vec::new() };
    let result = U::new(object, scenario, Scale::Full).map_err(Halt::from).and_then(|user| {
        let mut log = Log::of(&user);
        if scenario == Scenario::Evicted {
            log = log.after_fault_in(|| user.evict());
        }
        if scenario == Scenario::OwnFolio {
            log = log.watching(|| 0, || user.waits());
        }
        let result = user.job(job, variant, &mut log);
        let held = still_held(&log);
        let deadlock = scenario == Scenario::OwnFolio && log.waited_under_lock();
        if deadlock {
            log.decide("(a fault was served while the lock was held that it wants)");
        }
        ran.rounds = log.rounds();
        ran.steps = log.into_steps();
        if deadlock { Err(Halt::Stuck(Stuck::Deadlock)) } else { held.and(result) }
    });
    ran.actual = in_short(&result, object.len());
    ran.moved = result.as_ref().map_or(0, |end| end.moved);
    ran.verdict = judge(&ran, &result);
    ran
}

/// Returns an error if a lock is still held.
fn still_held(log: &Log) -> Result<(), Halt> {
    match log.held() {
        [] => Ok(()),
        locks => Err(Halt::Machine(io::Error::other(format!("still holds {}", locks.join(", "))))),
    }
}

/// Makes many runs on memory that another thread unmaps and remaps: each has to end in one of the allowed ways, with a
/// right product.
fn beside_adversary<U: Served>(job: &dyn Job, variant: Variant, object: &Object, allowed: &[&'static str]) -> Ran {
    often(allowed, |told| {
        U::beside_adversary(object, Scale::Full, |user| {
            let mut log = Log::of(user).beside_adversary();
            let result = user.job(job, variant, &mut log);
            Ok(told(log, result))
        })
    })
}

/// Makes many runs; `told` gets each of them, and returns whether to continue. Each has to end in one of the allowed ways,
/// with a right product.
fn often(
    allowed: &[&'static str],
    runs: impl FnOnce(&mut dyn FnMut(Log<'_>, Result<Ended, Halt>) -> bool) -> io::Result<()>,
) -> Ran {
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
