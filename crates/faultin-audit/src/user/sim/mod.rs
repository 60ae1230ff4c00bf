//! Simulated user memory: every scenario on every machine, and an adversary that acts between any two steps.

#![forbid(unsafe_code)]

mod registers;

use std::io;
use std::ops::Range;

use faultin::memory::{ReadNoWait, WriteNoWait};
use faultin::{Access, Cause, Fault};
use faultin_sim::{Action, Geometry, Permission, Script, Sim, SimRead, SimWrite, State};

use super::contract::User;
use super::object::{Object, Scale};
use super::registers::Registers;
use crate::scenario::{Bad, During, Scenario};

pub use registers::SimRegisters;

/// The bytes around an object in its pages, which must not change.
const SURROUNDINGS: u8 = 0xa5;

/// A tag that none of the caller's pointers has.
const OTHER_TAG: u8 = 5;

/// Maximum number of moments of an undisturbed run at which the adversary begins, one after the other.
const MOMENTS: u64 = 48;
/// Number of pages it evicts in a storm: fewer than the fruitless attempts after which a loop gives up.
const EVICTIONS: u64 = 24;
/// Number of steps for which a page stays unmapped.
const HOLDS: [u64; 3] = [1, 3, 9];

/// An object in simulated memory.
#[derive(Clone, Debug)]
pub struct SimUser {
    sim: Sim,
    object: Range<usize>,
    scale: Scale,
}

impl Scale {
    /// Returns the sizes of pages and granules.
    pub const fn geometry(self) -> Geometry {
        match self {
            Scale::Full => Geometry::new(4096, 16),
            Scale::Small => Geometry::new(16, 4),
        }
    }
}

impl SimUser {
    /// Makes memory in this state, with the object at this position.
    pub fn of(state: State, object: Range<usize>, scale: Scale) -> SimUser {
        SimUser { sim: Sim::from_state(state), object, scale }
    }

    /// The space.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Returns the position of the object in the space.
    pub fn range(&self) -> Range<usize> {
        self.object.clone()
    }

    fn page(&self, index: usize) -> Range<usize> {
        let size = self.page_size();
        index * size..(index + 1) * size
    }

    fn pages(&self) -> usize {
        self.sim.len() / self.page_size()
    }

    fn arrange(&self, scenario: Scenario, object: &Object) {
        let (column, start) = (scenario.column(), self.object.start);
        if column.missing {
            self.evict();
        }
        let bad = match column.bad {
            Bad::Nothing => None,
            Bad::Page(index) => Some(Action::Protect(self.page(index), Permission::None)),
            Bad::ForStores => Some(Action::Protect(0..self.sim.len(), Permission::Read)),
            Bad::LastPagePoisoned => {
                let page = self.page((self.object.end - 1) / self.page_size());
                Some(Action::Poison { at: page.start, extent: page.len() })
            }
            Bad::Tail => Some(Action::Retag(start + object.before_tail..self.object.end, OTHER_TAG)),
            Bad::RestartGranule => {
                let at = start + object.restart;
                Some(Action::Retag(at..at + 1, OTHER_TAG))
            }
        };
        bad.into_iter().for_each(|bad| self.sim.act(bad));
        let later = match column.during {
            During::Unmapped => Some(Action::Protect(self.page(1), Permission::Unmapped)),
            During::StoreError => Some(Action::LoseBacking(1)),
            _ => None,
        };
        if let Some(later) = later {
            // The first attempt finds that the first page is missing: that is a step.
            self.sim.play([(1, later)].into_iter().collect());
        }
    }

    /// Returns what an adversary does from step `begin` on: each of its scripts is one run.
    fn scripts(&self, during: During, begin: u64) -> Vec<Script> {
        let pages = self.pages();
        match during {
            // Every page, for a short and for a long while; and then the page after it.
            During::Remapped => {
                let starts = (0..pages).flat_map(|page| HOLDS.map(|hold| (page, hold)));
                let script = |(first, hold): (usize, u64)| {
                    let turns = (first..first + 2).zip(0..).flat_map(|(index, turn)| {
                        let (page, at) = (self.page(index % pages), begin + turn * (hold + 1));
                        let gone = Action::Protect(page.clone(), Permission::None);
                        [(at, gone), (at + hold, Action::Protect(page, Permission::Write))]
                    });
                    turns.collect()
                };
                starts.map(script).collect()
            }
            // Page after page, every step or every few.
            During::EvictedAlways => {
                let evictions = |apart: u64| {
                    let evict = |turn| (begin + turn * apart, Action::Evict(turn as usize % pages));
                    (0..EVICTIONS).map(evict).collect()
                };
                HOLDS.map(evictions).into()
            }
            _ => Vec::new(),
        }
    }
}

