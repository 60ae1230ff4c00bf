//! Whether the audit would notice: every caller whose loop is changed turns a cell red.

mod copy_fpstate_to_sigframe;
mod copy_page;
mod kvm_use_magic_page;
mod pwrite;
mod restore_fpregs_from_user;
mod search_ioctl;
mod swapcontext;

use faultin_audit::callers::{self, Caller, Code, Ended, Halt, Mapped};
use faultin_audit::environment::Environment;
use faultin_audit::expect::Expectation;
use faultin_audit::log::Log;
use faultin_audit::user::{Object, Registers, Scale, User};
use faultin_audit::{Cell, Memory, Scenario, Variant, run};

/// Replaced code of a caller; the object and the expectations are the caller's.
pub trait Mutation: Sync {
    /// The type of the caller.
    type Of: Code;
    /// The caller.
    const OF: Self::Of;

    /// The replacement of [`Code::run`].
    fn code<U: User>(user: &U, log: &mut Log) -> Result<Ended, Halt>;
}

struct Mutant<M>(M);

impl<M: Mutation> Code for Mutant<M> {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        M::OF.object::<R>(scale)
    }

    fn run<U: User>(&self, _: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        M::code(user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        Code::origin(&M::OF, variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        Code::expectations(&M::OF)
    }

    fn needs(&self) -> Option<faultin_audit::environment::Feature> {
        Code::needs(&M::OF)
    }
}

/// The code of one mutation of a caller: `mutation!(Name of CALLER, |user, log| { … })`.
#[macro_export]
macro_rules! mutation {
    ($name:ident of $of:ident, |$user:ident, $log:ident| $code:block) => {
        struct $name;

        impl $crate::Mutation for $name {
            type Of = faultin_audit::callers::$of;
            const OF: Self::Of = faultin_audit::callers::$of;

            fn code<U: faultin_audit::user::User>(
                $user: &U,
                $log: &mut faultin_audit::log::Log,
            ) -> Result<faultin_audit::callers::Ended, faultin_audit::callers::Halt> $code
        }
    };
}

/// Runs the cells of the fixed variant of row `row` with this code: a column of them on each memory.
pub fn mutated<M: Mutation>(row: u8, mutation: M) -> Vec<Cell> {
    let (caller, environment) = (row_of(row), Environment::probe());
    let mutant = Mutant(mutation);
    let fixed = Code::expectations(&M::OF).iter().filter(|expectation| expectation.variant == Variant::Fixed);
    Memory::ALL
        .into_iter()
        .flat_map(|memory| {
            fixed.clone().map(|e| run::judged(&caller, &mutant, *e, memory, &environment)).collect::<Vec<_>>()
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
            let of_mappings = job.mapped().map(|mapped| mapped.expectations()).unwrap_or_default();
            let of = move |v: Variant| job.expectations().iter().chain(of_mappings).filter(move |e| e.variant == v);
            of(variant)
                .flat_map(move |own| of(other(variant)).filter(|e| e.scenario == own.scenario).map(move |e| (own, e)))
        };
        for variant in Variant::ALL {
            for (own, others) in pairs(variant).filter(|(own, others)| differ(own, others)) {
                if own.scenario == Scenario::Remapping || Mapped::is_not_for(Memory::Sim, own.scenario).is_some() {
                    continue; // races: what must hold of one may happen to hold of the other
                }
                let swapped = Expectation { variant, ..*others };
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
