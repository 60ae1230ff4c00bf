//! Simulated memory of a few small pages, and which of its bytes are accessible.

use std::ops::Range;

use faultin::Access;
use faultin_sim::{Action, Geometry, Permission, Sim};

pub const PAGE: usize = 16;
pub const GRANULE: usize = 4;
pub const PAGES: usize = 4;
pub const LEN: usize = PAGES * PAGE;

/// A defect of a part of the memory.
#[derive(Clone, Debug)]
pub enum Matter {
    Protect(Range<usize>, Permission),
    Retag(usize),
    Poison(usize),
    LoseBacking(usize),
    Evict(usize),
}

/// A space with these defects. Byte `i` is `i + 1`.
pub fn space(matters: &[Matter]) -> Sim {
    let sim = Sim::new(Geometry::new(PAGE, GRANULE), PAGES);
    let mut state = sim.state();
    state.bytes_mut().iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8 + 1);
    sim.restore(&state);
    for matter in matters {
        sim.act(match matter.clone() {
            Matter::Protect(range, permission) => Action::Protect(range, permission),
            Matter::Retag(granule) => Action::Retag(granule * GRANULE..(granule + 1) * GRANULE, 1),
            Matter::Poison(granule) => Action::Poison { at: granule * GRANULE, extent: GRANULE },
            Matter::LoseBacking(page) => Action::LoseBacking(page),
            Matter::Evict(page) => Action::Evict(page),
        });
    }
    sim
}

/// Whether the mapping allows the access.
pub fn is_permitted(matters: &[Matter], access: Access, at: usize) -> bool {
    let protections = matters.iter().filter_map(|matter| match matter {
        Matter::Protect(range, to) if range.contains(&at) => Some(*to),
        _ => None,
    });
    let needed = if access == Access::Read { Permission::Read } else { Permission::Write };
    protections.fold(Permission::Write, |_, last| last) >= needed
}

/// Whether the byte is accessible once its page is resident: derived from the defects, not from the simulation.
pub fn is_good(matters: &[Matter], access: Access, at: usize) -> bool {
    let refused = matters.iter().any(|matter| match matter {
        Matter::Retag(granule) | Matter::Poison(granule) => at / GRANULE == *granule,
        Matter::LoseBacking(page) => at / PAGE == *page,
        Matter::Protect(..) | Matter::Evict(_) => false,
    });
    !refused && is_permitted(matters, access, at)
}

/// Whether an access that may not wait ends at the byte because its page is not resident.
pub fn is_missing(sim: &Sim, at: usize) -> bool {
    !sim.state().is_resident(at / PAGE)
}
