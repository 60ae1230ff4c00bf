//! Whether the audit would notice: every caller whose loop is changed turns a cell red.

mod copy_fpstate_to_sigframe;
mod copy_page;
mod kvm_use_magic_page;
mod pwrite;
mod restore_fpregs_from_user;
mod search_ioctl;
mod swapcontext;

use faultin_audit::caller::{Caller, Ended, Halt, Job};
use faultin_audit::callers;
use faultin_audit::environment::Environment;
use faultin_audit::expect::Expectation;
use faultin_audit::log::Log;
use faultin_audit::user::{HostUser, Object, Scale, SimUser, User};
use faultin_audit::{Cell, Memory, Scenario, Variant, run};

/// Replaced code of a caller; the object and the expectations are the caller's.
pub trait Mutation: Sync {
    /// The replacement of its code.
    fn code<U: User>(user: &U, log: &mut Log) -> Result<Ended, Halt>;
}

struct Mutant<M> {
    of: &'static dyn Job,
    _code: M,
}

impl<M: Mutation> Job for Mutant<M> {
    fn object(&self, memory: Memory, scale: Scale) -> Object {
        self.of.object(memory, scale)
    }

    fn on_host(&self, _: Variant, user: &HostUser, log: &mut Log) -> Result<Ended, Halt> {
        M::code(user, log)
    }

    fn on_sim(&self, _: Variant, user: &SimUser, log: &mut Log) -> Result<Ended, Halt> {
        M::code(user, log)
    }

    fn attempts_per_event(&self) -> usize {
        self.of.attempts_per_event()
    }
}

/// The code of one mutation of a caller: `mutation!(Name, |user, log| { … })`.
#[macro_export]
macro_rules! mutation {
    ($name:ident, |$user:ident, $log:ident| $code:block) => {
        struct $name;

        impl $crate::Mutation for $name {
            fn code<U: faultin_audit::user::User>(
                $user: &U,
                $log: &mut faultin_audit::log::Log,
            ) -> Result<faultin_audit::caller::Ended, faultin_audit::caller::Halt> $code
        }
    };
}

/// Runs the cells of the fixed variant of row `row` with this code: a column of them on each memory.
pub fn mutated<M: Mutation>(row: u8, mutation: M) -> Vec<Cell> {
    let (caller, environment) = (row_of(row), Environment::probe());
    let mutant = Mutant { of: caller.job.expect("a row that runs"), _code: mutation };
    Memory::ALL
        .into_iter()
        .flat_map(|memory| {
            let fixed = caller.expectations(Variant::Fixed);
            fixed.map(|e| run::judged(&caller, &mutant, e, memory, &environment)).collect::<Vec<_>>()
        })
        .collect()
}

fn row_of(row: u8) -> Caller {
    callers::named(&row.to_string())[0]
}

/// Returns the columns in which something is wrong on this memory.
pub fn red_on(memory: Memory, cells: &[Cell]) -> Vec<Scenario> {
    let red = cells.iter().filter(|cell| cell.memory == memory && cell.ok() == Some(false));
    red.map(|cell| cell.scenario).collect()
}

/// Fails unless each of these columns is red on simulated memory, and on the host wherever it ran there.
#[track_caller]
pub fn assert_red(cells: &[Cell], scenarios: &[Scenario]) {
    for scenario in scenarios {
        for cell in cells.iter().filter(|cell| cell.scenario == *scenario) {
            let excused = cell.memory == Memory::Host && cell.ok().is_none();
            assert!(excused || cell.ok() == Some(false), "{scenario:?} on {}: {}", cell.memory.name(), cell.actual());
        }
    }
}

/// Returns an end with a right product.
pub fn ended(status: &'static str, moved: usize) -> Result<Ended, Halt> {
    Ok(Ended { status, moved, product: Ok(()) })
}

#[test]
fn each_variant_against_the_other_ones_expectations_turns_red() {
    let environment = Environment::probe();
    for caller in callers::all().iter().filter(|caller| caller.job.is_some()) {
        let job = caller.job.unwrap();
        let differ = |a: &Expectation, b: &Expectation| a.ends != b.ends || a.attempts != b.attempts;
        let pairs = |variant: Variant| {
            let others = move |scenario| caller.expectation(other(variant), scenario);
            caller.expectations(variant).filter_map(move |own| Some((own, others(own.scenario)?)))
        };
        for variant in Variant::ALL {
            for (own, others) in pairs(variant).filter(|(own, others)| differ(own, others)) {
                if own.scenario == Scenario::Remapping || own.scenario.is_not_on(Memory::Sim).is_some() {
                    continue; // races: what must hold of one may happen to hold of the other
                }
                let swapped = Expectation { variant, ..others };
                let judged = run::judged(caller, job, swapped, Memory::Sim, &environment);
                assert_eq!(judged.ok(), Some(false), "{} {} {:?}", caller.name, variant.name(), own.scenario);
            }
        }
    }
}

fn other(variant: Variant) -> Variant {
    match variant {
        Variant::AsFound => Variant::Fixed,
        Variant::Fixed => Variant::AsFound,
    }
}
