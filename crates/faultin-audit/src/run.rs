//! Executing cells and judging them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::callers::{Caller, Ended, Halt, Job, Variant};
use crate::environment::{Environment, Feature};
use crate::expect::{Ends, Expectation, Moved, STILL_RETRYING};
use crate::log::{Log, Step, Stuck};
use crate::memory::{Object, UserMemory};
use crate::scenario::Scenario;

/// The memory that cells run on: this process'.
pub const MEMORY: &str = "host";

/// A caller runs beside the adversary until that has taken and given back so many pages,
const CYCLES: u64 = 64;
/// at least so often,
const RUNS: u32 = 64;
/// and at most so often.
const MOST_RUNS: u32 = 5000;

/// Which cells to run.
#[derive(Clone)]
pub struct Selection {
    /// These rows
    pub callers: Vec<Caller>,
    /// in these columns
    pub scenarios: Vec<Scenario>,
    /// in these variants.
    pub variants: Vec<Variant>,
}

impl Selection {
    /// Every cell there is.
    pub fn everything() -> Selection {
        Selection { callers: crate::callers::all(), scenarios: Scenario::ALL.into(), variants: Variant::ALL.into() }
    }
}

/// One caller in one variant in one scenario, and what came of it.
#[derive(Clone)]
pub struct Cell {
    /// The row.
    pub caller: Caller,
    /// The variant.
    pub variant: Variant,
    /// The column.
    pub scenario: Scenario,
    /// How it must end. Nobody has said yet for rows that do not run.
    pub expectation: Option<Expectation>,
    /// What came of it.
    pub outcome: Outcome,
    object: usize,
    on_first_page: usize,
}

/// What came of a cell.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It ran.
    Ran(Ran),
    /// It needs this, which is not here.
    Skipped {
        /// What it needs.
        feature: Feature,
        /// Whether that may be missing here.
        allowed: bool,
    },
    /// Nobody has written it.
    NotYet,
}

/// A cell that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// How it ended, in short.
    pub actual: String,
    /// Whether that is as expected; if not, why.
    pub verdict: Result<(), String>,
    /// Bytes it moved: in all runs together, where there were several.
    pub moved: usize,
    /// Attempts it took: the most of one run, where there were several.
    pub rounds: u32,
    /// How often it ran: once, but often beside an adversary.
    pub runs: u32,
    /// Its steps, of the last run.
    pub steps: Vec<Step>,
}

/// Every cell of a selection.
#[derive(Clone)]
pub struct Report {
    /// The machine.
    pub environment: Environment,
    /// The cells: by row, then by variant, then by column.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// What came of it, in short: how it ended, `not yet`, or `skipped: …`.
    pub fn actual(&self) -> String {
        match &self.outcome {
            Outcome::Ran(ran) => ran.actual.clone(),
            Outcome::Skipped { feature, .. } => format!("skipped: {feature}"),
            Outcome::NotYet => "not yet".into(),
        }
    }

    /// How it must end, in short.
    pub fn expected(&self) -> Option<String> {
        self.expectation.map(|expectation| match expectation.ends {
            Ends::With(status, moved) => ended(status, self.bytes(moved), self.object),
            Ends::Never => ENDLESS.into(),
            Ends::OneOf(statuses) => format!("holds: {}", statuses.join(" or ")),
        })
    }

    /// Whether it is as expected; `None` if it did not run and need not have.
    pub fn ok(&self) -> Option<bool> {
        match &self.outcome {
            Outcome::Ran(ran) => Some(ran.verdict.is_ok()),
            Outcome::Skipped { allowed: false, .. } => Some(false),
            Outcome::Skipped { allowed: true, .. } | Outcome::NotYet => None,
        }
    }

    fn bytes(&self, moved: Moved) -> usize {
        match moved {
            Moved::All => self.object,
            Moved::Nothing => 0,
            Moved::FirstPage => self.on_first_page.min(self.object),
        }
    }
}

impl Report {
    /// Whether every cell that ran is as expected, and every skip is allowed here.
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
            for &scenario in &selection.scenarios {
                cells.push(cell(caller, variant, scenario, &environment));
            }
        }
    }
    Report { environment, cells }
}

/// Runs one cell against its caller's own expectation.
pub fn cell(caller: &Caller, variant: Variant, scenario: Scenario, environment: &Environment) -> Cell {
    let expectation = caller.job.and_then(|job| expectation(job, variant, scenario));
    match (caller.job, expectation) {
        (Some(job), Some(expectation)) => judged(caller, job, expectation, environment),
        _ => {
            let outcome = Outcome::NotYet;
            Cell { caller: *caller, variant, scenario, expectation, outcome, object: 0, on_first_page: 0 }
        }
    }
}

/// What a job is expected to do.
pub fn expectation(job: &dyn Job, variant: Variant, scenario: Scenario) -> Option<Expectation> {
    job.expectations().iter().find(|e| e.variant == variant && e.scenario == scenario).copied()
}