impl User for SimUser {
    type Source<'a> = SimRead;
    type Dest<'a> = SimWrite;
    type Registers = SimRegisters;

    fn new(object: &Object, scenario: Scenario, scale: Scale) -> io::Result<SimUser> {
        let geometry = scale.geometry();
        let page_size = geometry.page_size();
        let mut state = State::new(geometry, object.pages(page_size));
        let start = object.start(page_size);
        state.bytes_mut().fill(SURROUNDINGS);
        state.bytes_mut()[start..start + object.len()].copy_from_slice(&object.bytes);
        let user = SimUser::of(state, start..start + object.len(), scale);
        user.arrange(scenario, object);
        Ok(user)
    }

    /// At every moment of an undisturbed run (or at `MOMENTS` of them, evenly).
    fn beside_adversary(
        object: &Object,
        scenario: Scenario,
        scale: Scale,
        mut each: impl FnMut(&SimUser) -> io::Result<bool>,
    ) -> io::Result<()> {
        let undisturbed = SimUser::new(object, scenario, scale)?;
        if !each(&undisturbed)? {
            return Ok(());
        }
        let steps = undisturbed.sim.steps();
        for begin in (0..=steps).step_by(usize::try_from(steps / MOMENTS).unwrap_or(0) + 1) {
            for script in undisturbed.scripts(scenario.column().during, begin) {
                let user = SimUser::new(object, scenario, scale)?;
                user.sim.play(script);
                if !each(&user)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn source(&self) -> io::Result<SimRead> {
        Ok(self.sim.read_range(self.object.clone()))
    }

    fn dest(&self) -> io::Result<SimWrite> {
        Ok(self.sim.write_range(self.object.clone()))
    }

    fn address(&self) -> usize {
        self.sim.base() + self.object.start
    }

    fn scale(&self) -> Scale {
        self.scale
    }

    fn page_size(&self) -> usize {
        self.sim.geometry().page_size()
    }

    fn evict(&self) {
        (0..self.pages()).for_each(|page| self.sim.act(Action::Evict(page)));
    }

    fn waits(&self) -> u64 {
        self.sim.waits()
    }

    fn contents(&self) -> io::Result<Vec<u8>> {
        Ok(self.sim.state().bytes()[self.object.clone()].to_vec())
    }

    fn surroundings_intact(&self) -> io::Result<bool> {
        let state = self.sim.state();
        let (before, rest) = state.bytes().split_at(self.object.start);
        Ok(before.iter().chain(&rest[self.object.len()..]).all(|&byte| byte == SURROUNDINGS))
    }

    fn witness(&self) -> io::Result<SimUser> {
        let user = SimUser::of(self.sim.state(), self.object.clone(), self.scale);
        user.sim.act(Action::Heal(0..user.sim.len()));
        (0..user.pages()).for_each(|page| user.sim.act(Action::MakeResident(page)));
        Ok(user)
    }

    fn save_registers(&self, to: &SimWrite, registers: &SimRegisters) -> Result<(), Fault> {
        for part in registers.stored() {
            to.write_nowait(&registers.image()[part.clone()], part.start).map_err(|short| short.fault)?;
        }
        Ok(())
    }

    fn restore_registers(&self, from: &SimRead) -> Result<SimRegisters, Fault> {
        let frame = SimRegisters::frame(self.scale);
        let mut image = vec![0; frame.size];
        from.read_nowait(&mut image, 0).map_err(|short| short.fault)?;
        let refused = Fault::rejected(Access::Read, Cause::Other, self.address());
        SimRegisters::arrived(image, frame.header).ok_or(refused)
    }
}
