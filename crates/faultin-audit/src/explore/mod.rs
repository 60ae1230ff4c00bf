//! Exhaustive exploration: a caller on small simulated memory, with every possible initial fault and every possible action
//! of an adversary between any two of its steps, up to a [`Bound`].
//!
//! # States
//!
//! A run is determined by a *script*: the initial faults, and the adversary's actions after each step. All scripts are
//! tried, shortest first, each as a continuation of a shorter one from the moment of its last action. At that moment the
//! *state* is
//!
//! * what an access depends on (bytes, permissions, tags, poison, residency), and
//! * everything the caller has observed so far: its accesses, the bytes they moved, their faults.
//!
//! A caller is an ordinary function that depends on nothing but its observations, so the second part determines its
//! position in its own code. Two scripts that lead to the same state with the same remaining budget have the same
//! continuations, and only the first is continued. Both parts are kept as hashes of 64 bits.
//!
//! # Invariants
//!
//! Every run ends, in one of the ways of the caller; its count is what was stored, and its product is right; a caller that
//! only reads changes nothing, and one that writes changes nothing outside; no lock is held at the end, and no access waits
//! for a page while one is; and there is no attempt too many: beyond the first, each is justified by a page that was
//! brought in or by the adversary. A [`Violation`] comes with the shortest script that shows it.
//!
//! The search is breadth-first, by the crate `pathfinding`.

#![forbid(unsafe_code)]

mod alphabet;
mod replay;
mod violation;

use std::cell::RefCell;
use std::hash::{Hash, Hasher};

use faultin_sim::{Action, Moment, Sim};
use pathfinding::directed::bfs::bfs_reach;

use crate::axes::{Memory, Variant};
use crate::bug::Bug;
use crate::caller::{Caller, Job};
use crate::user::{Object, Scale};
use replay::Replay;

pub use violation::{Finding, Kind, Violation};

/// The extent of an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Maximum number of initial faults.
    pub faults: usize,
    /// Maximum number of actions of the adversary in a run.
    pub actions: usize,
    /// Number of states after which the search is given up.
    pub states: usize,
}

impl Bound {
    /// The tests' bound: one fault and two actions, or none and three.
    pub const TESTS: Bound = Bound { faults: 1, actions: 2, states: 2_000_000 };
}

/// Its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Number of different initial states.
    pub layouts: usize,
    /// Number of different states at which a script was continued.
    pub states: usize,
    /// Number of scripts, also of those that led to a known state.
    pub scripts: usize,
    /// Number of steps of all runs together.
    pub steps: u64,
    /// Number of steps of the longest run.
    pub longest: u64,
}

/// The result of an exploration.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// Its size.
    pub figures: Figures,
    /// Whether everything within the bound was tried; otherwise [`Bound::states`] were not enough.
    pub exhausted: bool,
    /// One finding of each kind, with the shortest script.
    pub findings: Vec<Finding>,
}

impl Exploration {
    /// Returns the kinds of the findings, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.findings.iter().map(|finding| finding.violation.kind()).collect();
        kinds.sort_unstable();
        kinds
    }
}

/// A script and the state that it leads to; two are equal if the states are.
#[derive(Clone, Debug)]
struct Node {
    world: u64,
    observed: u64,
    budget: usize,
    script: Vec<(u64, Action)>,
    /// Number of the actions that are initial faults.
    faults: usize,
}

impl Node {
    fn key(&self) -> (u64, u64, usize) {
        (self.world, self.observed, self.budget)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Explores a caller within a bound, with a bug of the past if one is given. `progress` is called occasionally.
pub fn explore(
    caller: &Caller,
    job: &dyn Job,
    variant: Variant,
    bound: Bound,
    bug: Option<Bug>,
    mut progress: impl FnMut(&Figures),
) -> Exploration {
    let object = job.object(Memory::Sim, Scale::Small);
    let replay = Replay::new(caller, job, variant, &object, bug);
    let layouts = alphabet::layouts(&object, caller.need, bound.faults);
    let search = RefCell::new((Figures::default(), Vec::<Finding>::new()));
    let start = Node { world: 0, observed: 0, budget: usize::MAX, script: Vec::new(), faults: 0 };
    let successors = |node: &Node| -> Vec<Node> {
        if node == &start {
            return layouts.iter().map(|layout| beginning(&replay, layout, bound)).collect();
        }
        let run = replay.run(&node.script, node.faults);
        let mut search = search.borrow_mut();
        let (figures, findings) = &mut *search;
        figures.steps += run.steps;
        figures.longest = figures.longest.max(run.steps);
        for violation in run.violations {
            if findings.iter().all(|finding| finding.violation.kind() != violation.kind()) {
                let (script, steps) = (node.script.clone(), run.log.clone());
                findings.push(Finding { violation, script, faults: node.faults, steps });
            }
        }
        let next = continuations(node, &run.moments, &object);
        figures.scripts += next.len();
        next
    };
    let mut states = bfs_reach(start.clone(), successors);
    let (mut count, mut layouts_seen) = (0, 0);
    let exhausted = loop {
        let Some(node) = states.next() else { break true };
        if node == start {
            continue;
        }
        count += 1;
        layouts_seen += usize::from(node.script.len() == node.faults && node.budget == bound.actions);
        if count % 1024 == 0 {
            let mut figures = search.borrow().0;
            figures.states = count;
            progress(&figures);
        }
        if count >= bound.states {
            break false;
        }
    };
    drop(states);
    let (mut figures, findings) = search.into_inner();
    figures.scripts += layouts.len();
    (figures.states, figures.layouts) = (count, layouts_seen);
    Exploration { figures, exhausted, findings }
}

/// Makes the node of a layout before the first step.
fn beginning(replay: &Replay<'_>, layout: &[Action], bound: Bound) -> Node {
    let script: Vec<(u64, Action)> = layout.iter().map(|action| (0, action.clone())).collect();
    let user = replay.user();
    layout.iter().for_each(|action| user.sim().act(action.clone()));
    // The total budget: without an initial fault, one action more is allowed.
    let budget = bound.actions + bound.faults - layout.len();
    Node { world: user.sim().digest(), observed: 0, budget, faults: script.len(), script }
}

/// Returns every action at every moment from the last one on.
fn continuations(node: &Node, moments: &[Moment], object: &Object) -> Vec<Node> {
    let mut next = Vec::new();
    if node.budget == 0 {
        return next;
    }
    let begin = node.script.last().map_or(0, |(step, _)| *step);
    let actions = alphabet::actions(object);
    for moment in moments.iter().filter(|moment| moment.step >= begin) {
        let sim = Sim::from_state(moment.state.clone());
        // The moment is before the adversary's turn.
        let turn = node.script.iter().filter(|(step, _)| *step == moment.step);
        turn.for_each(|(_, action)| sim.act(action.clone()));
        let state = sim.state();
        for action in &actions {
            sim.restore(&state);
            sim.act(action.clone());
            let now = sim.state();
            if now != state {
                let script = node.script.iter().cloned().chain([(moment.step, action.clone())]).collect();
                let (world, observed, budget) = (now.digest(), moment.observed, node.budget - 1);
                next.push(Node { world, observed, budget, script, faults: node.faults });
            }
        }
    }
    next
}
