//! The buffers of operations: ranges of simulated memory, parts of which are inaccessible.

use faultin::Access;
use faultin_sim::{Action, Geometry, Permission, Script, Sim};

use super::Source;

pub const PAGE: usize = 16;
const GRANULE: usize = 4;
const PAGES: usize = 5;
pub const LEN: usize = PAGES * PAGE;

/// Memory, and the expected accessibility of its bytes: the mapping's rights, and which bytes are lost otherwise.
pub struct Memory {
    pub sim: Sim,
    permissions: Vec<Permission>,
    lost: Vec<bool>,
}

impl Memory {
    pub fn new(source: &mut Source<'_>) -> Memory {
        let sim = Sim::new(Geometry::new(PAGE, GRANULE), PAGES);
        let mut memory = Memory { sim, permissions: vec![Permission::Write; LEN], lost: vec![false; LEN] };
        for _ in 0..source.below(4) {
            memory.spoil(source);
        }
        memory
    }

    /// Makes a part of it inaccessible from now on.
    pub fn spoil(&mut self, source: &mut Source<'_>) {
        let granule = source.below(LEN / GRANULE) * GRANULE;
        let (action, lost) = match source.below(5) {
            0 | 1 => {
                let range = source.range(LEN);
                let permission = source.one_of(&[Permission::Read, Permission::None, Permission::Unmapped]);
                self.permissions[range.clone()].fill(permission);
                (Action::Protect(range, permission), 0..0)
            }
            2 => (Action::Retag(granule..granule + GRANULE, 1), granule..granule + GRANULE),
            3 => (Action::Poison { at: granule, extent: GRANULE }, granule..granule + GRANULE),
            _ => (Action::LoseBacking(granule / PAGE), granule / PAGE * PAGE..(granule / PAGE + 1) * PAGE),
        };
        self.sim.act(action);
        self.lost[lost].fill(true);
    }

    /// Makes all of it accessible again.
    pub fn heal(&mut self) {
        self.sim.act(Action::Heal(0..LEN));
        self.permissions.fill(Permission::Write);
        self.lost.fill(false);
    }

    /// Evicts pages a few times during the next operation.
    pub fn beset(&self, source: &mut Source<'_>) {
        let actions = (0..source.below(5)).map(|_| (source.below(12) as u64, Action::Evict(source.below(PAGES))));
        self.sim.play(actions.collect::<Script>());
    }

    /// Fills it.
    pub fn fill(&self, seed: u8) {
        let mut state = self.sim.state();
        for (index, byte) in state.bytes_mut().iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(7).wrapping_add(seed) | 1;
        }
        self.sim.restore(&state);
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.sim.state().bytes().to_vec()
    }

    /// Whether the byte at `at` is accessible once it is resident.
    pub fn is_good(&self, access: Access, at: usize) -> bool {
        let needed = if access == Access::Read { Permission::Read } else { Permission::Write };
        self.permissions[at] >= needed && !self.lost[at]
    }
}
