//! `faultin guard` on small programs: each dies without a guard, which is asserted beside it.

#[path = "../common/mod.rs"]
mod common;
mod explain;
mod hostile;
mod kinds;
mod signals;
mod stage;
mod wait;
mod zero;