/// Runs the cell that `expectation` is about, with `job`, and judges it.
pub fn judged(caller: &Caller, job: &dyn Job, expectation: Expectation, environment: &Environment) -> Cell {
    let (variant, scenario) = (expectation.variant, expectation.scenario);
    let missing = [job.needs(), (scenario == Scenario::Poisoned).then_some(Feature::Poison)]
        .into_iter()
        .flatten()
        .find(|feature| !feature.present());
    let mut cell = Cell {
        caller: *caller,
        variant,
        scenario,
        expectation: Some(expectation),
        outcome: Outcome::NotYet,
        object: 0,
        on_first_page: 0,
    };
    cell.outcome = match missing {
        Some(feature) => Outcome::Skipped { feature, allowed: environment.may_skip(feature) },
        None => {
            let object = job.object();
            (cell.object, cell.on_first_page) = (object.bytes.len(), object.on_first_page);
            Outcome::Ran(match expectation.ends {
                Ends::OneOf(statuses) => beside_adversary(job, variant, scenario, &object, statuses),
                _ => alone(job, variant, scenario, &object, |ran, halted| cell.compare(ran, halted)),
            })
        }
    };
    cell
}

impl Cell {
    /// Whether this is the expected end. On memory that nobody changes one attempt tells everything: a caller that ends
    /// after more has waited for nothing.
    fn compare(&self, ran: &Ran, halted: &Result<Ended, Halt>) -> Result<(), String> {
        let ends = self.expectation.map(|expectation| expectation.ends);
        match (halted, ends) {
            (Err(Halt::Machine(error)), _) => Err(error.to_string()),
            (Ok(Ended { product: Err(wrong), .. }), _) => Err(wrong.clone()),
            (Err(Halt::Stuck(Stuck::Livelock)), Some(Ends::Never)) => Ok(()),
            (Ok(end), Some(Ends::With(status, moved))) if end.status == status && end.moved == self.bytes(moved) => {
                if ran.rounds == 1 {
                    Ok(())
                } else {
                    Err(format!("{} attempts where one tells everything", ran.rounds))
                }
            }
            _ => Err(format!("{} bytes moved; expected {}", ran.moved, self.expected().unwrap_or_default())),
        }
    }
}

const ENDLESS: &str = "∞";

/// An end in short: the status, and the count where it is neither nothing nor all.
fn ended(status: &str, moved: usize, of: usize) -> String {
    if moved == 0 || moved == of { status.into() } else { format!("{status}, {moved}") }
}

fn in_short(result: &Result<Ended, Halt>, of: usize) -> String {
    match result {
        Ok(end) => ended(end.status, end.moved, of),
        Err(Halt::Stuck(Stuck::Livelock)) => ENDLESS.into(),
        Err(Halt::Stuck(Stuck::Bound)) => STILL_RETRYING.into(),
        Err(Halt::Machine(_)) => "error".into(),
    }
}

fn alone(
    job: &dyn Job,
    variant: Variant,
    scenario: Scenario,
    object: &Object,
    judge: impl FnOnce(&Ran, &Result<Ended, Halt>) -> Result<(), String>,
) -> Ran {
    let (result, log) = once(job, variant, scenario, object);
    let mut ran = Ran {
        actual: in_short(&result, object.bytes.len()),
        verdict: Ok(()),
        moved: result.as_ref().map_or(0, |end| end.moved),
        rounds: log.as_ref().map_or(0, Log::rounds),
        runs: 1,
        steps: log.map_or_else(Vec::new, Log::into_steps),
    };
    ran.verdict = judge(&ran, &result);
    ran
}

fn once(job: &dyn Job, variant: Variant, scenario: Scenario, object: &Object) -> (Result<Ended, Halt>, Option<Log>) {
    let made = UserMemory::new(object, scenario).and_then(|memory| {
        let base = memory.source()?.as_ptr().addr();
        Ok((memory, base))
    });
    match made {
        Ok((memory, base)) => {
            let mut log = Log::new(base, false);
            (job.run(variant, &memory, &mut log), Some(log))
        }
        Err(error) => (Err(error.into()), None),
    }
}

/// Many runs on memory that another thread unmaps and remaps: each has to end in one of the ways allowed, with a right
/// product.
fn beside_adversary(
    job: &dyn Job,
    variant: Variant,
    scenario: Scenario,
    object: &Object,
    allowed: &[&'static str],
) -> Ran {
    let mut ran = Ran { actual: String::new(), verdict: Ok(()), moved: 0, rounds: 0, runs: 0, steps: Vec::new() };
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    let mut runs = |cycles: &AtomicU64, memory: &UserMemory| -> std::io::Result<()> {
        let base = memory.source()?.as_ptr().addr();
        while (cycles.load(Ordering::Relaxed) < CYCLES || ran.runs < RUNS) && ran.runs < MOST_RUNS {
            memory.refill(object)?;
            let mut log = Log::new(base, true);
            let result = job.run(variant, memory, &mut log);
            let status = match &result {
                Ok(end) => end.status,
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
                _ => continue,
            };
            return Ok(());
        }
        Ok(())
    };
    let done = UserMemory::new(object, scenario)
        .and_then(|memory| memory.while_remapped(|cycles| runs(cycles, &memory)).and_then(|done| done));
    if let Err(error) = done {
        ran.verdict = Err(error.to_string());
    }
    let tally: Vec<String> = ends.iter().map(|(status, times)| format!("{status} ×{times}")).collect();
    ran.actual = format!("{}: {}", if ran.verdict.is_ok() { "holds" } else { "broken" }, tally.join(", "));
    ran
}
