//! Tests that need simulated memory: accesses below the size of a page, residency, the adversary between two steps, and
//! states.

mod adversary;
mod below_the_page;
mod residency;
mod states;

use std::num::NonZeroUsize;

use faultin_sim::{Geometry, Sim, State};

/// Small enough to list every case by hand.
const SMALL: Geometry = Geometry::new(4, 2);

/// A space in which each byte equals its offset.
fn counting(geometry: Geometry, pages: usize) -> Sim {
    let mut state = State::new(geometry, pages);
    state.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    Sim::from_state(state)
}

fn bytes(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("more than nothing")
}
