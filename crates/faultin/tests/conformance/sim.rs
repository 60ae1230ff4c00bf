//! Simulated memory, of any geometry.

use faultin_sim::{Action, Geometry, Permission, Sim, SimRead, SimWrite, State};

use super::layout::{Backend, Kind, Memory, pattern};

#[derive(Debug)]
pub struct Simulated(pub Geometry);

impl Backend for Simulated {
    type Memory = Sim;

    fn page_size(&self) -> usize {
        self.0.page_size()
    }

    fn memory(&self, kinds: &[Kind]) -> Sim {
        let mut state = State::new(self.0, kinds.len());
        state.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(at));
        let sim = Sim::from_state(state);
        for (index, kind) in kinds.iter().enumerate() {
            let page = index * self.0.page_size()..(index + 1) * self.0.page_size();
            // Not resident, like a new mapping: every access here may wait.
            sim.act(Action::Evict(index));
            match kind {
                Kind::Good => {}
                Kind::ReadOnly => sim.act(Action::Protect(page, Permission::Read)),
                Kind::NoAccess => sim.act(Action::Protect(page, Permission::None)),
                Kind::Unmapped => sim.act(Action::Protect(page, Permission::Unmapped)),
                Kind::PastEnd => sim.act(Action::LoseBacking(index)),
            }
        }
        sim
    }
}

impl Memory for Sim {
    type Read = SimRead;
    type Write = SimWrite;

    fn read(&self) -> SimRead {
        self.read_range(0..self.len())
    }

    fn write(&self) -> SimWrite {
        self.write_range(0..self.len())
    }

    fn base(&self) -> usize {
        Sim::base(self)
    }

    fn contents(&self) -> Vec<u8> {
        self.state().bytes().to_vec()
    }
}
