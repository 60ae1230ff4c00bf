//! The protocol of the pager, explored: its own code runs on a [simulated](table) page table, and between any two of its
//! steps other threads act ([`Action`]): users load and store, folios are evicted, written back, the store fails, the
//! kernel drops entries.
//!
//! A state is reached by repeating all operations from the beginning, and is identified by a hash of everything that its
//! future depends on ([`World::state`]). From each state every operation is tried with every script of actions, up to a
//! maximum length; the exploration continues from the resulting states, up to a maximum number of operations. In each new
//! state everything is checked in all ways, without other threads.
//!
//! A thread that would wait for a lock is not queued: that is the same as arriving when it is free. Faults are resolved by
//! an ordinary function, and in some configurations as by the signal handler, which hands over what it cannot do.
//!
//! A finding is a value that no order of the events explains ([`model`]), or an access or an operation that fails without a
//! cause, or does not terminate. `FAULTIN_EXPLORE_OPERATIONS` and `FAULTIN_EXPLORE_ACTIONS` make the exploration longer.

mod model;
mod store;
mod table;
mod view;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::Write;
use std::ops::ControlFlow::{Break, Continue};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) use super::bug::Bug;
pub(super) use super::step::Step;
pub(super) use table::PageTable;

use super::Mode;
use crate::mutation;
use faultin::map::Rights;
use faultin_test::parallel;
use world::{Action, IN_SIGNAL, Op, World};

/// The configuration of an exploration.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The mappings.
    modes: &'static [Mode],
    /// Maximum number of pages of a folio.
    folio: usize,
    /// The access rights of the mappings.
    protection: Rights,
    /// Number of operations in a row.
    operations: usize,
    /// Maximum number of actions of other threads in each of them.
    actions: usize,
    /// Whether the CPU reports if an instruction that has faulted was a load or a store.
    says_access: bool,
    /// Whether faults of users' instructions are resolved as by the signal handler, which reads the store's descriptor
    /// itself.
    in_signals: bool,
    /// Whether the kernel may deny changes of page tables.
    refusals: bool,
    /// Whether a possible error is already a finding: a page is accessible whose folio is not valid, or is writable and
    /// clean.
    invariants: bool,
    /// A bug of the loops of reads and writes.
    loops: Option<mutation::Bug>,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { modes, folio, operations, actions, .. } = self;
        let said = [
            (true, if self.in_signals { "served in signals" } else { "served by calls" }),
            (self.refusals, "the kernel may refuse"),
            (self.protection == Rights::Read, "for reading"),
            (!self.says_access, "the CPU does not say what an access was"),
        ];
        write!(f, "{modes:?}, ")?;
        for (_, what) in said.iter().filter(|(is_so, _)| *is_so) {
            write!(f, "{what}, ")?;
        }
        write!(f, "folios of up to {folio} pages, {operations} operations, {actions} actions in each")
    }
}

const SIGNAL: &[Mode] = &[Mode::Signal];
const THREAD: &[Mode] = &[Mode::Thread];
const MPROTECT: &[Mode] = &[Mode::Mprotect];
const BOTH: &[Mode] = &[Mode::Signal, Mode::Mprotect];

/// One operation on a file with one mapping, without other threads.
const PLAIN: Config = Config {
    modes: SIGNAL,
    folio: 1,
    protection: Rights::ReadWrite,
    operations: 1,
    actions: 0,
    says_access: true,
    in_signals: false,
    refusals: false,
    invariants: false,
    loops: None,
};

/// Mappings for reading, on a machine that does not report the kind of access.
const FOR_READING: Config = Config { modes: MPROTECT, protection: Rights::Read, says_access: false, ..PLAIN };

/// The kind of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A store was lost, or a byte is stale.
    Wrong {
        pos: u64,
        value: u8,
        may: String,
        by: &'static str,
    },
    NotUpToDate {
        map: usize,
        page: usize,
    },
    StoreUnnoticed {
        map: usize,
        page: usize,
    },
    StateIsWrong {
        map: usize,
        page: usize,
    },
    PastEnd {
        page: usize,
    },
    /// An access is repeated although no other thread has acted in between.
    Endless {
        page: usize,
    },
    Fails(String),
}

/// An operation, and the actions of other threads at moments of it.
type Scripted = (Op, Vec<(usize, Action)>);

