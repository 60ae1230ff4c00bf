//! Mappings of cached files: what they show, how their faults are resolved, and where stores go. The results are the same
//! in all modes.

#[path = "../common/mod.rs"]
mod common;

mod coherence;
mod dropping;
mod errors;
mod faults;
mod found;
mod modes;
mod scarce;
mod segments;
mod signals;
mod threads;