/// A finding, and the path to it.
#[derive(Clone, Debug)]
struct Finding {
    found: Found,
    path: Vec<Scripted>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.found)?;
        for (op, script) in &self.path {
            writeln!(f, "  {op:?}")?;
            for (moment, action) in script {
                writeln!(f, "    at moment {moment}: {action:?}")?;
            }
        }
        Ok(())
    }
}

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Returns whether a bug is switched on in this thread.
pub(crate) fn has(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// Reports a step to this thread's world, if there is one.
pub(crate) fn step(step: Step) {
    let world = WORLD.with_borrow(Option::clone);
    if let Some(world) = world {
        world.step(step);
    }
}

/// Returns a world in which a path was followed.
fn replay(config: &'static Config, path: &[Scripted]) -> Rc<World> {
    // The last one is dropped when its steps are no longer reported.
    drop(WORLD.take());
    let world = World::new(config);
    WORLD.set(Some(Rc::clone(&world)));
    for (op, script) in path {
        world.repeat(*op, script);
    }
    world
}

/// The states that were seen.
#[derive(Debug, Default)]
struct Seen {
    states: usize,
    scripts: u64,
    finding: Option<Finding>,
}

/// Tries everything, until there is a finding.
fn explore(config: Config, bug: Option<Bug>) -> Seen {
    // Scripts refer to it from everywhere, and there are few of them.
    let config: &'static Config = Box::leak(Box::new(config));
    let states = Mutex::new(HashSet::new());
    let scripts = AtomicU64::new(0);
    let mut paths: Vec<Vec<Scripted>> = vec![Vec::new()];
    let mut finding = None;
    for _ in 0..config.operations {
        let new = Mutex::new(Vec::new());
        finding = parallel::until_found(&paths, |path| {
            BUG.set(bug);
            let found = go_on(config, path, &states, &scripts, &new);
            drop(WORLD.take());
            found.map_or(Continue(()), Break)
        });
        paths = new.into_inner().unwrap();
        if finding.is_some() {
            break;
        }
    }
    Seen { states: states.into_inner().unwrap().len(), scripts: scripts.into_inner(), finding }
}

/// Tries every operation from a state on, with every script.
fn go_on(
    config: &'static Config,
    path: &[Scripted],
    states: &Mutex<HashSet<u64>>,
    scripts: &AtomicU64,
    new: &Mutex<Vec<Vec<Scripted>>>,
) -> Option<Finding> {
    let ops = replay(config, path).operations();
    for op in ops {
        let mut moments = HashSet::new();
        let mut todo = VecDeque::from([Vec::new()]);
        // Shorter ones first: the results of a moment are explored with as many actions left as possible.
        while let Some(script) = todo.pop_front() {
            scripts.fetch_add(1, Relaxed);
            let world = replay(config, path);
            world.perform(op, &script);
            for moment in world.moments_left() {
                if moments.insert(moment.state) {
                    todo.extend(moment.could.into_iter().map(|action| {
                        let mut longer = script.clone();
                        longer.push((moment.number, action));
                        longer
                    }));
                }
            }
            let is_new = world.found().is_none() && states.lock().unwrap().insert(world.state());
            let mut longer = path.to_vec();
            longer.push((op, script));
            let mut found = world.found();
            if is_new {
                world.settle();
                found = world.found().or_else(|| {
                    let again = replay(config, &longer);
                    again.grow();
                    again.found()
                });
            }
            if let Some(found) = found {
                return Some(Finding { found, path: longer });
            }
            if is_new {
                new.lock().unwrap().push(longer);
            }
        }
    }
    None
}

fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

#[test]
fn the_pager_has_no_finding() {
    let longer = (variable("FAULTIN_EXPLORE_OPERATIONS"), variable("FAULTIN_EXPLORE_ACTIONS"));
    let mut total = (0, 0);
    for config in [
        Config { folio: 1, actions: 3, ..PLAIN },
        Config { folio: 2, operations: 2, actions: 1, ..PLAIN },
        Config { modes: THREAD, folio: 2, actions: 2, ..PLAIN },
        Config { modes: MPROTECT, folio: 2, actions: 2, ..PLAIN },
        Config { modes: BOTH, folio: 2, actions: 2, ..PLAIN },
        Config { in_signals: true, folio: 2, operations: 2, actions: 1, ..PLAIN },
        Config { in_signals: true, modes: BOTH, folio: 2, actions: 2, ..PLAIN },
        Config { in_signals: true, refusals: true, folio: 2, actions: 2, ..PLAIN },
        Config { refusals: true, modes: THREAD, folio: 2, actions: 2, ..PLAIN },
        Config { refusals: true, modes: MPROTECT, folio: 2, actions: 3, ..PLAIN },
        Config { says_access: false, in_signals: true, modes: MPROTECT, folio: 2, actions: 2, ..PLAIN },
        Config { in_signals: true, folio: 2, actions: 2, ..FOR_READING },
        Config { folio: 2, actions: 2, ..FOR_READING },
    ] {
        // An emulated machine runs the same steps, but slowly.
        let most = if cfg!(target_arch = "x86_64") { usize::MAX } else { 1 };
        let config = Config {
            operations: longer.0.unwrap_or(config.operations.min(most)),
            actions: longer.1.unwrap_or(config.actions.min(most)),
            invariants: true,
            ..config
        };
        let begin = std::time::Instant::now();
        let seen = explore(config.clone(), None);
        let _ = writeln!(
            std::io::stderr(),
            "{config}: {} states, {} scripts, {:.1?}",
            seen.states,
            seen.scripts,
            begin.elapsed()
        );
        if let Some(finding) = seen.finding {
            panic!("{config}: {finding}");
        }
        total = (total.0 + seen.states, total.1 + seen.scripts);
    }
    let in_signals = IN_SIGNAL.load(Relaxed);
    let _ = writeln!(
        std::io::stderr(),
        "the pager: {} states, {} scripts; {in_signals} faults served in signals",
        total.0,
        total.1
    );
    assert!(in_signals > 0, "the handler's own way was never gone");
}

/// The configuration that finds each bug.
const BUGS: [(Bug, Config); 19] = [
    (Bug::InstallsUnprotected, PLAIN),
    (Bug::ProtectsTooLate, Config { actions: 3, ..PLAIN }),
    (Bug::NeverProtects, Config { actions: 2, ..PLAIN }),
    (Bug::ProtectsOneMapping, Config { modes: BOTH, actions: 2, ..PLAIN }),
    (Bug::UnmapsAfterPunching, Config { modes: MPROTECT, actions: 1, ..PLAIN }),
    (Bug::NeverUnmaps, Config { modes: MPROTECT, actions: 1, ..PLAIN }),
    (Bug::UnmapsOneMapping, Config { modes: BOTH, actions: 2, ..PLAIN }),
    (Bug::TrustsThePageCache, Config { actions: 1, ..PLAIN }),
    (Bug::DirtyTooLate, Config { actions: 3, ..PLAIN }),
    (Bug::ForgetsTheTail, PLAIN),
    (Bug::TrustsTheState, Config { actions: 1, ..PLAIN }),
    (Bug::KeepsPoison, Config { modes: THREAD, actions: 1, ..PLAIN }),
    (Bug::PoisonsOverMarks, Config { modes: THREAD, actions: 2, ..PLAIN }),
    // A store after that, which is lost, would be a fourth action.
    (Bug::PoisonsInBetween, Config { modes: THREAD, actions: 3, invariants: true, ..PLAIN }),
    (Bug::KeepsWhatWasCut, Config { folio: 2, actions: 1, ..PLAIN }),
    (Bug::FailureIsZeros, Config { in_signals: true, actions: 2, ..PLAIN }),
    (Bug::FillsWhatIsThere, Config { in_signals: true, folio: 2, actions: 2, ..PLAIN }),
    (Bug::TakesLoadsForStores, Config { in_signals: true, actions: 1, ..FOR_READING }),
    (Bug::IgnoresRefusals, Config { modes: MPROTECT, refusals: true, actions: 2, ..PLAIN }),
];

/// By effects that users see, with one operation and a few actions of others.
#[test]
fn each_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, config) in BUGS {
        let seen = explore(config, Some(bug));
        let told = seen.finding.as_ref().map_or_else(|| "not found".into(), Finding::to_string);
        let _ = writeln!(std::io::stderr(), "{bug:?}, {} scripts: {}", seen.scripts, told.trim_end());
        if seen.finding.is_none() {
            missed.push(bug);
        }
    }
    assert_eq!(missed, []);
}

/// A write whose buffer is a mapping of its own file, in a loop of the past: a deadlock, and one that does not terminate.
#[test]
fn bugs_of_the_loops_are_found() {
    for (bug, told) in
        [(mutation::Bug::FaultsInUnderTheLock, "Deadlock"), (mutation::Bug::InvalidatesItsSource, "again and again")]
    {
        let finding = explore(Config { loops: Some(bug), ..PLAIN }, None).finding.expect("it is found");
        let _ = writeln!(std::io::stderr(), "{bug:?}: {}", finding.to_string().trim_end());
        assert!(matches!(&finding.found, Found::Fails(how) if how.contains(told)), "{finding}");
    }
}
